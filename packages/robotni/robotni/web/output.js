// The output of a job's last attempt: only what is new is fetched, only its end is kept.

import { bytesFrom } from "./api.js";
import { byId, visible } from "./html.js";

const SHOWN = 1 << 20; // characters; more would make the page slow

let decoder, shown, offset, hasCut, hasEnded;
let of = "";

/** Fetches what came since the last time; the function it gives appends it. */
export async function loadOutput(job, isOver) {
  const run = `${job.jobId}/${job.attempt}`;
  const start = run === of ? offset : 0;
  const isMissing = job.attempt > 0 && job.outputBytes > start && !(run === of && hasEnded);
  const path = `api/worker/jobs/${job.jobId}/output?attempt=${job.attempt}`;
  const bytes = isMissing ? await bytesFrom(path, start) : new Uint8Array();
  return () => {
    if (run !== of) begin(run);
    append(bytes);
    hasEnded ||= isOver && isMissing;
    describe(job, isOver);
  };
}

function begin(run) {
  of = run;
  decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  shown = offset = 0;
  hasCut = hasEnded = false;
  byId("output").replaceChildren();
}

function append(bytes) {
  if (bytes.length === 0) return;
  offset += bytes.length;
  let text = decoder.decode(bytes, { stream: true });
  if (text.length > SHOWN) {
    text = text.slice(-SHOWN);
    hasCut = true;
  }
  const pre = byId("output");
  const isAtEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 5;
  const node = document.createTextNode(visible(text));
  pre.append(node);
  shown += node.length;
  while (shown > SHOWN && pre.firstChild !== node) {
    shown -= pre.firstChild.length;
    pre.firstChild.remove();
    hasCut = true;
  }
  if (isAtEnd) pre.scrollTop = pre.scrollHeight;
}

function describe(job, isOver) {
  const notes = [];
  if (offset === 0) notes.push(isOver ? "The script wrote nothing." : "Nothing yet.");
  if (hasCut) notes.push("Only the end is shown here.");
  if (isOver && offset > 0 && offset < job.outputBytes) {
    notes.push(`The first ${offset} of ${job.outputBytes} bytes were kept.`);
  }
  byId("output-note").textContent = notes.join(" ");
}
