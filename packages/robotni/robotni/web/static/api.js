// Every request that the page makes to the server. Paths are relative to the page, so that they hold
// under any prefix.

import { askForToken } from "./messages.js";

const TIMEOUT = 20_000; // ms
const DOWNLOAD_TIMEOUT = 300_000;
const TOKEN = "robotni-token";
const MAX_CACHED = 30;
const CONTENT_RANGE = /^bytes (\d+)-\d+\/(\d+)$/;
const cache = new Map(); // path -> {etag, text, value}, the most recently used last

/** The server refused the request, with a problem as in RFC 9457. */
export class Problem extends Error {
  constructor(status, { detail, errors }) {
    super(detail);
    this.status = status;
    this.errors = errors ?? [];
  }
}

/** No answer, or that of a proxy that cannot reach the server. */
export class Unreachable extends Error {
  constructor() {
    super("server not reachable, trying again");
  }
}

/** The server requires a token, and the user gave none. */
export class TokenNeeded extends Error {
  constructor() {
    super("a token is needed");
  }
}

/** Whether it is one of the three above; anything else is an error in the page. */
export function isExpected(error) {
  return [Problem, TokenNeeded, Unreachable].some((known) => error instanceof known);
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/** The answer's `text` and `value`; the same object as before when nothing has changed. */
export async function read(path, signal) {
  const before = cache.get(path);
  const headers = before?.etag ? { "If-None-Match": before.etag } : {};
  const response = await call(path, { headers, signal });
  const text = await textOf(response); // also of a 304: left unread, it would count as aborted
  if (response.status === 304 || text === before?.text) return keep(path, before);
  const etag = response.headers.get("ETag");
  return keep(path, { etag, text, value: JSON.parse(text) });
}

export async function get(path, signal) {
  return (await read(path, signal)).value;
}

function keep(path, answer) {
  cache.delete(path);
  cache.set(path, answer);
  if (cache.size > MAX_CACHED) cache.delete(cache.keys().next().value);
  return answer;
}

/** Posts `body`, a JSON text, or no body. */
export async function post(path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  return JSON.parse(await textOf(await call(path, { method: "POST", headers, body })));
}

export async function remove(path) {
  return JSON.parse(await textOf(await call(path, { method: "DELETE" })));
}

/** A part of an output from byte `start` on, or behind what was left out there: `{start, bytes,
 * size}`, size with what is left out; no bytes when there are no more. */
export async function partFrom(path, start) {
  const options = { cache: "no-store", headers: { Range: `bytes=${start}-` } };
  try {
    const response = await call(path, options, DOWNLOAD_TIMEOUT);
    const bytes = new Uint8Array(await orUnreachable(response.arrayBuffer()));
    const [, first, size] = response.headers.get("Content-Range").match(CONTENT_RANGE);
    return { start: Number(first), bytes, size: Number(size) };
  } catch (error) {
    if (error.status === 416) return { start, bytes: new Uint8Array(), size: start };
    throw error;
  }
}

/** All that was kept of an output, with a line for what was not. */
export async function bytesOf(path) {
  const response = await call(path, { cache: "no-store" }, DOWNLOAD_TIMEOUT);
  return new Uint8Array(await orUnreachable(response.arrayBuffer()));
}

async function call(path, options, timeout = TIMEOUT) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    const signals = [AbortSignal.timeout(timeout), options.signal].filter(Boolean);
    const signal = AbortSignal.any?.(signals) ?? signals[0]; // older browsers do not abort
    const response = await orUnreachable(fetch(path, { ...options, headers, signal }));
    if (response.ok || response.status === 304) return response;
    if (response.status !== 401) throw await problemOf(response);
    if (token === sessionStorage.getItem(TOKEN)) await renewToken(token !== null);
  }
}

async function renewToken(isRefused) {
  const token = await askForToken(isRefused);
  if (token === "") throw new TokenNeeded();
  sessionStorage.setItem(TOKEN, token);
}

function textOf(response) {
  return orUnreachable(response.text());
}

/** The value of `promise`; Unreachable when the connection broke. */
async function orUnreachable(promise) {
  try {
    return await promise;
  } catch {
    throw new Unreachable();
  }
}

async function problemOf(response) {
  if ([502, 503, 504].includes(response.status)) return new Unreachable();
  const text = await textOf(response);
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const otherwise = { detail: `the server answered ${response.status} ${response.statusText}` };
  return new Problem(response.status, isProblem ? JSON.parse(text) : otherwise);
}
