// Requests as curl commands that work in a shell on this machine.

import { hasToken } from "./api.js";

/** The request to `path` as a command; a token appears only as the name of its variable. */
export function curl(path, { method = "GET", body, headers = {} } = {}) {
  const words = ["curl"];
  if (method !== "GET" && !(method === "POST" && body !== undefined)) words.push("-X", method);
  if (hasToken()) words.push("-H", '"Authorization: Bearer $ROBOTNI_TOKEN"');
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (body !== undefined) words.push("-H", quoted("Content-Type: application/json"));
  if (body !== undefined) words.push("-d", quoted(body));
  const page = location.href.split("#")[0];
  return [...words, quoted(new URL(path, page).href)].join(" ");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
