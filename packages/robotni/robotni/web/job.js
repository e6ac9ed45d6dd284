// One job: how it stands, what it wrote, and all that is known of it.

import { Problem, read } from "./api.js";
import {
  badge,
  byId,
  duration,
  element,
  jobLink,
  moment,
  progressBar,
  put,
  visible,
} from "./html.js";
import { member, pretty } from "./json.js";
import { nameOf } from "./list.js";
import { loadOutput } from "./output.js";

const TERMINAL = ["completed", "failed", "cancelled"];
let drawn = "";

/** Asks for a job and for its new output; the function it gives draws both. */
export async function loadJob(jobId) {
  let json;
  try {
    json = await read(`api/worker/jobs/${jobId}`);
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return () => drawMissing(error.message);
    throw error;
  }
  const job = JSON.parse(json);
  const isOver = TERMINAL.includes(job.status);
  const drawOutput = await loadOutput(job, isOver);
  return () => {
    if (json !== drawn) draw(job, json, isOver);
    drawn = json;
    drawOutput();
  };
}

/** Empties the view before another job comes into it. */
export function clearJob() {
  drawn = "";
  byId("job").hidden = byId("job-missing").hidden = true;
  byId("cancel").hidden = byId("retry").hidden = true;
  byId("job-title").textContent = "Job";
}

function drawMissing(message) {
  clearJob();
  byId("job-missing").hidden = false;
  byId("job-missing").textContent = visible(message);
}

function draw(job, json, isOver) {
  const name = visible(nameOf(job));
  document.title = `${job.status} · ${name} · robotni`;
  byId("job-title").textContent = name;
  byId("job").hidden = false;
  byId("job-missing").hidden = true;
  offer(byId("cancel"), !isOver && job.cancelRequestedAt === null);
  offer(byId("retry"), isOver);
  put(byId("job-state"), badge(job.status), sentence(job));
  byId("job-error").hidden = job.error === null;
  byId("job-error").textContent = visible(job.error?.message ?? "");
  byId("job-progress").replaceChildren(...(job.progress ? [progressBar(job.progress)] : []));
  byId("result-section").hidden = job.result === null;
  byId("result").textContent = visible(pretty(member(json, "result")));
  byId("facts").replaceChildren(...facts(job, json));
  byId("attempts-section").hidden = job.attempts.length < 2;
  byId("attempts").replaceChildren(...job.attempts.map(attempt));
}

function offer(button, isOffered) {
  if (!isOffered && document.activeElement === button) byId("job-title").focus();
  button.hidden = !isOffered;
}

function sentence(job) {
  if (job.status === "scheduled") return ` due ${new Date(job.runAt).toLocaleString()}`;
  if (job.status === "running" && job.cancelRequestedAt) return " its processes are being ended";
  if (job.startedAt === null || job.finishedAt === null) return "";
  return ` after ${lasted(job)}`;
}

function lasted({ startedAt, finishedAt }) {
  return duration((new Date(finishedAt) - new Date(startedAt)) / 1000);
}

function facts(job, json) {
  const params = member(json, "params");
  const all = [
    ["Exit code", job.exitCode],
    ["Signal", job.signal],
    ["Created", moment(job.timestamp)],
    ["Due", job.runAt && moment(job.runAt)],
    ["Started", job.startedAt && moment(job.startedAt)],
    ["Finished", job.finishedAt && moment(job.finishedAt)],
    ["Cancel asked", job.cancelRequestedAt && moment(job.cancelRequestedAt)],
    ["Attempt", `${job.attempt} of ${job.maxAttempts}`],
    ["Project", job.project],
    ["Type", job.type],
    ["Script", job.type === "python-script" ? job.script : null],
    ["Module", job.module],
    ["Virtual environment", job.venv],
    ["Arguments", list(job.args)],
    ["Parameters", params === "{}" ? null : element("pre", {}, pretty(params))],
    ["Working folder", job.cwd],
    ["Environment", list(job.env)],
    ["Timeout", duration(job.timeout)],
    ["Expires", job.expires && duration(job.expires)],
    ["Retry of", job.retryOf && jobLink(job.retryOf, job.retryOf)],
    ["Job id", job.jobId],
  ];
  return all
    .filter(([, value]) => value !== null)
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function list(texts) {
  if (texts.length === 0) return null;
  const items = texts.map((text) => element("li", {}, element("code", {}, text)));
  return element("ul", { className: "plain" }, ...items);
}

function attempt(one) {
  const parts = ["started ", moment(one.startedAt)];
  if (one.finishedAt !== null) parts.push(`, took ${lasted(one)}`);
  if (one.exitCode !== null) parts.push(`, exit code ${one.exitCode}`);
  if (one.signal !== null) parts.push(`, ${one.signal}`);
  if (one.error !== null) parts.push(`: ${one.error.message}`);
  return element("li", { value: one.attempt }, ...parts);
}
