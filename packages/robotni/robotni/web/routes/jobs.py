"""The worker API: `/api/worker/…`, jobs as an app's own backend speaks of them."""

import hashlib
import json
import re
from functools import partial
from typing import Any, Dict, List, Optional

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response
from typing_extensions import Annotated

from robotni.engine.engine import Engine
from robotni.engine.submit import SubmitRequest
from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.models import Job, View
from robotni.jobs.states import RUNNING
from robotni.storage.queries import Filters
from robotni.web.body import JSON
from robotni.web.disconnect import while_wanted
from robotni.web.dispatch import Lane, Together
from robotni.web.fast_route import Straight
from robotni.web.openapi import JOB_ID, body_of, described, header_of
from robotni.web.problems import validated
from robotni.web.responses import conditional, output_response

POLL_INTERVAL = "5"
MAX_KEY = 255
_KEY = re.compile(r"[\x21-\x7e]+\Z")
_KEY_HEADER = header_of(
    "Idempotency-Key", "the same key and body give the same job", {"maxLength": MAX_KEY}
)
JobId = Annotated[str, Path(description="as a submit returned it", examples=[JOB_ID])]


class JobItem(Job):
    """A job in a list: without its output and attempts."""

    output: Optional[str] = Field(None, exclude=True)
    attempts: List[Any] = Field([], exclude=True)


class JobList(View):
    jobs: List[JobItem]
    next_cursor: Optional[str]


def job_json(job: Job) -> bytes:
    return job.model_dump_json(by_alias=True).encode()


def job_response(job: Job, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Response:
    if not job.is_terminal:
        headers = {"Retry-After": POLL_INTERVAL, **(headers or {})}
    return Response(job_json(job), status, headers, media_type="application/json")


def location(request: Request, job: Job) -> Dict[str, str]:
    root = request.scope.get("root_path", "")
    return {"Location": f"{root}/api/worker/jobs/{job.job_id}"}


def create_router(engine: Engine, reads: Lane, searches: Lane, writes: Lane) -> APIRouter:
    router = APIRouter(prefix="/api/worker", tags=["worker"], route_class=Straight)
    submits = Together(writes, engine.submit_all)

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
        openapi_extra={**body_of("JobRequest"), "parameters": [_KEY_HEADER]},
    )
    async def submit(request: Request) -> Response:
        key = request.headers.get("idempotency-key")
        asked = partial(validated, request.scope.get(JSON, {}))
        digest = partial(_digest, key or "", request.scope.get(JSON))
        job, replayed = await submits(SubmitRequest(asked, key, digest))
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
    async def list_jobs(
        request: Request,
        type: Optional[str] = Query(None, max_length=64, examples=["python-script"]),
        status: Optional[str] = Query(
            None, max_length=200, description="comma list", examples=["pending,running"]
        ),
        project: Optional[str] = Query(None, max_length=64),
        q: Optional[str] = Query(
            None,
            max_length=200,
            description="start of the script's or module's name, or of the id; at most 20,000 jobs "
            "are searched for a page, so a page may be short, even empty, and have a nextCursor",
        ),
        limit: int = Query(
            50, ge=1, le=200, description="jobs in a page; fewer where they hold over 1 MiB"
        ),
        cursor: Optional[str] = Query(None, max_length=64, description="nextCursor of a page"),
    ) -> Response:
        states = [s.strip() for s in status.split(",") if s.strip()] if status else []
        filters = Filters(type, states, project, q)
        found = search if filters.is_search else read
        return await found(request, filters, cursor, limit)

    def listed(request: Request, filters: Filters, cursor: Optional[str], limit: int) -> Response:
        jobs, following = engine.list(filters, cursor, limit)
        skip = {"output", "attempts"}
        items = b",".join(j.model_dump_json(by_alias=True, exclude=skip).encode() for j in jobs)
        body = b'{"jobs":[%s],"nextCursor":%s}' % (items, json.dumps(following).encode())
        headers = {}
        if following is not None:
            url = request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return conditional(request, body, headers)

    read, search = reads(listed), searches(while_wanted(listed))

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
    @reads
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
            206: {
                "description": "From byte N on, for Range: bytes=N-; the last N, for bytes=-N. "
                "Where a part of the output was left out, it begins behind that, or ends before"
            },
            **described(404, 416),
        },
        response_class=Response,
    )
    @reads
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
    @writes
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
    @writes
    def retry_job(request: Request, jobId: JobId) -> Response:
        job = engine.retry(jobId)
        return job_response(job, 202, location(request, job))

    return router


def _digest(key: str, value: Any) -> str:
    """Of the body's meaning: spaces and the order of fields do not matter."""
    if len(key) > MAX_KEY:
        long = f"string should have at most {MAX_KEY} characters"
        raise InvalidRequest([FieldError("/idempotency-key", long)], f"/idempotency-key: {long}")
    if not _KEY.match(key):
        raise InvalidRequest(
            [FieldError("", "the Idempotency-Key must be 1 to 255 visible ASCII characters")]
        )
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
