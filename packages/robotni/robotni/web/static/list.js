// The list of jobs, newest first, with the filters of the address.

import { cancelMany, flush, retryMany, startAdd, startFakeJob } from "./actions.js";
import { showList, queryOf } from "./address.js";
import { get } from "./api.js";
import { Charts } from "./charts.js";
import { curl } from "./curl.js";
import { Filters, States } from "./filters.js";
import { Overview, useStatus } from "./overview.js";
import { html, useEffect, useState } from "./html.js";
import { Action, CopyButton, isOver } from "./parts.js";
import { refresh, usePolled } from "./poll.js";
import { JobTable } from "./table.js";

const PAGE = 50;
const MAX_LIMIT = 200; // of one request

export function ListView({ filters }) {
  const [count, setCount] = useState(PAGE);
  const query = queryOf(filters);
  const status = useStatus();
  const found = usePolled(`jobs ${query}`, (signal) => load(query, count, signal));
  useEffect(() => setCount(PAGE), [query]);
  useEffect(() => {
    document.title = "robotni";
  }, []);
  const more = () => {
    setCount(count + PAGE);
    refresh();
  };
  return html`
    <div class="bar">
      <h1 tabindex="-1">Jobs</h1>
      <div class="buttons">
        <${Action} action=${startAdd}>Add 5 + 3<//>
        <${Action} action=${startFakeJob}>Fake job<//>
        <a class="button" href="#/new">New job</a>
      </div>
    </div>
    ${status && html`<${Overview} status=${status} />`}
    <${Charts} />
    <section class="card" aria-labelledby="list-title">
      <h2 id="list-title" class="off-screen">List of jobs</h2>
      <${States} filters=${filters} counts=${status?.jobs} />
      <${Filters} filters=${filters} />
      ${found && html`<${Jobs} jobs=${found.jobs} query=${query} />`}
      ${found?.hasMore && html`<button type="button" id="more" class="quiet" onClick=${more}>Load more</button>`}
      ${found?.jobs.length === 0 && html`<${NoJobs} isFiltered=${query !== ""} />`}
    </section>
  `;
}

function Jobs({ jobs, query }) {
  const [chosen, setChosen] = useState(new Set());
  const selected = jobs.filter((job) => chosen.has(job.jobId));
  const open = selected.filter((job) => !isOver(job));
  const ended = selected.filter(isOver);
  const thenClear = (action, jobs) => async () => {
    if (await action(jobs)) setChosen(new Set());
  };
  return html`
    <div class="bar tools">
      <p id="selection" role="status">${selected.length > 0 && `${selected.length} selected`}</p>
      ${open.length > 0 && html`<${Action} kind="danger" action=${thenClear(cancelMany, open)}>Cancel ${open.length}…<//>`}
      ${ended.length > 0 && html`<${Action} action=${thenClear(retryMany, ended)}>Retry ${ended.length}…<//>`}
      <${CopyButton} text=${() => curl(pathOf(query))} what="The command" label="Copy as curl" />
      <${Action} id="flush" action=${flush}>Flush queue…<//>
    </div>
    ${jobs.length > 0 && html`<${JobTable} jobs=${jobs} chosen=${chosen} setChosen=${setChosen} />`}
  `;
}

function NoJobs({ isFiltered }) {
  if (!isFiltered) return html`<p id="no-jobs" class="empty">No jobs yet. <a href="#/new">Run one.</a></p>`;
  const all = () => showList({});
  return html`<p id="no-jobs" class="empty">
    No job matches these filters.${" "}<button type="button" class="link" onClick=${all}>Show all</button>
  </p>`;
}

const pathOf = (query) => `api/worker/jobs${query === "" ? "" : `?${query}`}`;

let latest = { pages: [] };

/** `count` jobs, page after page; the same object as before when nothing has changed. */
async function load(query, count, signal) {
  const pages = [];
  let cursor = null;
  let loaded = 0;
  do {
    const given = new URLSearchParams(query);
    given.set("limit", Math.min(MAX_LIMIT, count - loaded));
    if (cursor !== null) given.set("cursor", cursor);
    const page = await get(`api/worker/jobs?${given}`, signal);
    pages.push(page);
    loaded += page.jobs.length;
    cursor = page.nextCursor;
  } while (cursor !== null && loaded < count);
  const isUnchanged = pages.length === latest.pages.length && pages.every((p, i) => p === latest.pages[i]);
  if (!isUnchanged) {
    latest = { pages, jobs: pages.flatMap((page) => page.jobs), hasMore: cursor !== null };
  }
  return latest;
}
