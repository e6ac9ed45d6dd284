// What feeds the output of one attempt into the page: only the bytes that are new are fetched.

import { partFrom } from "./api.js";
import { KEPT, Log } from "./log.js";
import { isOver } from "./parts.js";
import { Shared } from "./shared.js";

const AT_ONCE = 256 * 1024; // bytes that are drawn before the page may do something else

export class Feed {
  /** What is known of the output: a sentence or two. */
  note = new Shared("");
  follows = new Shared(true);
  log = null;
  #pre = document.createElement("pre");
  #of = "";
  #pulling = null;

  constructor() {
    this.#pre.id = "output";
    this.#pre.className = "output";
    this.#pre.tabIndex = 0;
    this.#pre.role = "region";
    this.#pre.ariaLabel = "What the script wrote";
    this.#letGoOnScroll();
  }

  get element() {
    return this.#pre;
  }

  /** Fetches and draws what came since the last time. */
  pull(job, attempt) {
    this.#pulling ??= this.#pull(job, attempt).finally(() => (this.#pulling = null));
    return this.#pulling;
  }

  async #pull(job, attempt) {
    const run = `${job.jobId}/${attempt}`;
    const isEnded = isOver(job) || attempt < job.attempt;
    if (run !== this.#of) this.#begin(run);
    const isLatest = attempt === job.attempt;
    const isMissing = attempt > 0 && !this.hasAll && !(isLatest && job.outputBytes <= this.offset);
    if (isMissing) {
      if (this.offset === 0 && isLatest) this.#skip(job.outputBytes - KEPT);
      await this.#fetch(run, this.#path(job, attempt));
    }
    if (run !== this.#of) return;
    if (isEnded) this.#finish();
    this.#describe(job, isLatest, isEnded);
  }

  /** Part by part: none spans what was left out. */
  async #fetch(run, path) {
    let part;
    do {
      part = await partFrom(path, this.offset);
      if (run !== this.#of) return;
      if (part.start > this.offset) this.#leaveOut(part.start - this.offset);
      this.offset = part.start;
      await this.#draw(run, part.bytes);
    } while (run === this.#of && this.offset < part.size);
  }

  #leaveOut(count) {
    if (this.offset === this.skipped) this.skipped += count; // only the end is shown anyway
    else this.log.append(`${this.decoder.decode()}\n[${count} bytes of output are left out here]\n`);
  }

  #path({ jobId }, attempt) {
    return `api/worker/jobs/${jobId}/output?attempt=${attempt}`;
  }

  #begin(run) {
    this.#of = run;
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.log = new Log(this.#pre);
    this.offset = this.skipped = 0;
    this.hasAll = false;
  }

  #skip(bytes) {
    if (bytes > 0) this.offset = this.skipped = bytes;
  }

  async #draw(run, bytes) {
    for (let from = 0; from < bytes.length; from += AT_ONCE) {
      if (from > 0) await new Promise((resolve) => setTimeout(resolve));
      if (run !== this.#of) return;
      const part = bytes.subarray(from, from + AT_ONCE);
      this.offset += part.length;
      this.log.append(this.decoder.decode(part, { stream: true }));
      this.toEnd();
    }
  }

  #finish() {
    if (this.hasAll) return;
    this.hasAll = true;
    this.log.append(this.decoder.decode(), true);
    this.toEnd();
  }

  #describe(job, isLatest, isEnded) {
    const notes = [];
    if (this.log.isEmpty) notes.push(isEnded ? "The script wrote nothing." : "Nothing yet.");
    if (this.log.hasCut || this.skipped > 0) notes.push("Only the end is shown; the download has all that was kept.");
    if (isLatest && isEnded && this.offset < job.outputBytes) {
      notes.push(`The last ${job.outputBytes - this.offset} bytes were not kept.`);
    }
    this.note.value = notes.join(" ");
  }

  /** To the last line, where that is wanted. */
  toEnd() {
    if (!this.follows.value) return;
    const jump = () => {
      if (this.follows.value) this.#pre.scrollTop = this.#pre.scrollHeight;
    };
    jump();
    requestAnimationFrame(jump); // what comes into sight may turn out higher than was thought
  }

  /** Who scrolls up wants to read on there; who scrolls to the end wants to follow. */
  #letGoOnScroll() {
    let touched = -Infinity;
    const touch = () => (touched = performance.now());
    for (const name of ["wheel", "touchmove", "keydown", "pointerdown", "pointermove"]) {
      this.#pre.addEventListener(name, touch, { passive: true });
    }
    this.#pre.addEventListener("scroll", () => {
      if (performance.now() - touched > 1000) return;
      const { scrollTop, clientHeight, scrollHeight } = this.#pre;
      this.follows.value = scrollTop + clientHeight >= scrollHeight - 10;
    });
  }
}
