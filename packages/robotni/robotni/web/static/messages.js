// What the page says to the person, and what it asks.

import { html, useEffect, useRef } from "./html.js";
import { Shared } from "./shared.js";

const READ_IN = 10_000;
const notice = new Shared(null);
const question = new Shared(null);
const token = new Shared(null);
let fading = 0;

/** A sentence at the foot of the page; `more` (a link) follows it. */
export function say(text, more = null) {
  show({ kind: "said", text, more });
  fading = setTimeout(hush, READ_IN);
}

/** A sentence that stays until the person has seen it. */
export function complain(text) {
  show({ kind: "wrong", text, more: null });
}

export function hush() {
  clearTimeout(fading);
  notice.value = null;
}

function show(what) {
  hush();
  notice.value = what;
}

export function Notice() {
  const said = notice.use();
  return html`<div id="notice" class="notice" role="status">
    ${
      said &&
      html`<p class=${said.kind}>${said.text} ${said.more}</p>
      <button type="button" class="quiet" onClick=${hush}>Close</button>`
    }
  </div>`;
}

/** Whether the person wants it: asked in a dialog whose other way out is to leave all as it is. */
export function confirms(text, verb) {
  return new Promise((resolve) => {
    question.value = { text, verb, resolve };
  });
}

let asked;

/** The token the person gives, "" for none. Asked once, however many requests wait for it. */
export function askForToken(refused) {
  asked ??= new Promise((resolve) => {
    token.value = { refused, resolve };
  }).finally(() => (asked = undefined));
  return asked;
}

/** Both dialogs; each is open while something is asked. */
export function Questions() {
  const { text, verb } = question.use() ?? {};
  const isRefused = token.use()?.refused;
  const input = useRef();
  return html`
    <${Dialog} of=${question} labelledby="confirm-text" answer=${(said) => said === "yes"}>
      <p id="confirm-text">${text}</p>
      <div class="choices">
        <button value="" class="quiet">Leave them</button>
        <button value="yes" class="danger">${verb}</button>
      </div>
    <//>
    <${Dialog}
      of=${token}
      labelledby="token-title"
      answer=${(said) => (said === "yes" ? input.current.value : "")}
    >
      <h2 id="token-title">This server asks for a token</h2>
      <p class="note">
        ${
          isRefused
            ? "That token was not accepted."
            : "It is the value of ROBOTNI_TOKEN, kept until this tab is closed."
        }
      </p>
      <label>Token <input
        ref=${input} type="password" autocomplete="off" spellcheck="false" required
        pattern="[!-~]+" title="visible ASCII characters only"
      /></label>
      <div class="choices"><button value="yes">Use token</button></div>
    <//>`;
}

function Dialog({ of, labelledby, answer, children }) {
  const current = of.use();
  const dialog = useRef();
  useEffect(() => {
    if (current === null) return;
    dialog.current.returnValue = "";
    dialog.current.showModal();
  }, [current]);
  const close = () => {
    const said = answer(dialog.current.returnValue);
    dialog.current.querySelector("form").reset();
    of.value = null;
    current.resolve(said);
  };
  return html`<dialog ref=${dialog} aria-labelledby=${labelledby} onClose=${close}>
    <form method="dialog">${children}</form>
  </dialog>`;
}
