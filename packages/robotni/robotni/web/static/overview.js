// The figures at the top: what the worker does, what waits, how much stays within its limits.

import { get } from "./api.js";
import { html } from "./html.js";
import { Moment } from "./parts.js";
import { usePolled } from "./poll.js";
import { duration } from "./text.js";

/** The server's figures; undefined until they are loaded. */
export function useStatus() {
  return usePolled("status", () => get("api/worker/status"));
}

export function Overview({ status }) {
  const { workers, queue, slo, nextWake } = status;
  const oldest = queue.oldestPendingSeconds;
  return html`<dl id="overview" class="overview" aria-label="Overview">
    <${Figure} name="Workers busy" note=${`consumer ${workers.consumer}`}>
      ${workers.busy}<small> of ${workers.max}</small>
      <meter max=${workers.max} value=${workers.busy} aria-label="Workers busy"></meter>
    <//>
    <${Figure} name="Oldest waiting" note=${waiting(queue)}>
      ${oldest === null ? "none" : duration(oldest)}
    <//>
    <${Figure} name="Within timeout" note="attempts of 24 h">
      ${slo.completedWithinTimeout === null ? "–" : percent(slo.completedWithinTimeout)}
    <//>
    <${Figure} name="API p95" note="last 1000 requests">
      ${slo.apiP95Ms === null ? "–" : `${+slo.apiP95Ms.toPrecision(2)} ms`}
    <//>
    <${Figure} name="Next wake-up" note="of the worker"><${Moment} at=${nextWake} /><//>
  </dl>`;
}

function Figure({ name, note, children }) {
  return html`<div>
    <dt>${name}</dt>
    <dd class="value">${children}</dd>
    <dd class="note">${note}</dd>
  </div>`;
}

function waiting({ pending, scheduled }) {
  return `${pending} pending, ${scheduled} scheduled`;
}

/** 100 % only if it is exactly that. */
function percent(share) {
  return share === 1 ? "100 %" : `${(Math.floor(share * 10_000) / 100).toFixed(2)} %`;
}
