// The forms: what was typed becomes JSON; what the server finds wrong is shown at its field.

import { act, sayStarted } from "./actions.js";
import { post } from "./api.js";
import { byId, element } from "./html.js";
import { literal } from "./json.js";

export function installForms() {
  install(byId("script-form"), async (fields) => {
    const job = await post("api/worker/jobs", object(scriptRequest(fields)));
    sayStarted(fields.script, job.jobId);
  });
  install(byId("add-form"), async ({ x, y }) => {
    const task = await post("add/", object({ x: literal(x), y: literal(y) }));
    sayStarted("The sum", task.task_id);
  });
  install(byId("fakejob-form"), async ({ seconds }) => {
    const given = seconds.trim() === "" ? {} : { seconds: literal(seconds) };
    const task = await post("fakejob/", object(given));
    sayStarted("The fake job", task.task_id);
  });
}

/** Members as JSON texts; what was left empty is left out, so that the server's defaults hold. */
function scriptRequest({ script, venv, args, timeout, project }) {
  const lines = args.split(/\r?\n/).filter((line) => line !== "");
  const members = { args: JSON.stringify(lines) };
  for (const [name, text] of Object.entries({ script, venv, project })) {
    if (text.trim() !== "") members[name] = JSON.stringify(text.trim());
  }
  if (timeout.trim() !== "") members.timeout = literal(timeout);
  return members;
}

/** A JSON object of members that are JSON already: no number passes through a double. */
function object(members) {
  const parts = Object.entries(members).map(([name, json]) => `${JSON.stringify(name)}:${json}`);
  return `{${parts.join(",")}}`;
}

function install(form, submit) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clear(form);
    const fields = Object.fromEntries(new FormData(form));
    const button = form.querySelector("button");
    act(
      button,
      () => submit(fields),
      (problem) => mark(form, problem),
    );
  });
}

function mark(form, problem) {
  const general = [];
  for (const { pointer, detail } of problem.errors) {
    const field = form.elements.namedItem(pointer.split("/")[1] ?? "");
    if (field) markField(field, detail);
    else general.push(pointer ? `${pointer.slice(1)}: ${detail}` : detail);
  }
  if (problem.errors.length === 0) general.push(problem.message);
  if (general.length > 0) {
    const text = element("p", { className: "error", role: "alert" }, general.join("; "));
    form.querySelector("h2").after(text);
  }
  form.querySelector("[aria-invalid]")?.focus();
}

function markField(field, detail) {
  const id = `${field.form.id}-${field.name}-error`;
  const earlier = byId(id);
  if (earlier !== null) {
    earlier.append("; ", element("span", {}, detail));
    return;
  }
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
  field.closest("label").after(element("p", { id, className: "error" }, detail));
}

function clear(form) {
  for (const error of form.querySelectorAll(".error")) error.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}
