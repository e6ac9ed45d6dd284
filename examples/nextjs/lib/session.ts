/**
 * Who asks. Replace `currentUser` by your app's own check (Auth.js, your session table, …): null for
 * everybody who is not signed in, and for each user an id that is his alone and stays.
 *
 * As it stands it believes a cookie `session=ID.EXPIRES.SIGNATURE` that was signed with
 * SESSION_SECRET, by `signed` below; without the secret nobody is signed in.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

export interface User {
  /** Letters, digits, `_` and `-`, at most 48; jobs are kept apart by it. */
  id: string;
}

const COOKIE = /(?:^|;\s*)session=([A-Za-z0-9_-]{1,48})\.(\d{1,12})\.([0-9a-f]{64})(?:;|$)/;

export async function currentUser(request: Request): Promise<User | null> {
  const secret = process.env["SESSION_SECRET"];
  const [, id, expires, signature] = COOKIE.exec(request.headers.get("cookie") ?? "") ?? [];
  if (!secret || !id || !expires || !signature) return null;
  const right = timingSafeEqual(Buffer.from(signature), Buffer.from(mac(id, expires, secret)));
  return right && Number(expires) > Date.now() / 1000 ? { id } : null;
}

/** The cookie's value for a user who has just signed in; `expires` in seconds since the epoch. */
export function signed(id: string, expires: number, secret: string): string {
  return `${id}.${expires}.${mac(id, String(expires), secret)}`;
}

function mac(id: string, expires: string, secret: string): string {
  return createHmac("sha256", secret).update(`${id}.${expires}`).digest("hex");
}
