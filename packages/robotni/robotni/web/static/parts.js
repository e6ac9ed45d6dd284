// Small components that several views show.

import { run } from "./actions.js";
import { jobAddress } from "./address.js";
import { copy } from "./clipboard.js";
import { html } from "./html.js";
import { showNotice } from "./messages.js";
import { now } from "./poll.js";
import { exact, relative } from "./text.js";

/** A state, as a word with its colour. */
export function Badge({ state }) {
  return html`<span class="badge ${state}">${state}</span>`;
}

/** A time relative to now; its title is the exact one, in the user's zone. */
export function Moment({ at }) {
  return html`<time dateTime=${at} title=${exact(at)}>${relative(at, now.use())}</time>`;
}

export function JobLink({ jobId, children }) {
  return html`<a href=${jobAddress(jobId)}>${children}</a>`;
}

export function Progress({ progress }) {
  const text = `${+progress.percent.toFixed(1)} % ${progress.message}`.trim();
  return html`<span class="progress">
    <progress max="100" value=${progress.percent} aria-label="Progress"></progress>
    <span>${text}</span>
  </span>`;
}

/** A button that runs `action`; `onProblem` is called when the server refuses, by default to show it. */
export function Action({ action, kind = "quiet", onProblem, ...rest }) {
  const onClick = (event) => run(event.currentTarget, action, onProblem);
  return html`<button type="button" class=${kind} onClick=${onClick} ...${rest} />`;
}

/** Copies what `text` gives, if it gives anything. */
export function CopyButton({ text, what, label = "Copy" }) {
  const onClick = async () => {
    const copied = text();
    if (copied === null) return;
    await copy(copied);
    showNotice(`${what} is copied.`);
  };
  return html`<button type="button" class="quiet" onClick=${onClick}>${label}</button>`;
}

/** The file's or module's name; the type for jobs that have neither. */
export function nameOf(job) {
  if (job.type !== "python-script") return job.type;
  return job.script === null ? job.module : job.script.split("/").pop();
}

export const TERMINAL = ["completed", "failed", "cancelled"];
export const STATES = ["scheduled", "pending", "running", ...TERMINAL];
export const isOver = (job) => TERMINAL.includes(job.status);
export const isWaiting = (job) => job.status === "scheduled" || job.status === "pending";
