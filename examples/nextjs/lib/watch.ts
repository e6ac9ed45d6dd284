/**
 * Polls one job until it has ended. As often as the server's Retry-After says, else every 5 s; an
 * unchanged job costs a 304; nothing is asked while the page is hidden. Knows nothing of React.
 */
import type { Job, Problem } from "./problem";

export interface Seen {
  job: Job | null;
  /** Why the last poll brought nothing; null once one does again. */
  problem: Problem | null;
}

/** What it needs of a browser. */
export interface Means {
  fetch: typeof fetch;
  /** Seconds, or until `signal`. */
  sleep: (seconds: number, signal: AbortSignal) => Promise<void>;
  /** At once when the page is visible, else when it is again, or at `signal`. */
  untilVisible: (signal: AbortSignal) => Promise<void>;
}

const POLL = 5;
const LONGEST = 3600;
const ENDED: ReadonlySet<Job["status"]> = new Set(["completed", "failed", "cancelled"]);

/** Calls `show` with each change, until the job has ended, is refused, or `signal` is aborted. */
export async function watchJob(
  url: string,
  show: (seen: Seen) => void,
  signal: AbortSignal,
  means: Means = browser,
): Promise<void> {
  let seen: Seen = { job: null, problem: null };
  let tag: string | null = null;
  const take = (next: Seen): void => {
    seen = next;
    if (!signal.aborted) show(seen);
  };
  for (;;) {
    await means.untilVisible(signal);
    if (signal.aborted) return;
    let pause = POLL;
    try {
      const headers: Record<string, string> = tag === null ? {} : { "If-None-Match": tag };
      const answer = await means.fetch(url, { headers, signal, cache: "no-store" });
      pause = secondsOf(answer.headers.get("Retry-After"));
      if (answer.status === 200) {
        const job = (await answer.json()) as Job;
        tag = answer.headers.get("ETag");
        take({ job, problem: null });
        if (ENDED.has(job.status)) return;
      } else if (answer.status !== 304) {
        take({ job: seen.job, problem: await problemOf(answer) });
        if (isFinal(answer.status)) return;
      } else if (seen.problem !== null) {
        take({ job: seen.job, problem: null });
      }
    } catch (error) {
      take({ job: seen.job, problem: lost(String(error)) });
    }
    await means.sleep(pause, signal);
  }
}

function secondsOf(retryAfter: string | null): number {
  const seconds = Number(retryAfter ?? POLL);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), LONGEST) : POLL;
}

/** What another poll would not change. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

async function problemOf(answer: Response): Promise<Problem> {
  const text = await answer.text();
  try {
    return JSON.parse(text) as Problem;
  } catch {
    return { ...lost(`the server answered ${answer.status}`), status: answer.status };
  }
}

function lost(detail: string): Problem {
  return { title: "No answer", status: 0, code: "unreachable", detail };
}

const browser: Means = {
  fetch: (input, init) => fetch(input, init),
  sleep: (seconds, signal) =>
    new Promise((resolve) => {
      const timer = setTimeout(done, seconds * 1000);
      signal.addEventListener("abort", done, { once: true });
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
    }),
  untilVisible: (signal) =>
    new Promise((resolve) => {
      document.addEventListener("visibilitychange", look);
      signal.addEventListener("abort", look, { once: true });
      look();
      function look(): void {
        if (document.hidden && !signal.aborted) return;
        document.removeEventListener("visibilitychange", look);
        signal.removeEventListener("abort", look);
        resolve();
      }
    }),
};
