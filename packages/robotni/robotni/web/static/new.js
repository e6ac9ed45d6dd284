// The form for a new job of any type, made from the server's schemas: that of a submit, and that of
// the type's params.

import { get, isExpected, post } from "./api.js";
import { jobAddress } from "./address.js";
import { curl } from "./curl.js";
import { Field } from "./field.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { showError, showNotice } from "./messages.js";
import { Action, CopyButton } from "./parts.js";
import { InvalidInput, fieldsOf, membersOf, object } from "./schema.js";

const SCRIPT = "python-script";
const SCRIPT_FIELDS = ["script", "module", "venv", "args", "params", "stdin", "warm", "preload"];
const FIRST_FIELDS = ["script", "module", "venv", "args", "params"];
// What the schema does not say, or says for programs rather than people.
const OVERRIDES = {
  venv: { title: "Virtual environment", initial: ".venv" },
  args: { title: "Arguments" },
  params: { title: "Parameters" },
  env: { title: "Environment" },
  cwd: { title: "Working folder" },
  stdin: { title: "Standard input", kind: "area" },
  runAt: { kind: "when", description: "when it is due, in your time zone" },
  project: { initial: "" },
  retries: { initial: "" },
  retryDelay: { initial: "" },
};

export function NewJobView({ type }) {
  const [known, setKnown] = useState(null);
  const loadForm = () => {
    load().then(setKnown, (error) => {
      if (!isExpected(error)) throw error;
      showError(`The job types could not be loaded: ${error.message}`);
    });
  };
  useEffect(() => {
    document.title = "New job · robotni";
    loadForm();
  }, []);
  const chosen = known?.types.find((one) => one.type === type);
  return html`
    <h1 tabindex="-1">New job</h1>
    ${known === null && html`<p>Loading… <button type="button" class="link" onClick=${loadForm}>Try again</button></p>`}
    ${
      known &&
      html`<nav class="types" aria-label="Types of jobs">
        ${known.types.map(
          (one) =>
            html`<a href=${`#/new/${one.type}`} aria-current=${one.type === type ? "page" : undefined}>${one.title}</a>`,
        )}
      </nav>`
    }
    ${known && !chosen && html`<p>There is no type ${type}.</p>`}
    ${chosen && html`<${JobForm} key=${type} type=${chosen} request=${known.request} />`}
  `;
}

async function load() {
  const [{ types }, document] = await Promise.all([get("api/worker/types"), get("openapi.json")]);
  return { types, request: document.components.schemas.JobRequest };
}

function groupsOf(type, request) {
  const isScript = type.type === SCRIPT;
  const all = fieldsOf(request)
    .filter(({ name }) => name !== "type" && (isScript || !SCRIPT_FIELDS.includes(name)))
    .map((field) => ({ ...field, ...OVERRIDES[field.name] }));
  return {
    params: isScript ? [] : fieldsOf(type.schema, "/params"),
    first: all.filter(({ name }) => FIRST_FIELDS.includes(name)),
    more: all.filter(({ name }) => !FIRST_FIELDS.includes(name)),
  };
}

function JobForm({ type, request }) {
  const groups = groupsOf(type, request);
  const fields = [...groups.params, ...groups.first, ...groups.more];
  const [typed, setTyped] = useState(() => Object.fromEntries(fields.map((f) => [f.pointer, f.initial])));
  const [errors, setErrors] = useState([]);
  const form = useRef();
  const more = useRef();
  /** The request as JSON text; null, with an error at its field, when some input is invalid. */
  const body = () => {
    setErrors([]);
    try {
      return bodyOf(type, groups, typed);
    } catch (error) {
      if (!(error instanceof InvalidInput)) throw error;
      setErrors([{ pointer: error.pointer, detail: error.message }]);
      return null;
    }
  };
  const find = ({ pointer }) => fields.find((f) => pointer === f.pointer || pointer.startsWith(`${f.pointer}/`));
  useEffect(() => {
    if (errors.some((error) => groups.more.includes(find(error)))) more.current.open = true;
    form.current.querySelector("[aria-invalid]")?.focus();
  }, [errors]);
  const submit = async () => {
    const text = body();
    if (text === null) return;
    const job = await post("api/worker/jobs", text);
    location.hash = jobAddress(job.jobId);
    showNotice("The job is in the queue.");
  };
  const showProblem = (problem) => {
    setErrors(problem.errors.length > 0 ? problem.errors : [{ pointer: "", detail: problem.message }]);
  };
  const field = (one) => html`<${Field}
    key=${one.pointer} field=${one} value=${typed[one.pointer]}
    errors=${errors.filter((error) => find(error) === one)}
    onValue=${(value) => setTyped((all) => ({ ...all, [one.pointer]: value }))}
  />`;
  const general = errors.filter((error) => find(error) === undefined);
  const onSubmit = (event) => {
    event.preventDefault();
    form.current.querySelector("#submit").click();
  };
  const asCurl = () => {
    const text = body();
    return text && curl("api/worker/jobs", { method: "POST", body: text });
  };
  return html`<form ref=${form} id="new-job" class="card" aria-labelledby="form-title" novalidate onSubmit=${onSubmit}>
    <h2 id="form-title">${type.title}</h2>
    <p class="note">${type.description}</p>
    ${general.map(({ pointer, detail }) => html`<p class="error-box" role="alert">${pointer && `${pointer.slice(1)}: `}${detail}</p>`)}
    <div class="fields">${[...groups.params, ...groups.first].map(field)}</div>
    <details ref=${more}>
      <summary>More: when, how often, how long</summary>
      <div class="fields">${groups.more.map(field)}</div>
    </details>
    <div class="buttons">
      <${Action} id="submit" kind="" action=${submit} onProblem=${showProblem}>Run<//>
      <${CopyButton} text=${asCurl} what="The command" label="Copy as curl" />
      <button type="submit" hidden>Run</button>
    </div>
  </form>`;
}

/** The request as JSON text; throws InvalidInput. */
function bodyOf(type, { params, first, more }, typed) {
  const isScript = type.type === SCRIPT;
  const own = [
    ["type", JSON.stringify(type.type)],
    ["params", object(membersOf(params, typed))],
  ];
  return object([...(isScript ? [] : own), ...membersOf([...first, ...more], typed)]);
}
