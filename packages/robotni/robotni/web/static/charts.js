// Charts of the last hour or day: how much ended, and how long it took.

import { get } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { usePolled } from "./poll.js";
import { dark } from "./theme-button.js";
import { duration } from "./text.js";

const HEIGHT = 130;
const ENDINGS = ["completed", "failed", "cancelled"];
const WINDOWS = { "1h": "hour", "24h": "day" };

/** A colour of the style sheet, in the current theme, as a canvas takes it. */
function color(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export function Charts() {
  const [span, setSpan] = useState("1h");
  const stats = usePolled(`stats ${span}`, (signal) => get(`api/worker/stats?window=${span}`, signal));
  const shown = useRef();
  if (stats !== undefined) shown.current = stats.buckets;
  const buckets = shown.current;
  return html`<section id="charts" aria-labelledby="charts-title">
    <div class="bar">
      <h2 id="charts-title">Last ${WINDOWS[span]}</h2>
      <div class="switch" role="group" aria-label="Span of the charts">
        ${Object.keys(WINDOWS).map(
          (name) =>
            html`<button type="button" aria-pressed=${name === span} onClick=${() => setSpan(name)}>${name}</button>`,
        )}
      </div>
    </div>
    <div class="charts">
      <${Chart} name="Ended" of=${throughput} buckets=${buckets} summary=${summaryOfEnded} />
      <${Chart} name="Duration" of=${durations} buckets=${buckets} summary=${summaryOfDurations} />
    </div>
  </section>`;
}

function Chart({ name, of, buckets, summary }) {
  const place = useRef();
  const isDark = dark.use();
  const isLoaded = buckets !== undefined;
  const plot = useRef();
  useEffect(() => {
    if (!isLoaded) return undefined;
    const size = () => ({ width: Math.max(200, place.current.clientWidth), height: HEIGHT });
    const drawn = { ...of(), ...size() };
    plot.current = new uPlot(drawn, columns(of, buckets), place.current);
    const observer = new ResizeObserver(() => plot.current.setSize(size()));
    observer.observe(place.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
  }, [isDark, isLoaded]);
  useEffect(() => {
    if (isLoaded) plot.current.setData(columns(of, buckets));
  }, [buckets]);
  return html`<figure>
    <figcaption><b>${name}</b> ${buckets && summary(buckets)}</figcaption>
    <div ref=${place} class="plot" aria-hidden="true"></div>
  </figure>`;
}

function columns(of, buckets) {
  const times = buckets.map(({ start }) => new Date(start) / 1000);
  return [times, ...of.columns(buckets)];
}

/** Stacked bars: each is drawn from zero, the highest first. */
function throughput() {
  const places = { completed: 3, failed: 2, cancelled: 1 };
  const own = (plot, place, index) =>
    plot.data[place][index] - (place === 3 ? 0 : plot.data[place + 1][index]);
  const value = (state) => (plot, _, __, index) =>
    index === null ? "–" : own(plot, places[state], index);
  const bars = uPlot.paths.bars({ size: [0.75, 40], align: 1 });
  const series = [...ENDINGS].reverse().map((state) => ({
    label: state,
    fill: color(`--${state}`),
    stroke: color(`--${state}`),
    width: 0,
    paths: bars,
    points: { show: false },
    value: value(state),
  }));
  return options(series, (_, values) => values.map((value) => (value % 1 ? "" : value)));
}
throughput.columns = (buckets) => {
  const sum = (bucket, states) => states.reduce((total, state) => total + bucket[state], 0);
  return [3, 2, 1].map((count) => buckets.map((bucket) => sum(bucket, ENDINGS.slice(0, count))));
};

function durations() {
  const value = (_, seconds) => (seconds === null ? "–" : duration(seconds));
  const line = (label, name) => ({
    label,
    stroke: color(name),
    width: 1.5,
    value,
    points: { show: true, size: 4, fill: color(name) },
  });
  const series = [line("p50", "--accent"), line("p95", "--scheduled")];
  return options(series, (_, values) => values.map((value) => duration(value)));
}
durations.columns = (buckets) => [
  buckets.map((bucket) => bucket.p50Seconds),
  buckets.map((bucket) => bucket.p95Seconds),
];

function options(series, values) {
  const axis = {
    stroke: color("--soft"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const time = { hour: "2-digit", minute: "2-digit" };
  return {
    cursor: { sync: { key: "robotni" }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: {
      x: { range: (plot, first, last) => [first, last + spanOf(plot)] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    series: [
      {
        label: "from",
        value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleTimeString([], time)),
      },
      ...series,
    ],
    axes: [
      { ...axis, size: 24, values: (_, at) => at.map((s) => new Date(s * 1000).toLocaleTimeString([], time)) },
      { ...axis, size: 52, space: 28, values },
    ],
  };
}

/** Seconds of a bucket: the last one needs room, too. */
const spanOf = ({ data: [times] }) => times[1] - times[0];

function summaryOfEnded(buckets) {
  const total = (state) => buckets.reduce((sum, bucket) => sum + bucket[state], 0);
  return ENDINGS.map((state) => `${total(state).toLocaleString()} ${state}`).join(", ");
}

function summaryOfDurations(buckets) {
  const latest = buckets.findLast((bucket) => bucket.p50Seconds !== null);
  if (latest === undefined) return "nothing ran";
  return `latest p50 ${duration(latest.p50Seconds)}, p95 ${duration(latest.p95Seconds)}`;
}
