// What the page says to the person, and what it asks.

import { byId, element } from "./html.js";

const READ_IN = 10_000;
let fading = 0;

/** A sentence at the foot of the page; `more` (a link) follows it. */
export function say(text, more) {
  show("said", text, more);
  fading = setTimeout(hush, READ_IN);
}

/** A sentence that stays until the person has seen it. */
export function complain(text) {
  show("wrong", text);
}

export function hush() {
  clearTimeout(fading);
  byId("notice").replaceChildren();
}

function show(kind, text, ...more) {
  hush();
  const close = element("button", { type: "button", className: "quiet", onclick: hush }, "Close");
  const parts = more.filter((part) => part !== undefined).flatMap((part) => [" ", part]);
  byId("notice").append(element("p", { className: kind }, text, ...parts), close);
}

/** Whether the person wants it: asked in a dialog whose other way out is to leave all as it is. */
export async function confirms(question, verb) {
  byId("confirm-text").textContent = question;
  byId("confirm-yes").textContent = verb;
  return (await answer(byId("confirm"))) === "yes";
}

let asked;

/** The token the person gives, "" for none. Asked once, however many requests wait for it. */
export function askForToken(refused) {
  asked ??= ask(refused).finally(() => (asked = undefined));
  return asked;
}

async function ask(refused) {
  byId("token-note").textContent = refused
    ? "That token was not accepted."
    : "It is the value of ROBOTNI_TOKEN, kept until this tab is closed.";
  const given = await answer(byId("token"));
  const token = byId("token-value").value;
  byId("token-value").value = "";
  return given === "yes" ? token : "";
}

function answer(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }),
  );
}
