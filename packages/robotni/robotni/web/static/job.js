// One job: its state, its output, and all that is known about it.

import { cancel, retry, revoke } from "./actions.js";
import { Problem, read } from "./api.js";
import { curl } from "./curl.js";
import { Facts, Timeline } from "./facts.js";
import { OutputFeed } from "./output-feed.js";
import { html, useEffect, useMemo, useState } from "./html.js";
import { member, pretty } from "./json.js";
import { Output } from "./output.js";
import { Action, Badge, CopyButton, Moment, Progress, isOver, isWaiting, nameOf } from "./parts.js";
import { now, refresh, usePolled } from "./poll.js";
import { between, duration, visible } from "./text.js";

export function JobView({ jobId }) {
  const feed = useMemo(() => new OutputFeed(), [jobId]);
  const [chosen, setChosen] = useState(null); // an attempt; null: the latest
  const pull = ({ value }) => value && feed.pull(value, chosen ?? value.attempt);
  const found = usePolled(`job ${jobId}`, () => load(jobId), pull);
  const job = found?.value;
  useEffect(() => {
    if (job) refresh();
  }, [chosen]);
  return html`
    <p class="back"><a href="#/">← All jobs</a></p>
    <div class="bar head">
      <h1 class="name" tabindex="-1">${job ? nameOf(job) : "Job"}</h1>
      ${job && html`<${Buttons} job=${job} />`}
    </div>
    ${
      job
        ? html`<${Job} job=${job} json=${found.text} feed=${feed} chosen=${chosen} choose=${setChosen} />`
        : html`<p id="job-missing">${found?.missing ?? "Loading…"}</p>`
    }
  `;
}

/** That a job does not exist is an answer to show, not an error of the poll. */
async function load(jobId) {
  try {
    return await read(`api/worker/jobs/${jobId}`);
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return { missing: error.message };
    throw error;
  }
}

function Job({ job, json, feed, chosen, choose }) {
  const name = nameOf(job);
  useEffect(() => {
    document.title = `${job.status} · ${visible(name)} · robotni`;
  }, [job.status, name]);
  return html`
    <p id="job-state" role="status"><${Badge} state=${job.status} /> <${Sentence} job=${job} /></p>
    ${job.error && html`<p id="job-error" class="error-box"><b>${job.error.code}</b> ${job.error.message}</p>`}
    ${job.progress && html`<p id="job-progress"><${Progress} progress=${job.progress} /></p>`}
    <div class="columns">
      <div>
        <${Output} job=${job} feed=${feed} attempt=${chosen ?? job.attempt} choose=${choose} />
        ${job.result !== null && html`<${Result} json=${json} />`}
      </div>
      <div>
        <${Timeline} job=${job} />
        <${Facts} job=${job} json=${json} />
        <${Commands} job=${job} />
      </div>
    </div>
  `;
}

function Buttons({ job }) {
  const toTitle = () => document.querySelector("main h1").focus(); // the button may disappear
  const then = (action) => async () => {
    await action(job.jobId);
    toTitle();
  };
  return html`<div class="buttons">
    ${isWaiting(job) && html`<${Action} key="revoke" kind="danger" action=${then(revoke)}>Revoke<//>`}
    ${
      job.status === "running" &&
      job.cancelRequestedAt === null &&
      html`<${Action} key="cancel" kind="danger" action=${then(cancel)}>Cancel<//>`
    }
    ${isOver(job) && html`<${Action} key="retry" action=${then(retry)}>Retry<//>`}
  </div>`;
}

function Sentence({ job }) {
  now.use(); // it changes while the job runs
  if (job.status === "scheduled") return html`due <${Moment} at=${job.runAt} />`;
  if (job.status === "pending") return html`waits for a worker`;
  if (job.status === "running" && job.cancelRequestedAt) return "its processes are being stopped";
  if (job.startedAt === null) return "before it started";
  const took = duration(between(job.startedAt, job.finishedAt));
  return job.status === "running" ? `for ${took}` : `after ${took}`;
}

function Result({ json }) {
  const text = pretty(member(json, "result"));
  return html`<section class="card" aria-labelledby="result-title">
    <div class="bar">
      <h2 id="result-title">Result</h2>
      <${CopyButton} text=${() => text} what="The result" label="Copy result" />
    </div>
    <pre id="result" tabindex="0" role="region" aria-label="Result of the script">${text}</pre>
  </section>`;
}

function Commands({ job }) {
  const path = `api/worker/jobs/${job.jobId}`;
  const all = [
    ["Show", curl(path)],
    ["Output", curl(`${path}/output`, { headers: { Range: "bytes=0-" } })],
    ...(isOver(job)
      ? [["Retry", curl(`${path}/retry`, { method: "POST" })]]
      : [["Cancel", curl(path, { method: "DELETE" })]]),
  ];
  return html`<section class="card" aria-labelledby="curl-title">
    <h2 id="curl-title">As curl</h2>
    <div class="buttons">
      ${all.map(([name, text]) => html`<${CopyButton} text=${() => text} what="The command" label=${`Copy ${name.toLowerCase()}`} />`)}
    </div>
  </section>`;
}
