/** `GET` shows one of the user's own jobs, `DELETE` cancels it. */
import { enter } from "../../../../../lib/door";
import { ask, askForOwn, handOn, JOBS } from "../../../../../lib/robotni";

interface Context {
  params: Promise<{ jobId: string }>;
}

export async function GET(request: Request, context: Context): Promise<Response> {
  const user = await enter(request);
  if (user instanceof Response) return user;
  const { jobId } = await context.params;
  const answer = await askForOwn(user, jobId, request.headers.get("if-none-match"));
  return answer instanceof Response ? answer : handOn(answer);
}

export async function DELETE(request: Request, context: Context): Promise<Response> {
  const user = await enter(request);
  if (user instanceof Response) return user;
  const { jobId } = await context.params;
  const own = await askForOwn(user, jobId, null);
  if (own instanceof Response) return own;
  if (own.status !== 200) return handOn(own);
  const answer = await ask({ method: "DELETE", path: `${JOBS}/${jobId}` });
  return answer instanceof Response ? answer : handOn(answer);
}
