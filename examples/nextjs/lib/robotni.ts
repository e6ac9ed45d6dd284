/**
 * Calls robotni from the server. Nothing of the browser's request goes along but what is named here:
 * no cookie, no Host, no Origin. The token comes from the server's environment and never leaves it;
 * so no variable of this file may ever begin with NEXT_PUBLIC_.
 */
import { createHash } from "node:crypto";

import { OURS, problem, type Job, type Problem } from "./problem";
import { projectOf } from "./jobs";
import type { User } from "./session";

export const JOBS = "/api/worker/jobs";
const JOB_ID = /^[0-9a-f]{32}$/;
const ETAG = /^(W\/)?"[\x21\x23-\x7e]{1,80}"$/;
const HANDED_ON = ["Content-Type", "ETag", "Retry-After", "Idempotent-Replayed"];
const PATIENCE = 10_000; // milliseconds

export interface Call {
  method: "GET" | "POST" | "DELETE";
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
}

/** robotni's answer, its text read once. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
}

/** Asks robotni; a Response when it cannot be asked, or refuses this server. */
export async function ask(call: Call): Promise<Answer | Response> {
  const token = process.env["ROBOTNI_TOKEN"];
  const headers = new Headers(call.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const init: RequestInit = {
    method: call.method,
    headers,
    cache: "no-store",
    redirect: "manual",
    signal: AbortSignal.timeout(PATIENCE),
  };
  if (call.body !== undefined) {
    headers.set("Content-Type", "application/json");
    init.body = JSON.stringify(call.body);
  }
  const base = (process.env["ROBOTNI_URL"] ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
  try {
    const answer = await fetch(base + call.path, init);
    return judged(call, { status: answer.status, headers: answer.headers, text: await answer.text() });
  } catch (error) {
    console.error(`robotni at ${base}: ${String(error)}`);
    return problem(502, "unreachable", "the job server does not answer; try again later");
  }
}

/** Faults of this server's own set-up go to its log, not to the browser. */
function judged(call: Call, answer: Answer): Answer | Response {
  const { status, text } = answer;
  const told = status >= 200 && status < 300;
  const isOurFault = status === 401 || status === 403 || status === 415;
  if (!told && status !== 304 && (status < 400 || isOurFault || isOfTheTable(call, answer))) {
    console.error(`robotni answered ${call.method} ${call.path} with ${status}: ${text.slice(0, 500)}`);
    return problem(502, "misconfigured", "the job server refuses this app; its log says why");
  }
  return answer;
}

/** Whether a 422 is about what lib/jobs.ts chose: the browser chooses params only. */
function isOfTheTable(call: Call, answer: Answer): boolean {
  if (call.method !== "POST" || answer.status !== 422) return false;
  const { errors } = JSON.parse(answer.text) as Problem;
  return (errors ?? []).some(({ pointer }) => pointer !== "" && !pointer.startsWith("/params"));
}

/** robotni's answer as the browser gets it. The text stays as it came: so do integers of any size. */
export function handOn(answer: Answer, more: Record<string, string> = {}): Response {
  const headers = new Headers({ ...OURS, ...more });
  for (const name of HANDED_ON) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(answer.status === 304 ? null : answer.text, { status: answer.status, headers });
}

/**
 * A job of this user's, or a 404 that says no more than any other. A 304 needs no look at the owner:
 * its tag is a digest of the whole job, which only who has seen the job can name; `*` is not passed.
 */
export async function askForOwn(user: User, jobId: string, tag: string | null): Promise<Answer | Response> {
  if (!JOB_ID.test(jobId)) return unknown();
  const headers = conditional(tag);
  const answer = await ask({ method: "GET", path: `${JOBS}/${jobId}`, headers });
  if (answer instanceof Response || answer.status === 304) return answer;
  if (answer.status !== 200) return answer.status === 404 ? unknown() : answer;
  return (JSON.parse(answer.text) as Job).project === projectOf(user) ? answer : unknown();
}

function unknown(): Response {
  return problem(404, "not_found", "there is no such job");
}

export function conditional(tag: string | null): Record<string, string> {
  return tag !== null && ETAG.test(tag) ? { "If-None-Match": tag } : {};
}

/** Two users who choose the same key mean two jobs. */
export function idempotency(request: Request, user: User): Record<string, string> {
  const key = request.headers.get("idempotency-key");
  if (key === null) return {};
  const digest = createHash("sha256").update(`${projectOf(user)}\n${key}`).digest("hex");
  return { "Idempotency-Key": digest };
}

/** Where the job is for the browser, whatever the path of robotni or of this app. */
export function locationOf(request: Request, answer: Answer): Record<string, string> {
  const jobId = answer.headers.get("Location")?.split("/").pop() ?? "";
  if (!JOB_ID.test(jobId)) return {};
  return { Location: `${new URL(request.url).pathname.replace(/\/+$/, "")}/${jobId}` };
}
