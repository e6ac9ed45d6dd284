// The filters of the list: states, type, project and the start of a name or id.

import { showList } from "./address.js";
import { get, isExpected } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Badge, STATES } from "./parts.js";

const TYPING_PAUSE = 300; // ms without a key until the list is loaded

/** A toggle button for each state, with the number of its jobs. */
export function States({ filters, counts }) {
  const chosen = filters.status === "" ? [] : filters.status.split(",");
  const toggle = (state) => {
    const now = chosen.includes(state) ? chosen.filter((s) => s !== state) : [...chosen, state];
    showList({ ...filters, status: STATES.filter((s) => now.includes(s)).join(",") });
  };
  return html`<div id="counts" class="states" role="group" aria-label="States">
    ${STATES.map(
      (state) =>
        html`<button type="button" aria-pressed=${chosen.includes(state)} onClick=${() => toggle(state)}>
          <${Badge} state=${state} /> <b>${counts?.[state].toLocaleString() ?? "…"}</b>
        </button>`,
    )}
  </div>`;
}

export function Filters({ filters }) {
  const [types, setTypes] = useState([]);
  useEffect(() => {
    loadTypes().then(setTypes);
  }, []);
  const known = [...new Set([...types, filters.type].filter((type) => type !== ""))];
  const set = (name, addToHistory) => (value) => showList({ ...filters, [name]: value }, addToHistory);
  return html`<form class="filters" role="search" aria-label="Filter the list" onSubmit=${(e) => e.preventDefault()}>
    <${TextFilter} label="Search" name="q" value=${filters.q} onText=${set("q", false)} placeholder="start of a script’s name or an id" />
    <label>Type <select name="type" onChange=${(event) => set("type")(event.target.value)}>
      <option value="" selected=${filters.type === ""}>all</option>
      ${known.map((type) => html`<option value=${type} selected=${type === filters.type}>${type}</option>`)}
    </select></label>
    <${TextFilter} label="Project" name="project" value=${filters.project} onText=${set("project", false)} placeholder="all" />
    ${
      Object.values(filters).some((value) => value !== "") &&
      html`<button type="button" class="quiet" onClick=${() => showList({})}>Clear</button>`
    }
  </form>`;
}

/** The names of the types; none while the server is away, which the poll reports. */
async function loadTypes() {
  try {
    return (await get("api/worker/types")).types.map(({ type }) => type);
  } catch (error) {
    if (!isExpected(error)) throw error;
    return [];
  }
}

function TextFilter({ label, name, value, onText, placeholder }) {
  const waiting = useRef(0);
  const latest = useRef();
  latest.current = onText;
  const input = useRef();
  useEffect(() => {
    if (document.activeElement !== input.current) input.current.value = value;
  }, [value]);
  const onInput = (event) => {
    const text = event.target.value.trim();
    clearTimeout(waiting.current);
    waiting.current = setTimeout(() => latest.current(text), TYPING_PAUSE);
  };
  useEffect(() => () => clearTimeout(waiting.current), []);
  return html`<label>${label} <input
    ref=${input} type="search" name=${name} onInput=${onInput} placeholder=${placeholder}
    autocomplete="off" spellcheck="false"
  /></label>`;
}
