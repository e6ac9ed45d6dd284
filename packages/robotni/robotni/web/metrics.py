"""How long requests take, and everything that `/metrics` says, as Prometheus text.

Figures of jobs, queue and worker are read from the database when asked for, so every web process of
a data directory says the same, also after a restart. Only request times are this process's own. No
label holds what a user may choose.
"""

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import Any, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from robotni.jobs.states import PENDING

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
RECENT = 1000  # requests that the percentile is of
_METHODS = frozenset(("GET", "HEAD", "POST", "DELETE", "OPTIONS"))


class Histogram(NamedTuple):
    """`counts` has the requests in each of BUCKETS, and those beyond the last."""

    method: str
    status_class: str
    counts: List[int]
    seconds: float


class RequestTimes:
    """Counts requests by method, class of status (such as `2xx`) and duration since the start of
    the process, and keeps the last 1,000 durations. Uploads and downloads count."""

    def __init__(self) -> None:
        self._counts: Dict[Tuple[str, str], List[int]] = {}
        self._seconds: Dict[Tuple[str, str], float] = {}
        self._recent: Deque[float] = deque(maxlen=RECENT)

    def observe(self, method: str, status: int, seconds: float) -> None:
        labels = (method if method in _METHODS else "other", f"{status // 100}xx")
        counts = self._counts.setdefault(labels, [0] * (len(BUCKETS) + 1))
        counts[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[labels] = self._seconds.get(labels, 0.0) + seconds
        self._recent.append(seconds)

    def p95_ms(self) -> Optional[float]:
        """Milliseconds, within which 95 % of the last requests were answered; None before one."""
        recent = sorted(self._recent)
        return round(1000 * recent[int(0.95 * (len(recent) - 1))], 3) if recent else None

    def histograms(self) -> List[Histogram]:
        return [
            Histogram(*labels, list(counts), self._seconds[labels])
            for labels, counts in list(self._counts.items())
        ]


def render(
    status: Dict[str, Any],
    ended: Iterable[Tuple[str, str, int]],
    is_worker_running: bool,
    times: RequestTimes,
) -> bytes:
    """All metrics as Prometheus text. `status` holds the figures of `/api/worker/status`; `ended`
    has (state, error code or "", jobs) of all jobs that ever ended."""
    # Imported here: 1.4 MB that a server needs only when it is monitored.
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    figures: Any = _Figures(status, ended, is_worker_running, times)
    registry.register(figures)
    ProcessCollector(registry=registry)
    text: bytes = generate_latest(registry)
    return text


class _Figures:
    """What a registry of prometheus_client collects, from the arguments of `render`."""

    def __init__(
        self,
        status: Dict[str, Any],
        ended: Iterable[Tuple[str, str, int]],
        is_worker_running: bool,
        times: RequestTimes,
    ) -> None:
        self._status = status
        self._ended = ended
        self._is_worker_running = is_worker_running
        self._times = times

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core
        from prometheus_client.utils import floatToGoString

        info = core.GaugeMetricFamily("robotni_info", "Always 1.", labels=["version"])
        info.add_metric([self._status["version"]], 1)
        yield info
        jobs = core.GaugeMetricFamily("robotni_jobs", "Jobs in each state.", labels=["state"])
        for state, count in self._status["jobs"].items():
            jobs.add_metric([state], count)
        yield jobs
        ended = core.CounterMetricFamily(
            "robotni_jobs_ended",
            "Jobs that ended, by state and error code; the clean-up lowers nothing.",
            labels=["state", "code"],
        )
        for state, code, count in self._ended:
            ended.add_metric([state, code], count)
        yield ended
        for name, text, value in self._gauges():
            yield core.GaugeMetricFamily(name, text, value)
        times = core.HistogramMetricFamily(
            "robotni_http_request_duration_seconds",
            "Time from a request to the end of its answer, in this process.",
            labels=["method", "status"],
        )
        bounds = [*map(floatToGoString, BUCKETS), "+Inf"]
        for method, status_class, counts, seconds in self._times.histograms():
            buckets = list(zip(bounds, accumulate(counts)))
            times.add_metric([method, status_class], buckets, seconds)
        yield times

    def _gauges(self) -> Iterator[Tuple[str, str, float]]:
        queue, workers = self._status["queue"], self._status["workers"]
        yield "robotni_queue_depth", "Jobs that wait for a free worker.", queue[PENDING]
        yield (
            "robotni_queue_oldest_pending_seconds",
            "How long the oldest of them has waited; 0 when none does.",
            queue["oldestPendingSeconds"] or 0,
        )
        yield "robotni_workers_max", "Scripts that run at once, at most.", workers["max"]
        yield "robotni_workers_busy", "Scripts that run.", workers["busy"]
        yield (
            "robotni_worker_up",
            "1 while a worker process lives; it leaves when idle.",
            int(self._is_worker_running),
        )
        share = self._status["slo"]["completedWithinTimeout"]
        if share is not None:
            yield (
                "robotni_completed_within_timeout_ratio",
                "Of attempts of the last 24 hours, the share not ended by timeout.",
                share,
            )
        yield (
            "robotni_next_wake_timestamp_seconds",
            "When the worker is next needed by the clock.",
            self._status["nextWake"],
        )
