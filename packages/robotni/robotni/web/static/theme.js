// The theme the person chose earlier, set before anything is drawn; none: the system's.

const theme = localStorage.getItem("robotni-theme");
if (theme !== null) document.documentElement.dataset.theme = theme;
