/** Names for the types of the API, and errors in its form (RFC 9457). */
import type { components } from "./openapi";

export type Job = components["schemas"]["Job"];
export type JobList = components["schemas"]["JobList"];
export type JobRequest = components["schemas"]["JobRequest"];
export type Problem = components["schemas"]["Problem"];
export type FieldError = components["schemas"]["ProblemError"];

const TITLES: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  500: "Internal Server Error",
  502: "Bad Gateway",
};

/** Headers of every answer: it is one user's, and is what its Content-Type says. */
export const OURS = { "Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff" };

export function problem(
  status: number,
  code: string,
  detail: string,
  errors?: FieldError[],
): Response {
  const body: Problem = { title: TITLES[status] ?? "Error", status, detail, code };
  if (errors) body.errors = errors;
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/problem+json", ...OURS },
  });
}
