// Where the page is: all of it stands in the address, after the #, so that it can be kept and sent.

import { Shared } from "./shared.js";

export const FILTERS = ["status", "type", "project", "q"];

const hash = new Shared(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

/** The view the address names, with what it is about. */
export function useAddress() {
  return parse(hash.use());
}

export function parse(text) {
  const [path, query] = text.replace(/^#?\/?/, "").split("?");
  const [first, second] = path.split("/");
  if (first === "jobs" && /^\w+$/.test(second ?? "")) return { view: "job", jobId: second };
  if (first === "new") return { view: "new", type: second || "python-script" };
  const given = new URLSearchParams(query);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""]));
  return { view: "list", filters };
}

/** The address of a list narrowed by `filters`; empty ones are left out. */
export function listAddress(filters) {
  const query = queryOf(filters);
  return query === "" ? "#/" : `#/?${query}`;
}

export function queryOf(filters) {
  const given = Object.entries(filters).filter(([, value]) => value !== "");
  return new URLSearchParams(given).toString().replaceAll("%2C", ",");
}

/** Goes to a list; `step` is one the back button shall know. */
export function narrow(filters, step = true) {
  const address = listAddress(filters);
  if (address === (location.hash || "#/")) return;
  if (step) {
    location.hash = address;
  } else {
    history.replaceState(null, "", address);
    hash.value = location.hash;
  }
}

export const jobAddress = (jobId) => `#/jobs/${encodeURIComponent(jobId)}`;
