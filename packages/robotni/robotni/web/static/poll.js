// When the page asks the server: every 5 s, at once after an action, never while it is hidden.

import { TokenNeeded, isExpected } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";
import { Shared } from "./shared.js";

const POLL = 5000;
const SOON = 1000; // after an action: quick jobs have ended by then

/** What hinders the page, an error or null. */
export const trouble = new Shared(null);
/** The moment of the latest look, for times that are told from now. */
export const now = new Shared(Date.now());

const asked = new Set();
let timer = 0;
let turn = 0;
let isPlanned = false;

/** Asks now for all that is shown, and again in `next` ms. A later call makes an earlier one draw nothing. */
export async function refresh(next = POLL) {
  clearTimeout(timer);
  const mine = ++turn;
  let failure = null;
  try {
    const draws = await Promise.all([...asked].map((ask) => ask()));
    if (mine === turn) await Promise.all(draws.map((draw) => draw()));
  } catch (error) {
    if (!isExpected(error)) throw error;
    failure = error;
  } finally {
    if (mine === turn) {
      trouble.value = failure;
      now.value = Date.now();
      plan(failure instanceof TokenNeeded ? null : next);
    }
  }
}

export const refreshSoon = () => refresh(SOON);

function plan(next) {
  if (next !== null && !document.hidden) timer = setTimeout(refresh, next);
}

/** Within a component: what `load` gives, asked for again with every look, under the name `key`.
 * `then`, where given, goes on with the value once it is drawn. `load` is given a signal: another
 * key is wanted, or none, so the server need not go on. */
export function usePolled(key, load, then = () => undefined) {
  const [seen, setSeen] = useState({ key });
  const latest = useRef();
  latest.current = { load, then };
  useEffect(() => {
    const gone = new AbortController();
    const ask = async () => {
      const value = await latest.current.load(gone.signal).catch((error) => {
        if (!gone.signal.aborted) throw error;
      });
      return () => {
        if (gone.signal.aborted) return undefined;
        setSeen((old) => (old.key === key && old.value === value ? old : { key, value }));
        return latest.current.then(value);
      };
    };
    asked.add(ask);
    refreshOnce();
    return () => {
      gone.abort();
      asked.delete(ask);
    };
  }, [key]);
  return seen.key === key ? seen.value : undefined;
}

/** However many parts of the page appear at once, the server is asked once. */
function refreshOnce() {
  if (isPlanned) return;
  isPlanned = true;
  queueMicrotask(() => {
    isPlanned = false;
    refresh();
  });
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
