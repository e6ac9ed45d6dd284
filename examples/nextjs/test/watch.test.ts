/** Polling, with answers from a list and a clock that only counts. */
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Job } from "../lib/problem";
import { watchJob, type Means, type Seen } from "../lib/watch";

type Reply = { status: number; body?: unknown; headers?: Record<string, string> } | Error;

/** Runs `replies` dry, then aborts; says what was asked, shown and slept. */
async function watched(replies: Reply[], more: Partial<Means> = {}) {
  const leave = new AbortController();
  const asked: (string | null)[] = [];
  const slept: number[] = [];
  const shown: Seen[] = [];
  const means: Means = {
    fetch: async (_, init) => {
      asked.push(new Headers(init?.headers).get("if-none-match"));
      const reply = replies.shift();
      assert.ok(reply, "one poll too many");
      if (reply instanceof Error) throw reply;
      const body = reply.body === undefined ? null : JSON.stringify(reply.body);
      return new Response(body, { status: reply.status, headers: reply.headers ?? {} });
    },
    sleep: async (seconds) => {
      slept.push(seconds);
      if (replies.length === 0) leave.abort();
    },
    untilVisible: async () => undefined,
    ...more,
  };
  await watchJob("/x", (seen) => shown.push(seen), leave.signal, means);
  return { asked, slept, shown, states: shown.map((seen) => seen.job?.status) };
}

function job(status: Job["status"], headers: Record<string, string> = {}): Reply {
  return { status: 200, body: { status }, headers };
}

test("it polls until the job has ended, and then no more", async () => {
  for (const end of ["completed", "failed", "cancelled"] as const) {
    const { states, slept } = await watched([job("pending"), job("running"), job(end), job(end)]);
    assert.deepEqual(states, ["pending", "running", end]);
    assert.deepEqual(slept, [5, 5]);
  }
});

test("an unchanged job is asked for by its tag, and not shown again", async () => {
  const { asked, states } = await watched([
    job("running", { ETag: '"a"' }),
    { status: 304 },
    job("completed", { ETag: '"b"' }),
  ]);
  assert.deepEqual(asked, [null, '"a"', '"a"']);
  assert.deepEqual(states, ["running", "completed"]);
});

test("it waits as long as Retry-After says, within reason", async () => {
  const after = (value: string): Reply => job("running", { "Retry-After": value });
  const values = ["30", "0", "-1", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT"];
  const { slept } = await watched(values.map(after));
  assert.deepEqual(slept, [30, 1, 1, 3600, 5]);
});

test("nothing is asked while the page is hidden", async () => {
  let show = (): void => assert.fail("nobody waits for the page");
  let polls = 0;
  const untilVisible = (): Promise<void> =>
    polls++ === 1 ? new Promise((resolve) => (show = resolve)) : Promise.resolve();
  const replies = [job("running"), job("completed")];
  const all = watched(replies, { untilVisible });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(replies.length, 1);
  show();
  assert.deepEqual((await all).states, ["running", "completed"]);
});

test("a lost connection, a full queue or a failing server is shown, and passes", async () => {
  const replies = [
    job("running"),
    new TypeError("fetch failed"),
    { status: 429, body: { code: "queue_full" }, headers: { "Retry-After": "7" } },
    { status: 502 },
    { status: 304 },
    job("completed"),
  ];
  const { shown, slept } = await watched(replies);
  const codes = shown.map((seen) => seen.problem?.code ?? null);
  assert.deepEqual(codes, [null, "unreachable", "queue_full", "unreachable", null, null]);
  assert.ok(shown.every((seen) => seen.job !== null));
  assert.deepEqual(slept, [5, 5, 7, 5, 5]);
});

test("what is not there, or not for this user, is not asked for again", async () => {
  for (const status of [401, 403, 404, 422]) {
    const { shown } = await watched([{ status, body: { code: "x" } }, job("running")]);
    assert.deepEqual(shown, [{ job: null, problem: { code: "x" } }]);
  }
});

test("whoever has left is shown nothing more", async () => {
  const leave = new AbortController();
  const shown: Seen[] = [];
  const means: Means = {
    fetch: async () => {
      leave.abort();
      return new Response('{"status": "running"}');
    },
    sleep: async () => undefined,
    untilVisible: async () => undefined,
  };
  await watchJob("/x", (seen) => shown.push(seen), leave.signal, means);
  assert.deepEqual(shown, []);
});
