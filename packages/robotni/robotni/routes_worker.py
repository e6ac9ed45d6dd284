"""The worker API: `/api/worker/…`, jobs as an app's own backend speaks of them."""

import hashlib
import json
import re
from typing import Any, Callable, Dict, List, Literal, Optional

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import Field
from starlette.responses import Response
from typing_extensions import Annotated

from robotni.conditional import conditional, output_response
from robotni.engine import Engine
from robotni.errors import FieldError, InvalidRequest
from robotni.job import RUNNING, Job, Timestamp, View, rfc3339
from robotni.listing import Filters
from robotni.openapi import JOB_ID, body_of, described
from robotni.problems import validated
from robotni.stats import Stats
from robotni.workers import WorkerType

POLL_INTERVAL = "5"
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
JobId = Annotated[str, Path(description="as a submit returned it", examples=[JOB_ID])]


class JobItem(Job):
    """A job in a list: without its output and attempts."""

    output: Optional[str] = Field(None, exclude=True)
    attempts: List[Any] = Field([], exclude=True)


class JobList(View):
    jobs: List[JobItem]
    next_cursor: Optional[str]


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


def job_json(job: Job) -> bytes:
    return job.model_dump_json(by_alias=True).encode()


def job_response(job: Job, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Response:
    if not job.is_terminal:
        headers = {"Retry-After": POLL_INTERVAL, **(headers or {})}
    return Response(job_json(job), status, headers, media_type="application/json")


def location(request: Request, job: Job) -> Dict[str, str]:
    root = request.scope.get("root_path", "")
    return {"Location": f"{root}/api/worker/jobs/{job.job_id}"}


async def raw_body(request: Request) -> bytes:
    return await request.body()


def create_router(
    engine: Engine,
    stats: Stats,
    is_worker_running: Callable[[], bool],
    warm: Callable[[], Dict[str, int]],
    p95_ms: Callable[[], Optional[float]],
) -> APIRouter:
    router = APIRouter(prefix="/api/worker", tags=["worker"])

    @router.post(
        "/jobs",
        status_code=202,
        operation_id="submitJob",
        summary="Submit a job",
        responses={
            200: {"model": Job, "description": "The job this Idempotency-Key made before"},
            202: {"model": Job, "description": "Stored; poll the job at Location"},
            **described(413, 415, 429, 507),
        },
        openapi_extra=body_of("JobRequest"),
    )
    def submit(
        request: Request,
        body: bytes = Depends(raw_body),
        idempotency_key: Optional[str] = Header(
            None, description="the same key and body give the same job", max_length=255
        ),
    ) -> Response:
        if idempotency_key is None:
            job, replayed = engine.submit(validated(body))
        else:
            digest = _digest(idempotency_key, body)
            earlier = engine.replay(idempotency_key, digest)
            if earlier is not None:
                job, replayed = earlier, True
            else:
                job, replayed = engine.submit(validated(body), idempotency_key, digest)
        headers = location(request, job)
        if replayed:
            return job_response(job, 200, {**headers, "Idempotent-Replayed": "true"})
        return job_response(job, 202, headers)

    @router.get(
        "/jobs",
        operation_id="listJobs",
        summary="List jobs, newest first",
        responses={200: {"model": JobList}, **described()},
    )
    def list_jobs(
        request: Request,
        type: Optional[str] = Query(None, max_length=64, examples=["python-script"]),
        status: Optional[str] = Query(
            None, max_length=200, description="comma list", examples=["pending,running"]
        ),
        project: Optional[str] = Query(None, max_length=64),
        q: Optional[str] = Query(
            None, max_length=200, description="start of the script's or module's name, or the id"
        ),
        limit: int = Query(50, ge=1, le=200),
        cursor: Optional[str] = Query(None, max_length=64, description="nextCursor of a page"),
    ) -> Response:
        states = [s.strip() for s in status.split(",") if s.strip()] if status else []
        jobs, following = engine.list(Filters(type, states, project, q), cursor, limit)
        skip = {"output", "attempts"}
        items = b",".join(j.model_dump_json(by_alias=True, exclude=skip).encode() for j in jobs)
        body = b'{"jobs":[%s],"nextCursor":%s}' % (items, json.dumps(following).encode())
        headers = {}
        if following is not None:
            url = request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return conditional(request, body, headers)

    @router.get(
        "/jobs/{jobId}",
        operation_id="getJob",
        summary="One job",
        responses={
            200: {"model": Job, "description": "The job as it is now"},
            304: {"description": "As the ETag in If-None-Match says"},
            **described(404),
        },
    )
    def get_job(request: Request, jobId: JobId) -> Response:
        job = engine.get(jobId)
        headers = {} if job.is_terminal else {"Retry-After": POLL_INTERVAL}
        return conditional(request, job_json(job), headers)

    @router.get(
        "/jobs/{jobId}/output",
        operation_id="getJobOutput",
        summary="The output of an attempt, growing while it runs",
        responses={
            200: {"content": {"text/plain": {"example": "hello\n"}}},
            206: {"description": "From byte N on, for Range: bytes=N-"},
            **described(404, 416),
        },
        response_class=Response,
    )
    def get_output(
        request: Request, jobId: JobId, attempt: Optional[int] = Query(None, ge=1, le=1000)
    ) -> Response:
        return output_response(request, engine.output(jobId, attempt))

    @router.delete(
        "/jobs/{jobId}",
        operation_id="cancelJob",
        summary="Cancel a job",
        responses={
            200: {"model": Job, "description": "Cancelled"},
            202: {"model": Job, "description": "Its processes are being ended; poll"},
            **described(404, 409),
        },
    )
    def cancel_job(request: Request, jobId: JobId) -> Response:
        job = engine.cancel(jobId)
        return job_response(job, 202 if job.status == RUNNING else 200)

    @router.post(
        "/jobs/{jobId}/retry",
        status_code=202,
        operation_id="retryJob",
        summary="A new job from the request of an ended one",
        responses={
            202: {"model": Job, "description": "Stored; poll the job at Location"},
            **described(404, 409, 429, 507),
        },
    )
    def retry_job(request: Request, jobId: JobId) -> Response:
        job = engine.retry(jobId)
        return job_response(job, 202, location(request, job))

    @router.get(
        "/status",
        operation_id="getStatus",
        summary="How the queue and the worker are",
        responses={200: {"model": Status}, **described()},
    )
    def get_status() -> Response:
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
    def list_types(request: Request) -> Response:
        types = [t.model_dump(by_alias=True) for t in engine.types()]
        return conditional(request, json.dumps({"types": types}).encode())

    return router


def _digest(key: str, body: bytes) -> str:
    """Of the body's meaning: spaces and the order of fields do not matter."""
    if not _KEY.match(key):
        raise InvalidRequest(
            [FieldError("", "the Idempotency-Key must be 1 to 255 visible ASCII characters")]
        )
    value = json.loads(body or b"null")
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
