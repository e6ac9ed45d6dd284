// Whatever the person does to the queue: asked of the server, said, and looked at again at once.

import { Problem, TokenNeeded, Unreachable, get, post, remove } from "./api.js";
import { jobLink } from "./html.js";
import { complain, confirms, hush, say } from "./messages.js";

/** Runs `action` and has the page look again. A second press meanwhile does nothing. */
export async function act(button, action, refused = (problem) => complain(problem.message)) {
  if (button.ariaBusy === "true") return;
  hush();
  button.ariaBusy = "true"; // not disabled: that would lose the focus
  try {
    await action();
  } catch (error) {
    if (error instanceof Problem) refused(error);
    else if (error instanceof Unreachable) complain("The server is not reachable; try again.");
    else if (!(error instanceof TokenNeeded)) throw error;
  } finally {
    button.ariaBusy = "false";
    document.dispatchEvent(new Event("changed"));
  }
}

export function sayStarted(what, jobId) {
  say(`${what} is in the queue.`, jobLink(jobId, "Show it"));
}

export async function cancel(jobId) {
  const job = await remove(`api/worker/jobs/${jobId}`);
  say(job.status === "running" ? "Its processes are being ended." : "Cancelled.");
}

export async function retry(jobId) {
  const job = await post(`api/worker/jobs/${jobId}/retry`);
  location.hash = `#/jobs/${job.jobId}`;
  say("This is the new job.");
}

/** Cancels all that waits, after saying how many that are. */
export async function flush() {
  const { queue } = await get("api/worker/status");
  const waiting = queue.pending + queue.scheduled;
  if (waiting === 0) {
    say("Nothing is waiting.");
    return;
  }
  const them = waiting === 1 ? "the 1 waiting job" : `all ${waiting} waiting jobs`;
  const parts = `${queue.pending} pending, ${queue.scheduled} scheduled`;
  if (!(await confirms(`Cancel ${them} (${parts})? Running jobs go on.`, "Cancel them"))) return;
  const done = await post("queue/flush/");
  say(`Cancelled ${done.pending} pending and ${done.scheduled} scheduled.`);
}
