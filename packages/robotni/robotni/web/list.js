// The list of jobs, newest first. A row stays the same element while its job is shown, so that
// focus and selection outlive a poll.

import { get } from "./api.js";
import { badge, byId, element, jobLink, moment, progressBar } from "./html.js";

const PAGE = 50;
const AT_ONCE = 200; // the most the server gives for one request
const rows = new Map();
let wanted = PAGE;

export function loadMore() {
  wanted += PAGE;
}

/** Asks for as many jobs as are shown; the function it gives draws them. */
export async function loadList() {
  const jobs = [];
  let cursor = null;
  do {
    const from = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const limit = Math.min(AT_ONCE, wanted - jobs.length);
    const page = await get(`api/worker/jobs?limit=${limit}${from}`);
    jobs.push(...page.jobs);
    cursor = page.nextCursor;
  } while (cursor !== null && jobs.length < wanted);
  return () => draw(jobs, cursor !== null);
}

function draw(jobs, hasMore) {
  const body = byId("jobs");
  let place = body.firstElementChild;
  for (const job of jobs) {
    const row = rows.get(job.jobId) ?? newRow(job);
    fill(row, job);
    if (row === place) place = row.nextElementSibling;
    else body.insertBefore(row, place);
  }
  const shown = new Set(jobs.map((job) => job.jobId));
  for (const [jobId, row] of rows) {
    if (shown.has(jobId)) continue;
    row.remove();
    rows.delete(jobId);
  }
  byId("more").hidden = !hasMore;
  byId("no-jobs").hidden = jobs.length > 0;
}

function newRow(job) {
  const contents = {
    state: "",
    name: jobLink(job.jobId, nameOf(job)),
    project: job.project,
    created: moment(job.timestamp),
    attempt: "",
    how: "",
  };
  const cells = Object.entries(contents).map(([className, content]) =>
    element("td", { className, role: "cell" }, content),
  );
  const row = element("tr", { role: "row" }, ...cells);
  rows.set(job.jobId, row);
  return row;
}

/** Only what changes in the life of a job. */
function fill(row, job) {
  const [state, , , , attempt, how] = row.cells;
  state.replaceChildren(badge(job.status));
  attempt.replaceChildren(`${job.attempt} of ${job.maxAttempts}`);
  how.replaceChildren(progressOf(job));
}

function progressOf(job) {
  if (job.error !== null) return element("span", { title: job.error.message }, job.error.code);
  if (job.status === "running" && job.cancelRequestedAt !== null) return "being cancelled";
  return job.progress === null ? "" : progressBar(job.progress);
}

/** The file's or module's name; the type for jobs that have neither. */
export function nameOf(job) {
  if (job.type !== "python-script") return job.type;
  return job.script === null ? job.module : job.script.split("/").pop();
}
