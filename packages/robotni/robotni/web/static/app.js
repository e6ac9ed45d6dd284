// The page: its frame, and which view the address asks for.

import { useAddress } from "./address.js";
import { TokenNeeded } from "./api.js";
import { html, render, useEffect, useRef } from "./html.js";
import { JobView } from "./job.js";
import { ListView } from "./list.js";
import { Notice, Questions } from "./messages.js";
import { NewJobView } from "./new.js";
import { refresh, trouble } from "./poll.js";
import { ThemeButton } from "./shade.js";

function App() {
  const address = useAddress();
  const main = useRef();
  const place = address.jobId ?? address.view;
  const before = useRef(place);
  useEffect(() => {
    if (before.current === place) return;
    before.current = place;
    scrollTo(0, 0);
    main.current.querySelector("h1")?.focus();
  }, [place]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => toMain(event, main.current)}>Skip to content</a>
    <header class="top">
      <a class="brand" href="#/"><img src="webdemo/icon.svg" alt="" width="22" height="22" />robotni</a>
      <nav aria-label="Site">
        <a href="#/" aria-current=${address.view === "list" ? "page" : undefined}>Jobs</a>
        <a href="#/new" aria-current=${address.view === "new" ? "page" : undefined}>New job</a>
        <a href="docs">API</a>
        <${ThemeButton} />
      </nav>
    </header>
    <${Trouble} />
    <main id="main" ref=${main} tabindex="-1"><${View} ...${address} /></main>
    <${Notice} />
    <${Questions} />
  `;
}

function View({ view, jobId, type, filters }) {
  if (view === "job") return html`<${JobView} key=${jobId} jobId=${jobId} />`;
  if (view === "new") return html`<${NewJobView} type=${type} />`;
  return html`<${ListView} filters=${filters} />`;
}

function Trouble() {
  const error = trouble.use();
  return html`<p id="connection" class="connection" role="status">
    ${error?.message}
    ${
      error instanceof TokenNeeded &&
      html` <button type="button" onClick=${() => refresh()}>Enter it</button>`
    }
  </p>`;
}

/** The address after the # is the view's: the link may not change it. */
function toMain(event, main) {
  event.preventDefault();
  main.focus();
}

render(html`<${App} />`, document.getElementById("app"));
