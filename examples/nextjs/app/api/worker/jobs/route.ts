/** `POST` submits a job from the table in lib/jobs.ts; `GET` lists the user's own. */
import { enter, readJson } from "../../../../lib/door";
import { jobRequest, projectOf } from "../../../../lib/jobs";
import { ask, conditional, handOn, idempotency, JOBS, locationOf } from "../../../../lib/robotni";

export async function POST(request: Request): Promise<Response> {
  const user = await enter(request);
  if (user instanceof Response) return user;
  const wish = await readJson(request);
  if (wish instanceof Response) return wish;
  const body = jobRequest(wish, user);
  if (body instanceof Response) return body;
  const headers = idempotency(request, user);
  const answer = await ask({ method: "POST", path: JOBS, body, headers });
  return answer instanceof Response ? answer : handOn(answer, locationOf(request, answer));
}

export async function GET(request: Request): Promise<Response> {
  const user = await enter(request);
  if (user instanceof Response) return user;
  const given = new URL(request.url).searchParams;
  const query = new URLSearchParams({ project: projectOf(user) });
  for (const name of ["status", "limit", "cursor"]) {
    const value = given.get(name);
    if (value !== null) query.set(name, value);
  }
  const headers = conditional(request.headers.get("if-none-match"));
  const answer = await ask({ method: "GET", path: `${JOBS}?${query}`, headers });
  return answer instanceof Response ? answer : handOn(answer);
}
