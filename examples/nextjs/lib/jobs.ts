/**
 * What a browser may ask for: one of these names, with these params. Script, environment and time
 * limit are written here and nowhere else, so no request can choose a path, a variable or a flag.
 */
import { problem, type FieldError, type JobRequest } from "./problem";
import type { User } from "./session";

interface Kind {
  /** Relative to robotni's project folder. */
  script: string;
  venv: string;
  /** Seconds. */
  timeout: number;
  /** The params it takes, all of them text that matches as a whole. */
  params: Readonly<Record<string, RegExp>>;
}

const KINDS = new Map<string, Kind>([
  [
    "report",
    {
      script: "jobs/report.py",
      venv: ".venv",
      timeout: 600,
      params: { month: /\d{4}-(0[1-9]|1[0-2])/, seconds: /\d{1,2}/ },
    },
  ],
]);

/** The jobs of a user carry this label; he sees no others. */
export function projectOf(user: User): string {
  return `user-${user.id}`;
}

/** What robotni is asked for `wish`, the browser's `{"job": "report", "params": {…}}`. */
export function jobRequest(wish: unknown, user: User): JobRequest | Response {
  if (!isRecord(wish)) return unusable([{ pointer: "", detail: "send a JSON object" }]);
  const errors: FieldError[] = Object.keys(wish)
    .filter((name) => name !== "job" && name !== "params")
    .map((name) => ({ pointer: pointer(name), detail: "there is no such field; send job, params" }));
  const kind = typeof wish["job"] === "string" ? KINDS.get(wish["job"]) : undefined;
  if (!kind) {
    errors.push({ pointer: "/job", detail: `name one of: ${[...KINDS.keys()].join(", ")}` });
    return unusable(errors);
  }
  const params = wish["params"] ?? {};
  errors.push(...faultsOf(params, kind));
  if (errors.length > 0) return unusable(errors);
  const { script, venv, timeout } = kind;
  return { script, venv, timeout, params: { ...(params as object) }, project: projectOf(user) };
}

function faultsOf(params: unknown, kind: Kind): FieldError[] {
  if (!isRecord(params)) return [{ pointer: "/params", detail: "send a JSON object" }];
  const allowed = new Map(Object.entries(kind.params));
  return Object.entries(params).flatMap(([name, value]) => {
    const shape = allowed.get(name);
    if (!shape) {
      const detail = `there is no such param; there are: ${[...allowed.keys()].join(", ")}`;
      return [{ pointer: `/params${pointer(name)}`, detail }];
    }
    if (typeof value === "string" && new RegExp(`^(?:${shape.source})$`).test(value)) return [];
    return [{ pointer: `/params${pointer(name)}`, detail: `write text that matches ${shape.source}` }];
  });
}

function unusable(errors: FieldError[]): Response {
  return problem(422, "invalid_request", errors.map((error) => error.detail).join("; "), errors);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function pointer(name: string): string {
  return `/${name.slice(0, 80).replaceAll("~", "~0").replaceAll("/", "~1")}`;
}
