// Loads the output of one attempt into the page: each time only the bytes that are new.

import { partFrom } from "./api.js";
import { MAX_CHARACTERS, Log } from "./log.js";
import { isOver } from "./parts.js";
import { Shared } from "./shared.js";

const DRAW_BYTES = 256 * 1024; // drawn before the page may do something else

export class OutputFeed {
  /** A sentence or two about the output. */
  note = new Shared("");
  follows = new Shared(true);
  log = null;
  #pre = document.createElement("pre");
  #run = "";
  #pulling = null;

  constructor() {
    this.#pre.id = "output";
    this.#pre.className = "output";
    this.#pre.tabIndex = 0;
    this.#pre.role = "region";
    this.#pre.ariaLabel = "Output of the script";
    this.#followByScrolling();
  }

  get element() {
    return this.#pre;
  }

  /** Loads and draws what is new since the last time. */
  pull(job, attempt) {
    this.#pulling ??= this.#pull(job, attempt).finally(() => (this.#pulling = null));
    return this.#pulling;
  }

  async #pull(job, attempt) {
    const run = `${job.jobId}/${attempt}`;
    const isEnded = isOver(job) || attempt < job.attempt;
    if (run !== this.#run) this.#begin(run);
    const isLatest = attempt === job.attempt;
    const isMissing = attempt > 0 && !this.hasAll && !(isLatest && job.outputBytes <= this.offset);
    if (isMissing) {
      if (this.offset === 0 && isLatest) this.#skip(job.outputBytes - MAX_CHARACTERS);
      await this.#fetch(run, this.#path(job, attempt));
    }
    if (run !== this.#run) return;
    if (isEnded) this.#finish();
    this.#describe(job, isLatest, isEnded);
  }

  /** Part by part: none spans what was left out. */
  async #fetch(run, path) {
    let part;
    do {
      part = await partFrom(path, this.offset);
      if (run !== this.#run) return;
      if (part.start > this.offset) this.#leaveOut(part.start - this.offset);
      this.offset = part.start;
      await this.#draw(run, part.bytes);
    } while (run === this.#run && this.offset < part.size);
  }

  #leaveOut(count) {
    if (this.offset === this.skipped) this.skipped += count; // only the end is shown anyway
    else this.log.append(`${this.decoder.decode()}\n[${count} bytes of output are left out here]\n`);
  }

  #path({ jobId }, attempt) {
    return `api/worker/jobs/${jobId}/output?attempt=${attempt}`;
  }

  #begin(run) {
    this.#run = run;
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.log = new Log(this.#pre);
    this.offset = this.skipped = 0;
    this.hasAll = false;
  }

  #skip(bytes) {
    if (bytes > 0) this.offset = this.skipped = bytes;
  }

  async #draw(run, bytes) {
    for (let from = 0; from < bytes.length; from += DRAW_BYTES) {
      if (from > 0) await new Promise((resolve) => setTimeout(resolve));
      if (run !== this.#run) return;
      const part = bytes.subarray(from, from + DRAW_BYTES);
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
    if (this.log.isEmpty) notes.push(isEnded ? "The script wrote nothing." : "No output yet.");
    if (this.log.isTruncated || this.skipped > 0) notes.push("Only the end is shown here; the download has all that was kept.");
    if (isLatest && isEnded && this.offset < job.outputBytes) {
      notes.push(`The last ${job.outputBytes - this.offset} bytes were not kept.`);
    }
    this.note.value = notes.join(" ");
  }

  /** Scrolls to the last line, while following. */
  toEnd() {
    if (!this.follows.value) return;
    const jump = () => {
      if (this.follows.value) this.#pre.scrollTop = this.#pre.scrollHeight;
    };
    jump();
    requestAnimationFrame(jump); // what comes into sight may be higher than estimated
  }

  /** Scrolling up stops following; scrolling to the end starts it. */
  #followByScrolling() {
    let lastInput = -Infinity;
    const noteInput = () => (lastInput = performance.now());
    for (const name of ["wheel", "touchmove", "keydown", "pointerdown", "pointermove"]) {
      this.#pre.addEventListener(name, noteInput, { passive: true });
    }
    this.#pre.addEventListener("scroll", () => {
      if (performance.now() - lastInput > 1000) return;
      const { scrollTop, clientHeight, scrollHeight } = this.#pre;
      this.follows.value = scrollTop + clientHeight >= scrollHeight - 10;
    });
  }
}
