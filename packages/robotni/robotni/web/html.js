// Elements out of data that others wrote: text goes in as text only, and nothing in it is hidden.

const HIDDEN =
  // Controls but tab and newline; controls of the writing direction.
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** `text` with every control that could recolour, reorder or hide it shown as a symbol. */
export function visible(text) {
  return String(text).replace(/\r\n?/g, "\n").replace(HIDDEN, symbol);
}

function symbol(character) {
  if (character === "\x1b") return "⟨ESC⟩";
  return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

export const byId = (id) => document.getElementById(id);

/** An element with properties; children are elements or text. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return node;
}

/** Gives `node` other children; alike ones are not put in, for a reader would say them again. */
export function put(node, ...children) {
  const fresh = element("div", {}, ...children);
  if (fresh.textContent !== node.textContent) node.replaceChildren(...fresh.childNodes);
}

export function jobLink(jobId, ...children) {
  return element("a", { href: `#/jobs/${encodeURIComponent(jobId)}` }, ...children);
}

/** A state with its colour; the word is always there too. */
export function badge(state) {
  return element("span", { className: `badge ${state}` }, state);
}

/** A time in the viewer's zone: of today without the date. The full one is its title. */
export function moment(iso) {
  const when = new Date(iso);
  const today = when.toDateString() === new Date().toDateString();
  const text = today ? when.toLocaleTimeString() : when.toLocaleString();
  return element("time", { dateTime: iso, title: `${when.toLocaleString()} (${iso})` }, text);
}

export function progressBar(progress) {
  const text = `${+progress.percent.toFixed(1)} % ${progress.message}`.trim();
  const bar = element("progress", { max: 100, value: progress.percent, ariaLabel: "Progress" });
  return element("span", { className: "progress" }, bar, element("span", {}, text));
}

/** `0.2 s`, `2 min 5 s`, `3 h`. */
export function duration(seconds) {
  if (seconds < 10) return `${+seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 3600), "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  return parts.flatMap(([count, unit]) => (count > 0 ? [`${count} ${unit}`] : [])).join(" ");
}
