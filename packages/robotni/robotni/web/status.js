// The status line: how many jobs are in each state, and what the worker does.

import { get } from "./api.js";
import { badge, byId, element, put } from "./html.js";

/** Asks now; the function it gives draws. */
export async function loadStatus() {
  const { jobs, workers } = await get("api/worker/status");
  return () => {
    const counts = Object.entries(jobs).map(([state, count]) =>
      element("li", {}, badge(state), " ", element("b", {}, count)),
    );
    put(byId("counts"), ...counts);
    const busy = `${workers.busy} of ${workers.max} workers busy`;
    put(byId("workers"), `${busy}, consumer ${workers.consumer}`);
  };
}
