// What is known about a job: a timeline of its states, and what it was asked to do.

import { html } from "./html.js";
import { member, pretty } from "./json.js";
import { JobLink, Moment, isOver } from "./parts.js";
import { between, duration, size } from "./text.js";

export function Timeline({ job }) {
  return html`<section class="card" aria-labelledby="timeline-title">
    <h2 id="timeline-title">Timeline</h2>
    <ol id="timeline" class="timeline">
      ${steps(job).map(
        ({ kind, what, at, note }) =>
          html`<li class=${kind}>
            <span>${what}${at && html` <${Moment} at=${at} />`}</span>
            ${note && html`<span class="note">${note}</span>`}
          </li>`,
      )}
    </ol>
  </section>`;
}

function steps(job) {
  const all = [{ kind: "created", what: "Created", at: job.timestamp }];
  for (const attempt of job.attempts) all.push(...stepsOf(attempt, job));
  if (job.status === "scheduled") all.push({ kind: "scheduled", what: "Due", at: job.runAt });
  if (job.status === "pending") all.push({ kind: "pending", what: "Waits for a worker" });
  if (job.cancelRequestedAt) all.push({ kind: "cancelled", what: "Cancel requested", at: job.cancelRequestedAt });
  if (isOver(job)) all.push({ kind: job.status, what: capital(job.status), at: job.finishedAt });
  return all;
}

function stepsOf(attempt, job) {
  const start = { kind: "running", what: `Attempt ${attempt.attempt} started`, at: attempt.startedAt };
  if (attempt.finishedAt === null) return [start];
  const took = `took ${duration(between(attempt.startedAt, attempt.finishedAt))}`;
  const notes = [took];
  if (attempt.exitCode !== null) notes.push(`exit code ${attempt.exitCode}`);
  if (attempt.signal !== null) notes.push(attempt.signal);
  const isLast = attempt.attempt === job.attempt && isOver(job);
  if (attempt.error !== null) notes.push(isLast ? attempt.error.code : attempt.error.message);
  return [{ ...start, note: notes.join(", ") }];
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

export function Facts({ job, json }) {
  return html`<section class="card" aria-labelledby="facts-title">
    <h2 id="facts-title">Details</h2>
    <dl id="facts">
      ${facts(job, json)
        .filter(([, value]) => value !== null)
        .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
  </section>`;
}

function facts(job, json) {
  const params = member(json, "params");
  return [
    ["Exit code", job.exitCode],
    ["Signal", job.signal],
    ["Attempt", `${job.attempt} of ${job.maxAttempts}`],
    ["Due", job.runAt && html`<${Moment} at=${job.runAt} />`],
    ["Type", job.type],
    ["Project", job.project],
    ["Script", job.type === "python-script" ? job.script : null],
    ["Module", job.module],
    ["Virtual environment", job.venv],
    ["Arguments", list(job.args)],
    ["Parameters", params === "{}" ? null : html`<pre>${pretty(params)}</pre>`],
    ["Environment", list(job.env)],
    ["Working folder", job.cwd],
    ["Warm", job.warm ? (list(job.preload) ?? "no preloaded modules") : null],
    ["Timeout", duration(job.timeout)],
    ["Expires", job.expires && duration(job.expires)],
    ["Output", size(job.outputBytes)],
    ["Retry of", job.retryOf && html`<${JobLink} jobId=${job.retryOf}>${job.retryOf}<//>`],
    ["Job id", html`<code>${job.jobId}</code>`],
  ];
}

function list(texts) {
  if (texts.length === 0) return null;
  return html`<ul class="plain">${texts.map((text) => html`<li><code>${text}</code></li>`)}</ul>`;
}
