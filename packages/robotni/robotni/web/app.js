// The page: which view the address asks for, and when to look again. Nothing is pushed.

import { act, cancel, flush, retry } from "./actions.js";
import { Problem, TokenNeeded, Unreachable } from "./api.js";
import { installForms } from "./forms.js";
import { byId, element, put } from "./html.js";
import { clearJob, loadJob } from "./job.js";
import { loadList, loadMore } from "./list.js";
import { loadStatus } from "./status.js";

const POLL = 5000;
const SOON = 1000; // after an action: quick jobs have ended by then
let timer = 0;
let turn = 0;

/** Asks, draws, and comes again in `next` ms. A later call makes an earlier one draw nothing. */
async function refresh(next = POLL) {
  clearTimeout(timer);
  const mine = ++turn;
  let said = [];
  let again = true;
  try {
    const jobId = shownJob();
    const loads = [loadStatus(), jobId === null ? loadList() : loadJob(jobId)];
    const draws = await Promise.all(loads);
    if (mine === turn) for (const draw of draws) draw();
  } catch (error) {
    if (![Problem, TokenNeeded, Unreachable].some((known) => error instanceof known)) throw error;
    again = !(error instanceof TokenNeeded);
    const askAgain = () =>
      element("button", { type: "button", onclick: () => refresh() }, "Enter it");
    said = [error.message, ...(again ? [] : [" ", askAgain()])];
  } finally {
    if (mine === turn) {
      put(byId("connection"), ...said);
      if (again && !document.hidden) timer = setTimeout(refresh, next);
    }
  }
}

function shownJob() {
  return location.hash.match(/^#\/jobs\/(\w+)$/)?.[1] ?? null;
}

function route() {
  const isJob = shownJob() !== null;
  clearJob();
  document.title = "robotni";
  byId("job-view").hidden = !isJob;
  byId("list-view").hidden = isJob;
  refresh();
}

function onClick(id, action) {
  byId(id).addEventListener("click", (event) => act(event.currentTarget, action));
}

installForms();
byId("new-job").open = matchMedia("(min-width: 66rem)").matches; // the list is in sight first
onClick("flush", flush);
onClick("cancel", () => cancel(shownJob()));
onClick("retry", () => retry(shownJob()));
byId("more").addEventListener("click", () => {
  loadMore();
  refresh();
});
document.addEventListener("changed", () => refresh(SOON));
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
addEventListener("hashchange", () => {
  route();
  scrollTo(0, 0);
  byId(shownJob() === null ? "list-title" : "job-title").focus();
});
route();
