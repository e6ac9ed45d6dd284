// The button that switches between light and dark. Charts are drawn anew, since a canvas does not
// follow the style sheet.

import { html } from "./html.js";
import { Shared } from "./shared.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

/** Whether the page is dark now. */
export const dark = new Shared(isDark());
DARK.addEventListener("change", () => {
  dark.value = isDark();
});

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : DARK.matches;
}

function toggle() {
  const theme = isDark() ? "light" : "dark";
  if ((theme === "dark") === DARK.matches) {
    localStorage.removeItem("robotni-theme"); // the same as the system's: follow that again
    delete root.dataset.theme;
  } else {
    localStorage.setItem("robotni-theme", theme);
    root.dataset.theme = theme;
  }
  dark.value = isDark();
}

export function ThemeButton() {
  const next = dark.use() ? "Light" : "Dark";
  return html`<button type="button" class="link" onClick=${toggle}>${next}</button>`;
}
