// The server: every request the page makes. Paths are relative to the page, so a prefix is kept.

import { askForToken } from "./messages.js";

const WITHIN = 20_000;
const WITHIN_LARGE = 300_000;
const TOKEN = "robotni-token";
const REMEMBERED = 30;
const PLACE = /^bytes (\d+)-\d+\/(\d+)$/;
const answers = new Map(); // path -> {etag, text, value}, the latest asked for last

/** The server refused: a problem as RFC 9457 has it. */
export class Problem extends Error {
  constructor(status, { detail, errors }) {
    super(detail);
    this.status = status;
    this.errors = errors ?? [];
  }
}

/** No answer, or one of a proxy whose server is gone. */
export class Unreachable extends Error {
  constructor() {
    super("server not reachable, trying again");
  }
}

/** The server wants a token and the person gave none. */
export class TokenNeeded extends Error {
  constructor() {
    super("a token is needed");
  }
}

/** Whether it is one of the three above; anything else is a fault of the page. */
export function isExpected(error) {
  return [Problem, TokenNeeded, Unreachable].some((known) => error instanceof known);
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/** The answer's `text` and `value`; the very same object as before when nothing has changed. */
export async function read(path, signal) {
  const before = answers.get(path);
  const headers = before?.etag ? { "If-None-Match": before.etag } : {};
  const response = await call(path, { headers, signal });
  const text = await textOf(response); // of a 304 too: left unread, it counts as broken off
  if (response.status === 304 || text === before?.text) return remember(path, before);
  const etag = response.headers.get("ETag");
  return remember(path, { etag, text, value: JSON.parse(text) });
}

export async function get(path, signal) {
  return (await read(path, signal)).value;
}

function remember(path, answer) {
  answers.delete(path);
  answers.set(path, answer);
  if (answers.size > REMEMBERED) answers.delete(answers.keys().next().value);
  return answer;
}

/** Posts `body`, a JSON text, or nothing. */
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
    const response = await call(path, options, WITHIN_LARGE);
    const bytes = new Uint8Array(await received(response.arrayBuffer()));
    const [, first, size] = response.headers.get("Content-Range").match(PLACE);
    return { start: Number(first), bytes, size: Number(size) };
  } catch (error) {
    if (error.status === 416) return { start, bytes: new Uint8Array(), size: start };
    throw error;
  }
}

/** All that was kept of an output, with a line for what was not. */
export async function bytesOf(path) {
  const response = await call(path, { cache: "no-store" }, WITHIN_LARGE);
  return new Uint8Array(await received(response.arrayBuffer()));
}

async function call(path, options, within = WITHIN) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    const signals = [AbortSignal.timeout(within), options.signal].filter(Boolean);
    const signal = AbortSignal.any?.(signals) ?? signals[0]; // older browsers let it go on
    const response = await received(fetch(path, { ...options, headers, signal }));
    if (response.ok || response.status === 304) return response;
    if (response.status !== 401) throw await problemOf(response);
    if (token === sessionStorage.getItem(TOKEN)) await renewToken(token !== null);
  }
}

async function renewToken(refused) {
  const token = await askForToken(refused);
  if (token === "") throw new TokenNeeded();
  sessionStorage.setItem(TOKEN, token);
}

function textOf(response) {
  return received(response.text());
}

/** What `promise` gives; a broken connection is Unreachable. */
async function received(promise) {
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
  const plain = { detail: `the server answered ${response.status} ${response.statusText}` };
  return new Problem(response.status, isProblem ? JSON.parse(text) : plain);
}
