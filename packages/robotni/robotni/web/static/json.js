// JSON as it was written: JSON.parse rounds integers beyond 2^53, so what is shown is taken from the
// text.

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s"{}[\],:]+/g;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** The raw text of one member of the object `json`; undefined when it has none of that name. */
export function member(json, name) {
  let depth = 0;
  let isKey = true;
  let start;
  let found = false;
  for (const { 0: token, index } of json.matchAll(TOKEN)) {
    const closes = token === "}" || token === "]";
    if (start !== undefined && depth === 1 && (token === "," || closes)) {
      return json.slice(start, index).trim();
    }
    if (depth === 1 && isKey && token[0] === '"') found = JSON.parse(token) === name;
    if (depth === 1 && token === ":") {
      if (found) start ??= index + 1;
      isKey = false;
    }
    if (depth === 1 && token === ",") isKey = true;
    if (token === "{" || token === "[") depth += 1;
    if (closes) depth -= 1;
  }
  return undefined;
}

/** `json` with two spaces for each level; numbers and texts stay as they are. */
export function pretty(json) {
  let depth = 0;
  let before = "";
  let out = "";
  const newline = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of json.matchAll(TOKEN)) {
    const opened = before === "{" || before === "[";
    if (token === "}" || token === "]") {
      depth -= 1;
      out += opened ? token : newline() + token;
    } else {
      if (opened || before === ",") out += newline();
      out += token === ":" ? ": " : token;
      if (token === "{" || token === "[") depth += 1;
    }
    before = token;
  }
  return out;
}

/** What the user typed, as JSON: a number digit for digit, anything else as a string. */
export function literal(text) {
  return NUMBER.test(text.trim()) ? text.trim() : JSON.stringify(text);
}
