// When the page asks the server: every 5 s, at once after an action, never while it is hidden.

import { TokenNeeded, isExpected } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";
import { Shared } from "./shared.js";

const INTERVAL = 5000; // ms
const AFTER_ACTION = 1000; // quick jobs have ended by then

/** Why the last poll failed, an error; null when it did not. */
export const pollError = new Shared(null);
/** The time of the latest poll, for times that are shown relative to now. */
export const now = new Shared(Date.now());

const polls = new Set();
let timer = 0;
let round = 0;
let isPlanned = false;

/** Loads all that is shown, and again in `next` ms. What an earlier call loads is then not drawn. */
export async function refresh(next = INTERVAL) {
  clearTimeout(timer);
  const current = ++round;
  let failure = null;
  try {
    const draws = await Promise.all([...polls].map((poll) => poll()));
    if (current === round) await Promise.all(draws.map((draw) => draw()));
  } catch (error) {
    if (!isExpected(error)) throw error;
    failure = error;
  } finally {
    if (current === round) {
      pollError.value = failure;
      now.value = Date.now();
      schedule(failure instanceof TokenNeeded ? null : next);
    }
  }
}

export const refreshSoon = () => refresh(AFTER_ACTION);

function schedule(next) {
  if (next !== null && !document.hidden) timer = setTimeout(refresh, next);
}

/** For components: what `load` gives, loaded again with every poll; `key` names it. `then` is called
 * with the value once it is drawn. `load` is given a signal that aborts when another key is shown,
 * or none. */
export function usePolled(key, load, then = () => undefined) {
  const [seen, setSeen] = useState({ key });
  const latest = useRef();
  latest.current = { load, then };
  useEffect(() => {
    const abort = new AbortController();
    const poll = async () => {
      const value = await latest.current.load(abort.signal).catch((error) => {
        if (!abort.signal.aborted) throw error;
      });
      return () => {
        if (abort.signal.aborted) return undefined;
        setSeen((old) => (old.key === key && old.value === value ? old : { key, value }));
        return latest.current.then(value);
      };
    };
    polls.add(poll);
    refreshOnce();
    return () => {
      abort.abort();
      polls.delete(poll);
    };
  }, [key]);
  return seen.key === key ? seen.value : undefined;
}

/** However many components appear at once, there is one poll. */
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
