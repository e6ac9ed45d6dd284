// Text for people: control characters made visible, times, durations, sizes.

const HIDDEN =
  // Control characters other than tab and newline; those of the writing direction.
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];

/** `text` with every character that could recolour, reorder or hide it shown as a symbol. */
export function visible(text) {
  return String(text).replace(/\r\n?/g, "\n").replace(HIDDEN, symbol);
}

function symbol(character) {
  if (character === "\x1b") return "⟨ESC⟩";
  return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** `0.2 s`, `2 min 5 s`, `3 h`: at most two units. */
export function duration(seconds) {
  if (seconds < 10) return `${+seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
  }
  return parts.slice(0, 2).join(" ");
}

/** `12 s ago`, `in 3 h`; the date for what is over a week away. */
export function relative(iso, now = Date.now()) {
  const seconds = (now - new Date(iso)) / 1000;
  const away = Math.abs(seconds);
  if (away > 7 * 86400) return new Date(iso).toLocaleDateString();
  if (away < 1) return "now";
  const [unit, size] = UNITS.find(([, size]) => away >= size) ?? ["s", 1];
  const span = `${Math.floor(away / size)} ${unit}`;
  return seconds < 0 ? `in ${span}` : `${span} ago`;
}

/** In the user's time zone, and as the server wrote it. */
export function exact(iso) {
  const format = { dateStyle: "medium", timeStyle: "long" };
  return `${new Date(iso).toLocaleString(undefined, format)} (${iso})`;
}

/** Seconds from one moment to another, or to now. */
export function between(start, end) {
  return Math.max(0, ((end === null ? Date.now() : new Date(end)) - new Date(start)) / 1000);
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
