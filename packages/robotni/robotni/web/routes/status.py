"""The worker API's figures: `/api/worker/status`, `/stats`, `/types`."""

import json
from typing import Callable, Dict, List, Literal, Optional

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from robotni.engine.engine import Engine
from robotni.engine.stats import Stats
from robotni.jobs.models import Timestamp, View, rfc3339
from robotni.web.disconnect import while_wanted
from robotni.web.dispatch import Lane
from robotni.web.fast_route import Straight
from robotni.web.openapi import described
from robotni.web.responses import conditional
from robotni.workers import WorkerType


class Workers(View):
    max: int
    busy: int
    consumer: Literal["running", "idle"]


class WarmFigures(View):
    """Warm interpreters; of memory that several processes share each counts its part."""

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
    """What ended within a span that begins at `start`; seconds are of completed and failed runs."""

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


def create_router(
    engine: Engine,
    stats: Stats,
    reads: Lane,
    searches: Lane,
    is_worker_running: Callable[[], bool],
    warm: Callable[[], Dict[str, int]],
    p95_ms: Callable[[], Optional[float]],
) -> APIRouter:
    router = APIRouter(prefix="/api/worker", tags=["worker"], route_class=Straight)

    @router.get(
        "/status",
        operation_id="getStatus",
        summary="How the queue and the worker are",
        responses={200: {"model": Status}, **described()},
    )
    @reads
    def get_status(request: Request) -> Response:
        figures = engine.status()
        figures["workers"]["consumer"] = "running" if is_worker_running() else "idle"
        figures["warm"] = warm()
        figures["slo"]["apiP95Ms"] = p95_ms()
        figures["nextWake"] = rfc3339(figures["nextWake"])
        return Response(json.dumps(figures), media_type="application/json")

    @router.get(
        "/stats",
        operation_id="getStats",
        summary="What ended in the last hour or day, for charts",
        responses={200: {"model": BucketList}, **described()},
    )
    @searches
    @while_wanted
    def get_stats(
        request: Request,
        window: Literal["1h", "24h"] = Query("1h", description="60 minutes, or 48 half hours"),
    ) -> Response:
        return conditional(request, json.dumps({"buckets": stats.buckets(window)}).encode())

    @router.get(
        "/types",
        operation_id="listTypes",
        summary="The worker types and the schemas of their params",
        responses={200: {"model": TypeList}, **described()},
    )
    @reads
    def list_types(request: Request) -> Response:
        types = [t.model_dump(by_alias=True) for t in engine.types()]
        return conditional(request, json.dumps({"types": types}).encode())

    return router
