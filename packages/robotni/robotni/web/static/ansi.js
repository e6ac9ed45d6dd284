// Colours that a script asked for by escape sequences (SGR). Nothing else that a terminal would
// obey is obeyed here: it is shown as text.

import { visible } from "./text.js";

const SGR = /\x1b\[([\d;:]*)m/g;
/** The beginning of a sequence, or of a line end, whose rest may still come. */
const UNFINISHED = /(?:\x1b(?:\[[\d;:]{0,40})?|\r)$/;
const PLAIN = { classes: [], color: null, ground: null };
const NAMED = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };
const LEVELS = [0, 95, 135, 175, 215, 255];

/** Text as it comes, into runs of one look each. */
export class Painter {
  #rest = "";
  #look = PLAIN;

  /** The runs of `text`, `{text, look}`; with `isEnd` nothing is held back. */
  *runs(text, isEnd = false) {
    let all = this.#rest + text;
    const held = isEnd ? null : all.match(UNFINISHED);
    this.#rest = held === null ? "" : held[0];
    if (held !== null) all = all.slice(0, held.index);
    let from = 0;
    for (const match of all.matchAll(SGR)) {
      if (match.index > from) yield { text: visible(all.slice(from, match.index)), look: this.#look };
      this.#look = changed(this.#look, match[1]);
      from = match.index + match[0].length;
    }
    if (from < all.length) yield { text: visible(all.slice(from)), look: this.#look };
  }
}

/** An element for a run, or mere text where nothing is special. Colours beyond the sixteen with a
 * name go by the style object, which the page's policy allows where it forbids the attribute. */
export function painted({ text, look }) {
  const node = document.createTextNode(text);
  if (look === PLAIN) return node;
  const span = document.createElement("span");
  span.className = look.classes.join(" ");
  if (look.color?.startsWith("#")) span.style.color = look.color;
  else if (look.color) span.classList.add(`fg-${look.color}`);
  if (look.ground?.startsWith("#")) span.style.backgroundColor = look.ground;
  else if (look.ground) span.classList.add(`bg-${look.ground}`);
  span.append(node);
  return span;
}

function changed(before, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let look = before;
  while (codes.length > 0) look = step(look, codes.shift(), codes);
  const isPlain = look.classes.length === 0 && look.color === null && look.ground === null;
  return isPlain ? PLAIN : look;
}

function step(look, code, rest) {
  if (code === 0) return PLAIN;
  if (NAMED[code]) return { ...look, classes: [...new Set([...look.classes, NAMED[code]])] };
  if (ENDS[code]) return { ...look, classes: look.classes.filter((one) => !ENDS[code].includes(one)) };
  if (code === 39) return { ...look, color: null };
  if (code === 49) return { ...look, ground: null };
  const found = colorOf(code, rest);
  if (found === undefined) return look;
  const isGround = (code >= 40 && code < 50) || code >= 100;
  return isGround ? { ...look, ground: found } : { ...look, color: found };
}

/** A number from 0 to 15 as text, or `#rrggbb`; undefined for what is no colour. */
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
