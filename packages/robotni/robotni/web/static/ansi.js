// The colours and styles that a script sets by escape sequences (SGR).

export const PLAIN = { classes: [], color: null, background: null };
const CLASSES = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const RESETS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };
const LEVELS = [0, 95, 135, 175, 215, 255];

/** An element for a run, or a text node for one without format. Colours beyond the sixteen that
 * have a class are set by the style object: the page's policy forbids the attribute. */
export function elementOf({ text, format }) {
  const node = document.createTextNode(text);
  if (format === PLAIN) return node;
  const span = document.createElement("span");
  span.className = format.classes.join(" ");
  if (format.color?.startsWith("#")) span.style.color = format.color;
  else if (format.color) span.classList.add(`fg-${format.color}`);
  if (format.background?.startsWith("#")) span.style.backgroundColor = format.background;
  else if (format.background) span.classList.add(`bg-${format.background}`);
  span.append(node);
  return span;
}

/** The format after an SGR sequence with `parameters`. */
export function changed(before, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let format = before;
  while (codes.length > 0) format = applied(format, codes.shift(), codes);
  const isPlain = format.classes.length === 0 && format.color === null && format.background === null;
  return isPlain ? PLAIN : format;
}

function applied(format, code, rest) {
  if (code === 0) return PLAIN;
  if (CLASSES[code]) return { ...format, classes: [...new Set([...format.classes, CLASSES[code]])] };
  if (RESETS[code]) return { ...format, classes: format.classes.filter((one) => !RESETS[code].includes(one)) };
  if (code === 39) return { ...format, color: null };
  if (code === 49) return { ...format, background: null };
  const found = colorOf(code, rest);
  if (found === undefined) return format;
  const isBackground = (code >= 40 && code < 50) || code >= 100;
  return isBackground ? { ...format, background: found } : { ...format, color: found };
}

/** A number from 0 to 15 as text, or `#rrggbb`; undefined when the code is not a colour. */
function colorOf(code, rest) {
  if ((code >= 30 && code <= 37) || (code >= 40 && code <= 47)) return String(code % 10);
  if ((code >= 90 && code <= 97) || (code >= 100 && code <= 107)) return String((code % 10) + 8);
  if (code !== 38 && code !== 48) return undefined;
  const kind = rest.shift();
  if (kind === 2) return hex(rest.splice(0, 3));
  return kind === 5 ? ofPalette(rest.shift() ?? 0) : undefined;
}

function ofPalette(index) {
  if (index < 16) return String(index);
  if (index >= 232) return hex(Array(3).fill(8 + (index - 232) * 10));
  const place = index - 16;
  return hex([Math.floor(place / 36), Math.floor(place / 6) % 6, place % 6].map((i) => LEVELS[i]));
}

function hex(parts) {
  const byte = (part) => Math.min(255, part || 0).toString(16).padStart(2, "0");
  return `#${[0, 1, 2].map((place) => byte(parts[place])).join("")}`;
}
