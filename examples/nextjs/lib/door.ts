/** What every handler does first: who asks, whether the app's own page does, and what it sent. */
import { problem } from "./problem";
import { currentUser, type User } from "./session";

const SAFE = new Set(["GET", "HEAD"]);
const MAX_BODY = 16 * 1024;

/** The user, or the answer that refuses him. */
export async function enter(request: Request): Promise<User | Response> {
  if (!SAFE.has(request.method) && !isOwnPage(request)) {
    return problem(403, "origin_not_allowed", "a page of another site may not do this");
  }
  const user = await currentUser(request);
  return user ?? problem(401, "not_signed_in", "sign in, then try again");
}

/**
 * A cookie comes along with whatever another site lets a browser send, so it proves no intent. Behind
 * a proxy that changes Host, APP_ORIGIN says what the app is called outside: https://app.example.
 */
function isOwnPage(request: Request): boolean {
  const origin = request.headers.get("origin");
  if (origin === null) {
    const site = request.headers.get("sec-fetch-site");
    return site === null || site === "same-origin" || site === "none";
  }
  const own = process.env["APP_ORIGIN"];
  if (own) return origin === own;
  const host = request.headers.get("host") ?? new URL(request.url).host;
  return origin === `https://${host}` || origin === `http://${host}`;
}

/** The JSON that was sent, up to 16 KiB of it, or the answer that refuses it. */
export async function readJson(request: Request): Promise<unknown> {
  if (!/^application\/json(;|$)/i.test(request.headers.get("content-type") ?? "")) {
    return problem(415, "not_json", "send JSON, with the header Content-Type: application/json");
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body?.getReader();
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) break;
    size += value.byteLength;
    if (size > MAX_BODY) {
      await reader?.cancel();
      return problem(413, "body_too_large", "the body is over 16 KiB; send less");
    }
    chunks.push(value);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf-8"));
  } catch {
    return problem(422, "invalid_json", "the body is no JSON; mend it", []);
  }
}
