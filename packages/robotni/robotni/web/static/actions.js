// What the user does to jobs and the queue: a request, a notice, and a new look at the list.

import { Problem, TokenNeeded, Unreachable, get, post, remove } from "./api.js";
import { jobAddress } from "./address.js";
import { html } from "./html.js";
import { confirmed, hideNotice, showError, showNotice } from "./messages.js";
import { refreshSoon } from "./poll.js";
import { plural } from "./text.js";

/** Runs `action` and polls soon after. A second press meanwhile does nothing. */
export async function run(button, action, onProblem = (problem) => showError(problem.message)) {
  if (button.ariaBusy === "true") return;
  hideNotice();
  button.ariaBusy = "true"; // not disabled: that would lose the focus
  try {
    await action();
  } catch (error) {
    if (error instanceof Problem) onProblem(error);
    else if (error instanceof Unreachable) showError("The server is not reachable; try again.");
    else if (!(error instanceof TokenNeeded)) throw error;
  } finally {
    button.ariaBusy = "false";
    refreshSoon();
  }
}

export async function startAdd() {
  showStarted("The sum", (await post("add/", '{"x":5,"y":3}')).task_id);
}

export async function startFakeJob() {
  showStarted("The fake job", (await post("fakejob/")).task_id);
}

function showStarted(name, jobId) {
  showNotice(`${name} is in the queue.`, html`<a href=${jobAddress(jobId)}>Show it</a>`);
}

export async function cancel(jobId) {
  const job = await remove(`api/worker/jobs/${jobId}`);
  showNotice(job.status === "running" ? "Its processes are being stopped." : "Cancelled.");
}

/** For a job that has not started; one that has started meanwhile is not touched. */
export async function revoke(jobId) {
  await remove(`queue/${jobId}`);
  showNotice("Revoked; it will not start.");
}

export async function retry(jobId) {
  const job = await post(`api/worker/jobs/${jobId}/retry`);
  location.hash = jobAddress(job.jobId);
  showNotice("This is the new job.");
}

export async function cancelMany(jobs) {
  const count = plural(jobs.length, "job");
  if (!(await confirmed(`Cancel ${count}? Running scripts are stopped.`, "Cancel them"))) return false;
  await each(jobs, (job) => remove(`api/worker/jobs/${job.jobId}`), "cancelled");
  return true;
}

export async function retryMany(jobs) {
  const count = plural(jobs.length, "job");
  if (!(await confirmed(`Submit ${count} again?`, "Submit again"))) return false;
  await each(jobs, (job) => post(`api/worker/jobs/${job.jobId}/retry`), "submitted again");
  return true;
}

/** One after another; a job that the server refuses does not stop the others. */
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
  if (refusals.length === 0) showNotice(`${sentence}.`);
  else showError(`${sentence}; ${refusals.length} refused: ${refusals[0]}`);
}

/** Cancels all that waits, after the user has seen how many jobs that are. */
export async function flush() {
  const { queue } = await get("api/worker/status");
  const waiting = queue.pending + queue.scheduled;
  if (waiting === 0) {
    showNotice("No job is waiting.");
    return;
  }
  const count = waiting === 1 ? "the 1 waiting job" : `all ${waiting} waiting jobs`;
  const parts = `${queue.pending} pending, ${queue.scheduled} scheduled`;
  if (!(await confirmed(`Cancel ${count} (${parts})? Running jobs go on.`, "Cancel them"))) return;
  const done = await post("queue/flush/");
  showNotice(`Cancelled ${done.pending} pending and ${done.scheduled} scheduled.`);
}
