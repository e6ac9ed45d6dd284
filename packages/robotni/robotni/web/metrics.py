"""The metrics: Prometheus text of what the database knows, and of this process's own answers.

Figures of jobs, queue and worker are read when asked for, so every web process of a data directory
says the same, also after a restart. Only times of answers are this process's. No label holds what
a user may choose.
"""

from itertools import accumulate
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from robotni.jobs.states import PENDING
from robotni.web.latency import SECONDS, Answers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """`status` gives the figures of `/api/worker/status`; `ended` jobs by state and error code."""

    def __init__(
        self,
        status: Callable[[], Dict[str, Any]],
        ended: Callable[[], List[Tuple[str, str, int]]],
        is_worker_running: Callable[[], bool],
        answers: Answers,
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Figures(status, ended, is_worker_running))
        ProcessCollector(registry=self._registry)
        self._registry.register(_Times(answers))

    def render(self) -> bytes:
        text: bytes = generate_latest(self._registry)
        return text


class _Times(Collector):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        times = HistogramMetricFamily(
            "robotni_http_request_duration_seconds",
            "Time from a request to the end of its answer, in this process.",
            labels=["method", "status"],
        )
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        for labels, counts, seconds in self._answers:
            times.add_metric(labels, list(zip(bounds, accumulate(counts))), seconds)
        yield times


class _Figures(Collector):
    def __init__(
        self,
        status: Callable[[], Dict[str, Any]],
        ended: Callable[[], List[Tuple[str, str, int]]],
        is_worker_running: Callable[[], bool],
    ) -> None:
        self._status = status
        self._ended = ended
        self._is_worker_running = is_worker_running

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        info = GaugeMetricFamily("robotni_info", "Always 1.", labels=["version"])
        info.add_metric([status["version"]], 1)
        yield info
        yield _by_state("robotni_jobs", "Jobs in each state.", status["jobs"].items())
        ended = CounterMetricFamily(
            "robotni_jobs_ended",
            "Jobs that ended, by state and error code; the clean-up lowers nothing.",
            labels=["state", "code"],
        )
        for state, code, jobs in self._ended():
            ended.add_metric([state, code], jobs)
        yield ended
        yield from self._gauges(status)

    def _gauges(self, status: Dict[str, Any]) -> Iterator[Metric]:
        queue, workers, slo = status["queue"], status["workers"], status["slo"]
        yield GaugeMetricFamily(
            "robotni_queue_depth", "Jobs that wait for a free worker.", queue[PENDING]
        )
        yield GaugeMetricFamily(
            "robotni_queue_oldest_pending_seconds",
            "How long the oldest of them has waited; 0 when none does.",
            queue["oldestPendingSeconds"] or 0,
        )
        yield GaugeMetricFamily(
            "robotni_workers_max", "Scripts that run at once, at most.", workers["max"]
        )
        yield GaugeMetricFamily("robotni_workers_busy", "Scripts that run.", workers["busy"])
        yield GaugeMetricFamily(
            "robotni_worker_up",
            "1 while a worker process lives; it leaves when idle.",
            int(self._is_worker_running()),
        )
        if slo["completedWithinTimeout"] is not None:
            yield GaugeMetricFamily(
                "robotni_completed_within_timeout_ratio",
                "Of attempts of the last 24 hours, the share not ended by timeout.",
                slo["completedWithinTimeout"],
            )
        yield GaugeMetricFamily(
            "robotni_next_wake_timestamp_seconds",
            "When the worker is next needed by the clock.",
            status["nextWake"],
        )


def _by_state(name: str, text: str, counts: Iterable[Tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in counts:
        family.add_metric([state], count)
    return family
