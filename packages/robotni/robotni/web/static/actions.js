// Whatever the person does to the queue: asked of the server, said, and looked at again at once.

import { Problem, TokenNeeded, Unreachable, get, post, remove } from "./api.js";
import { jobAddress } from "./address.js";
import { html } from "./html.js";
import { complain, confirms, hush, say } from "./messages.js";
import { refreshSoon } from "./poll.js";
import { plural } from "./text.js";

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
    refreshSoon();
  }
}

export async function startAdd() {
  sayStarted("The sum", (await post("add/", '{"x":5,"y":3}')).task_id);
}

export async function startFakeJob() {
  sayStarted("The fake job", (await post("fakejob/")).task_id);
}

function sayStarted(what, jobId) {
  say(`${what} is in the queue.`, html`<a href=${jobAddress(jobId)}>Show it</a>`);
}

export async function cancel(jobId) {
  const job = await remove(`api/worker/jobs/${jobId}`);
  say(job.status === "running" ? "Its processes are being ended." : "Cancelled.");
}

/** For what has not started; a job that has meanwhile is left alone. */
export async function revoke(jobId) {
  await remove(`queue/${jobId}`);
  say("Revoked; it will not start.");
}

export async function retry(jobId) {
  const job = await post(`api/worker/jobs/${jobId}/retry`);
  location.hash = jobAddress(job.jobId);
  say("This is the new job.");
}

export async function cancelMany(jobs) {
  const them = plural(jobs.length, "job");
  if (!(await confirms(`Cancel ${them}? What runs is ended.`, "Cancel them"))) return false;
  await each(jobs, (job) => remove(`api/worker/jobs/${job.jobId}`), "cancelled");
  return true;
}

export async function retryMany(jobs) {
  const them = plural(jobs.length, "job");
  if (!(await confirms(`Submit ${them} again?`, "Submit again"))) return false;
  await each(jobs, (job) => post(`api/worker/jobs/${job.jobId}/retry`), "submitted again");
  return true;
}

/** One after another; what the server refuses does not stop the others, and is said at the end. */
async function each(jobs, request, done) {
  const refusals = [];
  for (const job of jobs) {
    try {
      await request(job);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      refusals.push(error.message);
    }
  }
  const sentence = `${plural(jobs.length - refusals.length, "job")} ${done}`;
  if (refusals.length === 0) say(`${sentence}.`);
  else complain(`${sentence}; ${refusals.length} refused: ${refusals[0]}`);
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
