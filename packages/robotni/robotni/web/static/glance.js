// At one glance: what the worker does, what waits, whether the promises are kept.

import { get } from "./api.js";
import { html } from "./html.js";
import { Moment } from "./parts.js";
import { usePolled } from "./poll.js";
import { duration } from "./text.js";

/** The figures of the server; undefined until they have come. */
export function useStatus() {
  return usePolled("status", () => get("api/worker/status"));
}

export function Glance({ status }) {
  const { workers, queue, slo, nextWake } = status;
  const oldest = queue.oldestPendingSeconds;
  return html`<dl id="glance" class="glance" aria-label="At one glance">
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
    <${Figure} name="Next wake-up" note="by the clock"><${Moment} at=${nextWake} /><//>
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

/** Never 100 % while one is missing. */
function percent(share) {
  return share === 1 ? "100 %" : `${(Math.floor(share * 10_000) / 100).toFixed(2)} %`;
}
