// The theme the user chose earlier, set before anything is drawn; without one, the system's.

const theme = localStorage.getItem("robotni-theme");
if (theme !== null) document.documentElement.dataset.theme = theme;
