// Small parts that several views show.

import { act } from "./actions.js";
import { jobAddress } from "./address.js";
import { copy } from "./clipboard.js";
import { html } from "./html.js";
import { say } from "./messages.js";
import { now } from "./poll.js";
import { exact, relative } from "./text.js";

/** A state with its colour; the word is always there too. */
export function Badge({ state }) {
  return html`<span class="badge ${state}">${state}</span>`;
}

/** A time told from now; the exact one, in the viewer's zone, is its title. */
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

/** A button that runs `action`; what the server refuses is said. */
export function Action({ action, kind = "quiet", refused, ...rest }) {
  const onClick = (event) => act(event.currentTarget, action, refused);
  return html`<button type="button" class=${kind} onClick=${onClick} ...${rest} />`;
}

/** Copies what `text` gives, if it gives anything. */
export function CopyButton({ text, what, label = "Copy" }) {
  const onClick = async () => {
    const copied = text();
    if (copied === null) return;
    await copy(copied);
    say(`${what} is copied.`);
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
