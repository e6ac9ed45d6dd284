// One field of a form, with its description and its errors.

import { html } from "./html.js";

const HINTS = {
  lines: "one on each line",
  pairs: "NAME=value, one on each line",
  json: "JSON",
};

export function Field({ field, value, errors, onValue }) {
  const id = `f${field.pointer.replace(/\W/g, "-")}`;
  const hint = [field.description, HINTS[field.kind]].filter(Boolean).join("; ");
  const isWrong = errors.length > 0;
  const described = [hint && `${id}-hint`, isWrong && `${id}-error`].filter(Boolean).join(" ");
  const input = {
    id,
    name: field.pointer,
    "aria-invalid": isWrong ? "true" : undefined,
    "aria-describedby": described || undefined,
    "aria-required": field.isRequired ? "true" : undefined,
    autocomplete: "off",
    spellcheck: false,
    onInput: (event) => onValue(event.target.value),
  };
  return html`<div class="field ${field.kind}">
    <label for=${id}>${field.title}${field.isRequired && " *"}</label>
    <${Input} field=${field} value=${value} input=${input} />
    ${hint && html`<p id=${`${id}-hint`} class="note">${marked(hint)}</p>`}
    ${isWrong && html`<p id=${`${id}-error`} class="error">${errors.map(({ detail }) => detail).join("; ")}</p>`}
  </div>`;
}

/** Text between backticks is shown as code. */
function marked(text) {
  return text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));
}

function Input({ field, value, input }) {
  if (field.kind === "choice" || field.kind === "switch") {
    const options = field.kind === "switch" ? ["true", "false"] : field.options.map(String);
    return html`<select ...${input}>
      ${["", ...options].map((option) => html`<option value=${option} selected=${option === value}>${option || "default"}</option>`)}
    </select>`;
  }
  if (["lines", "pairs", "json", "area"].includes(field.kind)) {
    return html`<textarea rows="2" value=${value} ...${input}></textarea>`;
  }
  if (field.kind === "when") return html`<input type="datetime-local" step="1" value=${value} ...${input} />`;
  const mode = field.kind === "number" ? "decimal" : undefined;
  return html`<input inputmode=${mode} value=${value} ...${input} />`;
}
