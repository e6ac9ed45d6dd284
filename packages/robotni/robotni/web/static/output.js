// The output and its tools: follow, search, copy, download, and which attempt is shown.

import { bytesOf } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Action, CopyButton } from "./parts.js";

export function Output({ job, feed, attempt, choose }) {
  const place = useRef();
  const note = feed.note.use();
  const follows = feed.follows.use();
  useEffect(() => place.current.append(feed.element), [feed]);
  const toggle = () => {
    feed.follows.value = !follows;
    feed.toEnd();
  };
  return html`<section class="card" aria-labelledby="output-title">
    <div class="bar">
      <h2 id="output-title">Output</h2>
      <${Search} feed=${feed} />
      <div class="buttons">
        <button type="button" class="quiet" aria-pressed=${follows} onClick=${toggle}>Follow</button>
        <${CopyButton} text=${() => feed.log?.text ?? ""} what="The output" />
        <${Action} action=${() => download(job, attempt)}>Download<//>
      </div>
    </div>
    ${job.attempt > 1 && html`<${Attempts} job=${job} attempt=${attempt} choose=${choose} />`}
    <p id="output-note" class="note">${note}</p>
    <div ref=${place}></div>
  </section>`;
}

function Attempts({ job, attempt, choose }) {
  const numbers = Array.from({ length: job.attempt }, (_, index) => index + 1);
  return html`<label class="inline">Attempt <select onChange=${(event) => choose(Number(event.target.value))}>
    ${numbers.map((n) => html`<option value=${n} selected=${n === attempt}>${n}</option>`)}
  </select></label>`;
}

function Search({ feed }) {
  const [words, setWords] = useState("");
  const [found, setFound] = useState({ places: [], at: -1 });
  const show = (places, at) => {
    setFound({ places, at });
    if (at < 0) {
      feed.log?.removeHighlights();
      return;
    }
    feed.follows.value = false;
    feed.log.show(places[at], places);
  };
  const onInput = (event) => {
    const text = event.target.value;
    const places = feed.log?.find(text) ?? [];
    setWords(text);
    show(places, places.length - 1);
  };
  const step = (by) => {
    const places = feed.log?.find(words) ?? [];
    const at = places.length === 0 ? -1 : (found.at + by + places.length) % places.length;
    show(places, at);
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    step(event.shiftKey ? 1 : -1);
  };
  const count = words === "" ? "" : `${found.at + 1} of ${found.places.length}`;
  return html`<div class="search">
    <input type="search" aria-label="Search the output" placeholder="search" value=${words} onInput=${onInput} onKeyDown=${onKeyDown} autocomplete="off" spellcheck="false" />
    <span class="note" role="status">${count}</span>
    <button type="button" class="quiet" aria-label="Previous match" disabled=${found.at < 0} onClick=${() => step(-1)}>↑</button>
    <button type="button" class="quiet" aria-label="Next match" disabled=${found.at < 0} onClick=${() => step(1)}>↓</button>
  </div>`;
}

/** By a request of the page itself: a link could not send the token. */
async function download({ jobId }, attempt) {
  const bytes = await bytesOf(`api/worker/jobs/${jobId}/output?attempt=${attempt || 1}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "text/plain" }));
  link.download = `${jobId}-${attempt}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
