// Notices at the foot of the page, and dialogs that ask the user something.

import { html, useEffect, useRef } from "./html.js";
import { Shared } from "./shared.js";

const NOTICE_TIME = 10_000; // ms
const notice = new Shared(null);
const question = new Shared(null);
const token = new Shared(null);
let timer = 0;

/** Shows a sentence for ten seconds; `more` (a link) follows it. */
export function showNotice(text, more = null) {
  show({ kind: "info", text, more });
  timer = setTimeout(hideNotice, NOTICE_TIME);
}

/** Shows a sentence until the user closes it or does something. */
export function showError(text) {
  show({ kind: "error", text, more: null });
}

export function hideNotice() {
  clearTimeout(timer);
  notice.value = null;
}

function show(message) {
  hideNotice();
  notice.value = message;
}

export function Notice() {
  const message = notice.use();
  return html`<div id="notice" class="notice" role="status">
    ${
      message &&
      html`<p class=${message.kind}>${message.text} ${message.more}</p>
      <button type="button" class="quiet" onClick=${hideNotice}>Close</button>`
    }
  </div>`;
}

/** Asks in a dialog; true when the user presses the button named `verb`. */
export function confirmed(text, verb) {
  return new Promise((resolve) => {
    question.value = { text, verb, resolve };
  });
}

let tokenAnswer; // a promise while the dialog is open

/** The token that the user enters, "" for none. Asked once, however many requests wait for it. */
export function askForToken(refused) {
  tokenAnswer ??= new Promise((resolve) => {
    token.value = { refused, resolve };
  }).finally(() => (tokenAnswer = undefined));
  return tokenAnswer;
}

/** Both dialogs; each is open while it has a question. */
export function Dialogs() {
  const { text, verb } = question.use() ?? {};
  const isRefused = token.use()?.refused;
  const input = useRef();
  return html`
    <${Dialog} of=${question} labelledby="confirm-text" answer=${(value) => value === "yes"}>
      <p id="confirm-text">${text}</p>
      <div class="choices">
        <button value="" class="quiet">Back</button>
        <button value="yes" class="danger">${verb}</button>
      </div>
    <//>
    <${Dialog}
      of=${token}
      labelledby="token-title"
      answer=${(value) => (value === "yes" ? input.current.value : "")}
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
    const result = answer(dialog.current.returnValue);
    dialog.current.querySelector("form").reset();
    of.value = null;
    current.resolve(result);
  };
  return html`<dialog ref=${dialog} aria-labelledby=${labelledby} onClose=${close}>
    <form method="dialog">${children}</form>
  </dialog>`;
}
