// The output as the lines that a terminal would show: carriage return, backspace and erase-line are
// obeyed within a line, so a progress bar is one line. Cursor moves are dropped: other lines are
// never changed. Whatever else a terminal would obey is shown as text.

import { PLAIN, changed } from "./ansi.js";
import { visible } from "./text.js";

const CONTROL = /\r|\x08|\x1b\[([0-?]*)([@-~])/g;
/** The beginning of a sequence whose rest may still come. */
const UNFINISHED = /\x1b(?:\[[0-?]{0,40})?$/;
const MOVES = /^(?:[\d;]*[A-Hdfsu]|\?25[hl])$/;
const ERASE = /^([012]?)K$/;
const COLOUR = /^([\d;:]*)m$/;
const LONGEST = 32 * 1024; // characters of a line that can still be changed

export class Lines {
  #rest = "";
  #format = PLAIN;
  #cells = []; // of the last line: {text, format}, one for each character
  #at = 0; // where the next character goes

  /** The runs of the lines that `text` completes, `{text, format}`; with `isEnd` nothing is held
   * back. */
  *runs(text, isEnd = false) {
    let all = this.#rest + text;
    const held = isEnd ? null : all.match(UNFINISHED);
    this.#rest = held === null ? "" : held[0];
    if (held !== null) all = all.slice(0, held.index);
    let from = 0;
    for (const match of all.matchAll(CONTROL)) {
      if (match.index > from) yield* this.#write(all.slice(from, match.index));
      if (!this.#obey(match)) yield* this.#write(match[0]);
      from = match.index + match[0].length;
    }
    if (from < all.length) yield* this.#write(all.slice(from));
  }

  /** The runs of the last line, which is not complete yet. */
  *last() {
    let run = null;
    for (const { text, format } of this.#cells) {
      if (run?.format === format) run.text += text;
      else {
        if (run !== null) yield run;
        run = { text, format };
      }
    }
    if (run !== null) yield run;
  }

  #obey([control, parameters, final]) {
    const sequence = `${parameters}${final}`;
    const colour = sequence.match(COLOUR);
    const erase = sequence.match(ERASE);
    if (control === "\r") this.#at = 0;
    else if (control === "\b") this.#at = Math.max(0, this.#at - 1);
    else if (colour) this.#format = changed(this.#format, colour[1]);
    else if (erase) this.#erase(erase[1]);
    else return MOVES.test(sequence);
    return true;
  }

  #erase(how) {
    const blank = { text: " ", format: PLAIN };
    if (how === "1") this.#cells.fill(blank, 0, this.#at + 1);
    else this.#cells.length = how === "2" ? 0 : Math.min(this.#at, this.#cells.length);
  }

  /** Text without the controls above: its lines end the last one, its rest becomes the last one. */
  *#write(text) {
    const end = text.lastIndexOf("\n") + 1;
    let rest = text.slice(end);
    if (end > 0) {
      const from = this.#at === this.#cells.length ? 0 : text.indexOf("\n");
      this.#put(text.slice(0, from)); // over what stands there
      yield* this.#flush();
      yield { text: visible(text.slice(from, end)), format: this.#format };
    }
    if (this.#cells.length + rest.length > LONGEST) {
      yield* this.#flush();
      yield { text: visible(rest), format: this.#format };
      rest = "";
    }
    this.#put(rest);
  }

  *#flush() {
    yield* this.last();
    this.#cells = [];
    this.#at = 0;
  }

  #put(text) {
    const blank = { text: " ", format: PLAIN };
    while (text !== "" && this.#cells.length < this.#at) this.#cells.push(blank); // erased before
    for (const character of text) {
      const shown = character >= " " && character <= "~" ? character : visible(character);
      this.#cells[this.#at++] = { text: shown, format: this.#format };
    }
  }
}
