"""The worker API for jobs, `/api/worker/jobs…`: submit, list, get, output, cancel, retry."""

import hashlib
import json
import re
from functools import partial
from typing import Any, Dict, List, Optional

from fastapi import FastAPI, Header, Path, Query, Request
from pydantic import Field
from starlette.responses import Response
from typing_extensions import Annotated

from robotni.engine.engine import Engine
from robotni.engine.submit import SubmitRequest
from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.models import SHORTEST_ID, Job, View
from robotni.jobs.request import JobRequest
from robotni.jobs.states import RUNNING, STATES
from robotni.storage.queries import Filters
from robotni.web.body import JSON
from robotni.web.dispatch import Threads
from robotni.web.openapi import JOB_ID, described
from robotni.web.responses import conditional, output_response

POLL_INTERVAL = "5"
MAX_KEY = 255
_KEY = re.compile(r"[\x21-\x7e]+\Z")
JobId = Annotated[
    str,
    Path(
        description=f"as a submit returned it, or its last {SHORTEST_ID} or more digits",
        examples=[JOB_ID],
    ),
]


class JobItem(Job):
    """A job in a list: without its output and attempts."""

    output: Optional[str] = Field(None, exclude=True)
    attempts: List[Any] = Field([], exclude=True)


class JobList(View):
    jobs: List[JobItem]
    next_cursor: Optional[str]


def add_routes(app: FastAPI, engine: Engine, threads: Threads) -> None:
    @app.post(
        "/api/worker/jobs",
        tags=["worker"],
        status_code=202,
        operation_id="submitJob",
        summary="Submit a job",
        responses={
            200: {"model": Job, "description": "The job that this Idempotency-Key made earlier"},
            202: {"model": Job, "description": "Stored; poll the job at Location"},
            **described(413, 415, 429, 507),
        },
    )
    async def submit(
        request: Request,
        body: JobRequest,
        idempotency_key: Optional[str] = Header(
            None, max_length=MAX_KEY, description="the same key and body give the same job"
        ),
    ) -> Response:
        if idempotency_key is not None:
            _check_key(idempotency_key)
        digest = partial(_digest, request.scope[JSON])
        job, replayed = await threads.submit(SubmitRequest(lambda: body, idempotency_key, digest))
        headers = _location(request, job)
        if replayed:
            return _job_response(job, 200, {**headers, "Idempotent-Replayed": "true"})
        return _job_response(job, 202, headers)

    @app.get(
        "/api/worker/jobs",
        tags=["worker"],
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
        states = [s.strip() for s in status.split(",") if s.strip()] if status is not None else []
        if status is not None and not states:
            detail = f"no state is named; leave status out, or name some of {', '.join(STATES)}"
            raise InvalidRequest([FieldError("/status", detail)])
        filters = Filters(type, states, project, q)
        get_page = search_page if filters.is_search else read_page
        return await get_page(request, filters, cursor, limit)

    def page(request: Request, filters: Filters, cursor: Optional[str], limit: int) -> Response:
        jobs, next_cursor = engine.list(filters, cursor, limit)
        left_out = {"output", "attempts"}
        items = b",".join(
            job.model_dump_json(by_alias=True, exclude=left_out).encode() for job in jobs
        )
        body = b'{"jobs":[%s],"nextCursor":%s}' % (items, json.dumps(next_cursor).encode())
        headers = {}
        if next_cursor is not None:
            url = request.url.include_query_params(cursor=next_cursor)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return conditional(request, body, headers)

    read_page, search_page = threads.read(page), threads.search(page)

    @app.get(
        "/api/worker/jobs/{jobId}",
        tags=["worker"],
        operation_id="getJob",
        summary="One job",
        responses={
            200: {"model": Job, "description": "The job as it is now"},
            304: {"description": "Not changed since the ETag in If-None-Match"},
            **described(404, 409),
        },
    )
    @threads.read
    def get_job(request: Request, jobId: JobId) -> Response:
        job = engine.get(jobId)
        headers = {} if job.is_terminal else {"Retry-After": POLL_INTERVAL}
        return conditional(request, _json(job), headers)

    @app.get(
        "/api/worker/jobs/{jobId}/output",
        tags=["worker"],
        operation_id="getJobOutput",
        summary="The output of an attempt, growing while it runs",
        responses={
            200: {"content": {"text/plain": {"example": "hello\n"}}},
            206: {
                "description": "From byte N on, for Range: bytes=N-; the last N, for bytes=-N. "
                "Where a part of the output was left out, it begins behind that, or ends before"
            },
            **described(404, 409, 416),
        },
        response_class=Response,
    )
    @threads.read
    def get_output(
        request: Request, jobId: JobId, attempt: Optional[int] = Query(None, ge=1, le=1000)
    ) -> Response:
        return output_response(request, engine.output(jobId, attempt))

    @app.delete(
        "/api/worker/jobs/{jobId}",
        tags=["worker"],
        operation_id="cancelJob",
        summary="Cancel a job",
        responses={
            200: {"model": Job, "description": "Cancelled"},
            202: {"model": Job, "description": "Its processes are being stopped; poll"},
            **described(404, 409),
        },
    )
    @threads.write
    def cancel_job(jobId: JobId) -> Response:
        job = engine.cancel(jobId)
        return _job_response(job, 202 if job.status == RUNNING else 200)

    @app.post(
        "/api/worker/jobs/{jobId}/retry",
        tags=["worker"],
        status_code=202,
        operation_id="retryJob",
        summary="A new job from the request of an ended one",
        responses={
            202: {"model": Job, "description": "Stored; poll the job at Location"},
            **described(404, 409, 429, 507),
        },
    )
    @threads.write
    def retry_job(request: Request, jobId: JobId) -> Response:
        job = engine.retry(jobId)
        return _job_response(job, 202, _location(request, job))


def _json(job: Job) -> bytes:
    return job.model_dump_json(by_alias=True).encode()


def _job_response(
    job: Job, status: int = 200, headers: Optional[Dict[str, str]] = None
) -> Response:
    if not job.is_terminal:
        headers = {"Retry-After": POLL_INTERVAL, **(headers or {})}
    return Response(_json(job), status, headers, media_type="application/json")


def _location(request: Request, job: Job) -> Dict[str, str]:
    root = request.scope.get("root_path", "")
    return {"Location": f"{root}/api/worker/jobs/{job.job_id}"}


def _check_key(key: str) -> None:
    if not _KEY.match(key):
        detail = f"the Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters"
        raise InvalidRequest([FieldError("/idempotency-key", detail)])


def _digest(value: Any) -> str:
    """A hash of the body's value; spaces and the order of fields do not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
