// The output on the page: text in chunks, so that the browser lays out only what is in sight, and
// ten mebibytes do not block it.

import { elementOf } from "./ansi.js";
import { Lines } from "./lines.js";

const CHUNK = 32 * 1024; // characters
export const MAX_CHARACTERS = 32 << 20; // of more, the end is kept
const MAX_MATCHES = 10_000;
const LINE_HEIGHT = 1.5; // em

export class Log {
  isTruncated = false;
  #pre;
  #chunks = [];
  #length = 0;
  #lines = new Lines();
  #last = new Chunk(); // the last line, drawn anew while it is not complete

  constructor(pre) {
    this.#pre = pre;
    pre.replaceChildren();
    CSS.highlights?.clear();
  }

  append(text, isEnd = false) {
    this.#last.element.remove();
    for (const run of this.#lines.runs(text, isEnd)) {
      for (let from = 0; from < run.text.length; ) from += this.#appendRun(run, from);
    }
    this.#chunks.at(-1)?.measure();
    this.#last.clear();
    for (const run of this.#lines.last()) this.#last.append(run.text, run.format);
    if (this.#last.text !== "") this.#pre.append(this.#last.element);
    while (this.#length > MAX_CHARACTERS && this.#chunks.length > 1) {
      this.#length -= this.#chunks[0].text.length;
      this.#chunks.shift().element.remove();
      this.isTruncated = true;
    }
  }

  /** Appends as much of a run as the last chunk has room for, and returns how much. Chunks end with
   * a line. */
  #appendRun({ text, format }, from) {
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.isFull) {
      chunk?.measure();
      chunk = new Chunk();
      this.#chunks.push(chunk);
      this.#pre.append(chunk.element);
    }
    const room = CHUNK - chunk.text.length;
    let end = from + room;
    if (end < text.length) {
      const line = text.lastIndexOf("\n", end - 1) + 1;
      if (line > from) end = line;
      chunk.isFull = true;
    }
    const part = text.slice(from, end);
    chunk.append(part, format);
    this.#length += part.length;
    if (chunk.text.length >= CHUNK) chunk.isFull = true;
    return part.length;
  }

  get text() {
    return [...this.#chunks, this.#last].map((chunk) => chunk.text).join("");
  }

  get isEmpty() {
    return this.#length === 0 && this.#last.text === "";
  }

  /** The first 10,000 places where `words` are, upper or lower case. */
  find(words) {
    const pattern = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi");
    const places = [];
    if (words === "") return places;
    for (const chunk of [...this.#chunks, this.#last]) {
      for (const { index } of chunk.text.matchAll(pattern)) {
        places.push({ chunk, start: index, end: index + words.length });
        if (places.length === MAX_MATCHES) return places;
      }
    }
    return places;
  }

  /** Scrolls to `place` and highlights it, and other matches near it. */
  async show(place, places) {
    place.chunk.element.scrollIntoView({ block: "nearest" });
    await new Promise(requestAnimationFrame); // until then what was out of sight has no layout
    const near = places.filter(({ chunk }) => chunk === place.chunk);
    if (CSS.highlights) {
      CSS.highlights.set("found", new Highlight(...near.map(rangeOf)));
      CSS.highlights.set("current", new Highlight(rangeOf(place)));
    }
    const box = rangeOf(place).getBoundingClientRect();
    const frame = this.#pre.getBoundingClientRect();
    this.#pre.scrollTop += box.top - frame.top - frame.height / 2;
  }

  removeHighlights() {
    CSS.highlights?.clear();
  }
}

class Chunk {
  text = "";
  isFull = false;

  constructor() {
    this.element = document.createElement("div");
    this.element.className = "chunk";
  }

  clear() {
    this.text = "";
    this.element.replaceChildren();
  }

  append(text, format) {
    this.text += text;
    this.element.append(elementOf({ text, format }));
  }

  /** Tells the browser about how high it will be, so that the scroll bar is right from the start. */
  measure() {
    const lines = this.text.split("\n").length - (this.text.endsWith("\n") ? 1 : 0);
    this.element.style.containIntrinsicSize = `auto ${lines * LINE_HEIGHT}em`;
  }
}

function rangeOf({ chunk, start, end }) {
  const range = new Range();
  const walker = document.createTreeWalker(chunk.element, NodeFilter.SHOW_TEXT);
  let at = 0;
  let isStarted = false;
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!isStarted && start < at + node.length) {
      range.setStart(node, start - at);
      isStarted = true;
    }
    if (end <= at + node.length) {
      range.setEnd(node, end - at);
      break;
    }
    at += node.length;
  }
  return range;
}
