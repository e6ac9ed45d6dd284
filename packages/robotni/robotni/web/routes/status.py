"""State and figures: `/api/worker/status`, `/stats` and `/types`, health checks, `/metrics`."""

import json
from typing import Any, Dict, List, Literal, Optional

from fastapi import FastAPI, Query, Request
from pydantic import Field
from starlette.responses import Response

from robotni.engine.engine import Engine
from robotni.engine.stats import Stats
from robotni.jobs.models import Timestamp, View, rfc3339
from robotni.web.autostart import Autostart
from robotni.web.dispatch import Threads
from robotni.web.metrics import CONTENT_TYPE, RequestTimes, render
from robotni.web.openapi import described
from robotni.web.responses import conditional
from robotni.workers import WorkerType


class Workers(View):
    max: int
    busy: int
    consumer: Literal["running", "idle"]


class WarmFigures(View):
    """Standby interpreters of the worker, and their memory; shared memory is counted in parts."""

    interpreters: int
    memory_bytes: int


class QueueFigures(View):
    pending: int
    scheduled: int
    oldest_pending_seconds: Optional[float]


class Slo(View):
    completed_within_timeout: Optional[float] = Field(
        description="of attempts of the last 24 h that started, the share not ended by timeout"
    )
    api_p95_ms: Optional[float]


class Status(View):
    """Durations are seconds, counts are jobs."""

    status: Literal["ok"]
    version: str
    uptime: float
    poll_interval: int
    workers: Workers
    jobs: Dict[str, int]
    queue: QueueFigures
    slo: Slo
    warm: WarmFigures
    next_wake: Timestamp


class Bucket(View):
    """Jobs that ended in a span that begins at `start`; the percentiles are of the durations of
    completed and failed runs."""

    start: Timestamp
    completed: int
    failed: int
    cancelled: int
    p50_seconds: Optional[float]
    p95_seconds: Optional[float]


class BucketList(View):
    buckets: List[Bucket]


class TypeList(View):
    types: List[WorkerType]


_HEALTHY = {"content": {"application/json": {"example": {"status": "ok"}}}}


def add_routes(
    app: FastAPI,
    engine: Engine,
    stats: Stats,
    threads: Threads,
    autostart: Autostart,
    times: RequestTimes,
) -> None:
    @app.get(
        "/api/worker/status",
        tags=["worker"],
        operation_id="getStatus",
        summary="State of the queue and the worker",
        responses={200: {"model": Status}, **described()},
    )
    @threads.read
    def get_status() -> Response:
        figures = engine.status()
        figures["workers"]["consumer"] = "running" if autostart.is_worker_running() else "idle"
        figures["warm"] = autostart.warm()
        figures["slo"]["apiP95Ms"] = times.p95_ms()
        figures["nextWake"] = rfc3339(figures["nextWake"])
        return Response(json.dumps(figures), media_type="application/json")

    @app.get(
        "/api/worker/stats",
        tags=["worker"],
        operation_id="getStats",
        summary="Jobs that ended in the last hour or day, for charts",
        responses={200: {"model": BucketList}, **described()},
    )
    @threads.search
    def get_stats(
        request: Request,
        window: Literal["1h", "24h"] = Query("1h", description="60 minutes, or 48 half hours"),
    ) -> Response:
        return conditional(request, json.dumps({"buckets": stats.buckets(window)}).encode())

    @app.get(
        "/api/worker/types",
        tags=["worker"],
        operation_id="listTypes",
        summary="The worker types and the schemas of their params",
        responses={200: {"model": TypeList}, **described()},
    )
    @threads.read
    def list_types(request: Request) -> Response:
        types = [t.model_dump(by_alias=True) for t in engine.types()]
        return conditional(request, json.dumps({"types": types}).encode())


def add_health_routes(
    app: FastAPI, engine: Engine, threads: Threads, autostart: Autostart, times: RequestTimes
) -> None:
    """For supervisors, load balancers and Prometheus."""

    @app.get(
        "/livez",
        tags=["health"],
        operation_id="isAlive",
        summary="The process answers",
        responses={200: _HEALTHY},
    )
    async def livez() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["health"],
        operation_id="isReady",
        summary="Store and queue can be used",
        responses={200: _HEALTHY, **described(507)},
    )
    @threads.read
    def readyz() -> Any:
        engine.check()
        return {"status": "ok"}

    @app.get(
        "/metrics",
        tags=["health"],
        operation_id="getMetrics",
        summary="Metrics in the text format of Prometheus",
        responses={
            200: {"content": {"text/plain": {"example": "robotni_workers_max 4.0\n"}}},
            **described(),
        },
        response_class=Response,
    )
    @threads.read
    def get_metrics() -> Response:
        is_running = autostart.is_worker_running()
        text = render(engine.status(), engine.ended_totals(), is_running, times)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})
