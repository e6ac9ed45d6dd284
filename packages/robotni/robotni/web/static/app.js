// The page: its header and footer, and the view that the address names.

import { useAddress } from "./address.js";
import { TokenNeeded } from "./api.js";
import { html, render, useEffect, useRef } from "./html.js";
import { JobView } from "./job.js";
import { ListView } from "./list.js";
import { Notice, Dialogs } from "./messages.js";
import { NewJobView } from "./new.js";
import { pollError, refresh } from "./poll.js";
import { ThemeButton } from "./theme-button.js";

function App() {
  const address = useAddress();
  const main = useRef();
  const view = address.jobId ?? address.view;
  const before = useRef(view);
  useEffect(() => {
    if (before.current === view) return;
    before.current = view;
    scrollTo(0, 0);
    main.current.querySelector("h1")?.focus();
  }, [view]);
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
    <${Connection} />
    <main id="main" ref=${main} tabindex="-1"><${View} ...${address} /></main>
    <${Notice} />
    <${Dialogs} />
  `;
}

function View({ view, jobId, type, filters }) {
  if (view === "job") return html`<${JobView} key=${jobId} jobId=${jobId} />`;
  if (view === "new") return html`<${NewJobView} type=${type} />`;
  return html`<${ListView} filters=${filters} />`;
}

function Connection() {
  const error = pollError.use();
  return html`<p id="connection" class="connection" role="status">
    ${error?.message}
    ${
      error instanceof TokenNeeded &&
      html` <button type="button" onClick=${() => refresh()}>Enter it</button>`
    }
  </p>`;
}

/** Moves the focus without the link's #, which would name another view. */
function toMain(event, main) {
  event.preventDefault();
  main.focus();
}

render(html`<${App} />`, document.getElementById("app"));
