// The part of the address after the #: which view is shown, and with which filters. So every view
// can be bookmarked and sent.

import { Shared } from "./shared.js";

export const FILTERS = ["status", "type", "project", "q"];

const hash = new Shared(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

/** The view that the address names, with its job, type or filters. */
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

/** The address of the list with these filters; empty ones are left out. */
export function listAddress(filters) {
  const query = queryOf(filters);
  return query === "" ? "#/" : `#/?${query}`;
}

export function queryOf(filters) {
  const given = Object.entries(filters).filter(([, value]) => value !== "");
  return new URLSearchParams(given).toString().replaceAll("%2C", ",");
}

/** Shows the list with these filters. With `addToHistory` the back button returns from it. */
export function showList(filters, addToHistory = true) {
  const address = listAddress(filters);
  if (address === (location.hash || "#/")) return;
  if (addToHistory) {
    location.hash = address;
  } else {
    history.replaceState(null, "", address);
    hash.value = location.hash;
  }
}

export const jobAddress = (jobId) => `#/jobs/${encodeURIComponent(jobId)}`;
