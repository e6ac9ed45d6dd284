/**
 * The handlers against a real robotni: ROBOTNI_URL and ROBOTNI_TOKEN name it, and its project folder
 * holds jobs/report.py and .venv. A recorder stands in only where the question is what is sent.
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import * as jobs from "../app/api/worker/jobs/route";
import * as one from "../app/api/worker/jobs/[jobId]/route";
import type { Job, JobList, Problem } from "../lib/problem";
import { signed } from "../lib/session";

const OURS = ["cache-control", "content-type", "x-content-type-options"];
const APP = "https://app.example";
const PATH = "/api/worker/jobs";
const SECRET = "secret-of-this-test";
const REPORT = { job: "report", params: { month: "2026-11" } };
process.env["SESSION_SECRET"] = SECRET;

function cookie(user: string, expires = Date.now() / 1000 + 60): string {
  return `theme=dark; session=${signed(user, Math.round(expires), SECRET)}`;
}

function request(method: string, path: string, more: Record<string, string> = {}, body?: unknown) {
  const headers = { Host: "app.example", Origin: APP, Cookie: cookie("ada"), ...more };
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json", ...headers };
    init.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  return new Request(APP + path, init);
}

function post(body: unknown, more: Record<string, string> = {}): Promise<Response> {
  return jobs.POST(request("POST", PATH, more, body));
}

function get(jobId: string, more: Record<string, string> = {}): Promise<Response> {
  return one.GET(request("GET", `${PATH}/x`, more), { params: Promise.resolve({ jobId }) });
}

function cancel(jobId: string, more: Record<string, string> = {}): Promise<Response> {
  return one.DELETE(request("DELETE", `${PATH}/x`, more), { params: Promise.resolve({ jobId }) });
}

async function submitted(params = {}): Promise<string> {
  const answer = await post({ job: "report", params: { month: "2026-11", ...params } });
  assert.equal(answer.status, 202);
  return ((await answer.json()) as Job).jobId;
}

async function ended(jobId: string): Promise<Job> {
  for (let i = 0; i < 400; i++) {
    const job = (await (await get(jobId)).json()) as Job;
    if (job.finishedAt !== null) return job;
    await sleep(50);
  }
  throw new Error(`${jobId} has not ended`);
}

async function refused(answer: Response, status: number, code: string): Promise<Problem> {
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
  const problem = JSON.parse(text) as Problem;
  assert.deepEqual([problem.status, problem.code], [status, code]);
  return problem;
}

test("a job of the table runs, and its owner sees it through to the end", async () => {
  const answer = await post(REPORT);
  const job = (await answer.json()) as Job;
  assert.equal(answer.status, 202);
  assert.equal(answer.headers.get("location"), `${PATH}/${job.jobId}`);
  assert.equal(answer.headers.get("retry-after"), "5");
  assert.equal(answer.headers.get("cache-control"), "private, no-store");
  assert.equal(job.project, "user-ada");
  const done = await ended(job.jobId);
  assert.equal(done.status, "completed", done.output ?? "");
  assert.equal(done.output, "report of 2026-11\n");
  assert.deepEqual(done.result, { month: "2026-11" });
});

test("an unchanged job costs a 304, and a tag of `*` tells nobody that a job is there", async () => {
  const jobId = await submitted();
  await ended(jobId);
  const first = await get(jobId);
  const tag = first.headers.get("etag") ?? "";
  assert.match(tag, /^"[0-9a-f]{32}"$/);
  assert.equal(first.headers.get("retry-after"), null);
  const again = await get(jobId, { "If-None-Match": tag });
  assert.deepEqual([again.status, again.headers.get("etag"), await again.text()], [304, tag, ""]);
  const stranger = await get(jobId, { "If-None-Match": "*", Cookie: cookie("eve") });
  await refused(stranger, 404, "not_found");
});

test("the same key gives the same job, to the same user", async () => {
  const key = { "Idempotency-Key": `once-${Date.now()}` };
  const first = (await (await post(REPORT, key)).json()) as Job;
  const again = await post(REPORT, key);
  assert.deepEqual([again.status, again.headers.get("idempotent-replayed")], [200, "true"]);
  assert.equal(((await again.json()) as Job).jobId, first.jobId);
  const other = await post({ job: "report", params: { month: "2026-10" } }, key);
  await refused(other, 422, "invalid_request");
  const stranger = await post(REPORT, { ...key, Cookie: cookie("eve") });
  assert.equal(stranger.status, 202);
});

test("a user sees and cancels his own jobs only", async () => {
  const jobId = await submitted({ seconds: "30" });
  const eve = { Cookie: cookie("eve") };
  await refused(await get(jobId, eve), 404, "not_found");
  await refused(await cancel(jobId, eve), 404, "not_found");
  const list = async (who: Record<string, string>, query: string): Promise<string[]> => {
    const answer = await jobs.GET(request("GET", `${PATH}?${query}`, who));
    assert.equal(answer.status, 200);
    return ((await answer.json()) as JobList).jobs.map((job) => job.jobId);
  };
  assert.ok((await list({}, "status=pending,running")).includes(jobId));
  assert.ok(!(await list(eve, "project=user-ada&limit=200")).includes(jobId));
  const answer = await cancel(jobId);
  assert.ok([200, 202].includes(answer.status));
  assert.equal((await ended(jobId)).status, "cancelled");
  assert.equal((await cancel(jobId)).status, 200);
  const done = await submitted();
  await ended(done);
  await refused(await cancel(done), 409, "conflict");
});

test("nobody without a session gets past the door", async () => {
  const bad = [
    "",
    "session=ada.9999999999.",
    `session=ada.9999999999.${"0".repeat(64)}`,
    cookie("ada", 1),
    cookie("ada").replace("session=ada", "session=eve"),
  ];
  for (const Cookie of bad) {
    await refused(await post(REPORT, { Cookie }), 401, "not_signed_in");
    await refused(await get("0".repeat(32), { Cookie }), 401, "not_signed_in");
    await refused(await cancel("0".repeat(32), { Cookie }), 401, "not_signed_in");
    await refused(await jobs.GET(request("GET", PATH, { Cookie })), 401, "not_signed_in");
  }
  delete process.env["SESSION_SECRET"];
  await refused(await post(REPORT), 401, "not_signed_in");
  process.env["SESSION_SECRET"] = SECRET;
});

test("a page of another site does nothing with the user's cookie", async () => {
  for (const Origin of ["https://evil.example", "null", "https://app.example.evil.example"]) {
    await refused(await post(REPORT, { Origin }), 403, "origin_not_allowed");
    await refused(await cancel("0".repeat(32), { Origin }), 403, "origin_not_allowed");
  }
  const bare = request("POST", PATH, { "Sec-Fetch-Site": "same-site" }, REPORT);
  bare.headers.delete("origin");
  await refused(await jobs.POST(bare), 403, "origin_not_allowed");
  await refused(await post("{}", { "Content-Type": "text/plain" }), 415, "not_json");
  process.env["APP_ORIGIN"] = "https://outside.example";
  await refused(await post(REPORT), 403, "origin_not_allowed");
  assert.equal((await post(REPORT, { Origin: "https://outside.example" })).status, 202);
  delete process.env["APP_ORIGIN"];
});

test("a browser chooses from the table, and nothing else", async () => {
  const month = "2026-11";
  const wishes: [unknown, string][] = [
    [{ job: "../evil", params: {} }, "/job"],
    [{ job: "__proto__" }, "/job"],
    [{ job: "constructor" }, "/job"],
    [{ job: ["report"] }, "/job"],
    [{ script: "evil.py", venv: "/usr" }, "/script"],
    [{ ...REPORT, script: "evil.py" }, "/script"],
    [{ ...REPORT, env: { A: "b" } }, "/env"],
    [{ ...REPORT, project: "user-eve" }, "/project"],
    [{ job: "report", params: { month, config: "/etc/passwd" } }, "/params/config"],
    [{ job: "report", params: { month: "2026-11; id" } }, "/params/month"],
    [{ job: "report", params: { month: "2026-11\n" } }, "/params/month"],
    [{ job: "report", params: { month: ["2026-11", "--x"] } }, "/params/month"],
    ['{"job": "report", "params": {"__proto__": "x"}}', "/params/__proto__"],
    [{ job: "report", params: [] }, "/params"],
    [[], ""],
    ["null", ""],
  ];
  for (const [wish, pointer] of wishes) {
    const { errors } = await refused(await post(wish), 422, "invalid_request");
    assert.ok(errors?.some((error) => error.pointer === pointer), JSON.stringify([wish, errors]));
  }
  await refused(await post("{"), 422, "invalid_json");
  await refused(await post({ ...REPORT, x: "x".repeat(20_000) }), 413, "body_too_large");
});

test("an id that is none never becomes a path", async () => {
  await refused(await get("0".repeat(32)), 404, "not_found");
  const url = process.env["ROBOTNI_URL"];
  process.env["ROBOTNI_URL"] = "http://127.0.0.1:9"; // who asks it gets a 502
  for (const jobId of ["..", "../status", "..%2fstatus", "x?project=", "", "A".repeat(32)]) {
    await refused(await get(jobId), 404, "not_found");
    await refused(await cancel(jobId), 404, "not_found");
  }
  process.env["ROBOTNI_URL"] = url;
});

test("robotni gets the token and what it needs, and nothing of the browser's", async () => {
  const sent: [string, string[], string | undefined][] = [];
  const recorder = createServer((incoming, answer) => {
    const names = Object.keys(incoming.headers).sort();
    sent.push([incoming.headers.host ?? "", names, incoming.headers.authorization]);
    answer.setHeader("Content-Type", "application/json");
    answer.writeHead(202, { "Set-Cookie": "a=b", Server: "x", "WWW-Authenticate": "Bearer" });
    answer.end("{}");
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => recorder.once("listening", resolve));
  const host = `127.0.0.1:${(recorder.address() as AddressInfo).port}`;
  const real = process.env["ROBOTNI_URL"];
  process.env["ROBOTNI_URL"] = `http://${host}/`;
  const answer = await post(REPORT, {
    Authorization: "Bearer of-the-browser",
    "X-Forwarded-For": "10.0.0.1",
    "Idempotency-Key": "k",
  });
  process.env["ROBOTNI_URL"] = real;
  recorder.close();
  assert.deepEqual([...answer.headers.keys()].sort(), OURS);
  const own = ["accept", "accept-encoding", "accept-language", "connection", "content-length"];
  own.push("content-type", "host", "sec-fetch-mode", "user-agent", "authorization");
  const [seen] = sent;
  assert.ok(seen);
  assert.equal(seen[0], host);
  assert.equal(seen[2], `Bearer ${process.env["ROBOTNI_TOKEN"]}`);
  const besides = seen[1].filter((name) => !own.includes(name));
  assert.deepEqual(besides.filter((name) => !/^(cache-control|pragma)$/.test(name)), ["idempotency-key"]);
});

test("faults of this server's set-up do not reach the browser", async (t) => {
  const log = t.mock.method(console, "error", () => undefined);
  const token = process.env["ROBOTNI_TOKEN"];
  process.env["ROBOTNI_TOKEN"] = "wrong-token";
  const { detail } = await refused(await post(REPORT), 502, "misconfigured");
  assert.doesNotMatch(detail, /TOKEN|Bearer/);
  process.env["ROBOTNI_TOKEN"] = token;
  const url = process.env["ROBOTNI_URL"];
  process.env["ROBOTNI_URL"] = "http://127.0.0.1:9";
  await refused(await post(REPORT), 502, "unreachable");
  process.env["ROBOTNI_URL"] = url;
  assert.equal(log.mock.callCount(), 2);
});
