// The rows of the list. A row stays the same element while its job is shown, so that focus and
// selection outlive a poll. Roles are set, since narrow windows lay the table out as cards.

import { html, useEffect, useRef } from "./html.js";
import { Badge, JobLink, Moment, Progress, nameOf } from "./parts.js";
import { now } from "./poll.js";
import { between, duration } from "./text.js";

const COLUMNS = ["State", "Name", "Project", "Created", "Took", "Attempt", "Progress"];

export function JobTable({ jobs, chosen, setChosen }) {
  const all = useRef();
  const count = jobs.filter((job) => chosen.has(job.jobId)).length;
  useEffect(() => {
    all.current.indeterminate = count > 0 && count < jobs.length;
  });
  const chooseAll = (event) => setChosen(new Set(event.target.checked ? jobs.map((job) => job.jobId) : []));
  const choose = (jobId, isChosen) => {
    const next = new Set(chosen);
    if (isChosen) next.add(jobId);
    else next.delete(jobId);
    setChosen(next);
  };
  return html`<table class="list" role="table" aria-labelledby="list-title">
    <thead role="rowgroup">
      <tr role="row">
        <th role="columnheader" scope="col" class="pick">
          <input
            ref=${all} type="checkbox" aria-label="Select all that are shown"
            checked=${count > 0 && count === jobs.length} onChange=${chooseAll}
          />
        </th>
        ${COLUMNS.map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}
      </tr>
    </thead>
    <tbody id="jobs" role="rowgroup">
      ${jobs.map(
        (job) =>
          html`<${Row} key=${job.jobId} job=${job} isChosen=${chosen.has(job.jobId)} choose=${choose} />`,
      )}
    </tbody>
  </table>`;
}

function Row({ job, isChosen, choose }) {
  const name = nameOf(job);
  return html`<tr role="row" class=${isChosen ? "chosen" : ""}>
    <td role="cell" class="pick">
      <input
        type="checkbox" aria-label=${`Select ${name}`} checked=${isChosen}
        onChange=${(event) => choose(job.jobId, event.target.checked)}
      />
    </td>
    <td role="cell" class="state"><${Badge} state=${job.status} /></td>
    <td role="cell" class="name"><${JobLink} jobId=${job.jobId}>${name}<//>${" "}<span class="args">${argumentsOf(job)}</span></td>
    <td role="cell" class="project">${job.project}</td>
    <td role="cell" class="created"><${Moment} at=${job.timestamp} /></td>
    <td role="cell" class="took"><${Took} job=${job} /></td>
    <td role="cell" class="attempt">${`${job.attempt} of ${job.maxAttempts}`}</td>
    <td role="cell" class="outcome"><${Outcome} job=${job} /></td>
  </tr>`;
}

/** As in a shell, shortened. */
function argumentsOf(job) {
  const flag = ([name, value]) => `--${name} ${typeof value === "object" ? "…" : value}`;
  const text = [...job.args, ...Object.entries(job.params).map(flag)].join(" ");
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function Took({ job }) {
  now.use(); // it grows while the job runs
  return job.startedAt === null ? "" : duration(between(job.startedAt, job.finishedAt));
}

function Outcome({ job }) {
  if (job.error !== null) return html`<span class="code" title=${job.error.message}>${job.error.code}</span>`;
  if (job.status === "running" && job.cancelRequestedAt !== null) return "being cancelled";
  if (job.status === "scheduled" && job.runAt !== null) return html`due <${Moment} at=${job.runAt} />`;
  if (job.status === "running" && job.progress !== null) return html`<${Progress} progress=${job.progress} />`;
  return job.progress === null || job.status === "completed" ? "" : `${job.progress.percent} %`;
}
