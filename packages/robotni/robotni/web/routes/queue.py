"""The queue API, `/queue/`, `/add/`, …: the same jobs in Huey's words. A task_id is a jobId."""

from itertools import islice
from typing import Any, Dict, List, Optional

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from robotni.engine.engine import Engine
from robotni.engine.submit import SubmitRequest
from robotni.jobs.models import Job, JobError, State, rfc3339
from robotni.jobs.request import JobRequest
from robotni.jobs.states import CANCELLED, PENDING, SCHEDULED
from robotni.storage.queries import Filters
from robotni.web.dispatch import Threads
from robotni.web.openapi import described
from robotni.web.routes.jobs import JobId

MAX_ITEMS = 200  # of each list


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class AddRequest(_Body):
    x: int = Field(description="of any size")
    y: int = Field(description="of any size")


class FakeJobRequest(_Body):
    seconds: float = Field(10, ge=0, le=86400)


class TaskId(BaseModel):
    task_id: str


class TaskResult(BaseModel):
    task_id: str
    status: State
    result: Any
    error: Optional[JobError]


class QueueItem(BaseModel):
    task_id: str
    name: str
    timestamp: str
    eta: Optional[str]


class Queue(BaseModel):
    """At most 200 of each; `totals` counts all."""

    pending: List[QueueItem]
    scheduled: List[QueueItem]
    revoked: List[QueueItem]
    totals: Dict[str, int]


class Revoked(BaseModel):
    task_id: str
    revoked: bool


class Flushed(BaseModel):
    pending: int
    scheduled: int


def add_routes(app: FastAPI, engine: Engine, threads: Threads) -> None:
    async def submit(type_: str, params: Dict[str, Any]) -> TaskId:
        request = JobRequest(type=type_, params=params)
        submitted = await threads.submit(SubmitRequest(lambda: request))
        return TaskId(task_id=submitted.job.job_id)

    @app.post(
        "/add/",
        tags=["queue"],
        status_code=202,
        operation_id="addNumbers",
        summary="Add two integers, as a job",
        responses=described(413, 415, 429, 507),
    )
    async def add(body: AddRequest) -> TaskId:
        return await submit("add", body.model_dump())

    @app.post(
        "/fakejob/",
        tags=["queue"],
        status_code=202,
        operation_id="startFakeJob",
        summary="A job that waits and reports its progress",
        responses=described(413, 415, 429, 507),
    )
    async def fakejob(body: Optional[FakeJobRequest] = None) -> TaskId:
        return await submit("fakejob", (body or FakeJobRequest()).model_dump())

    @app.get(
        "/result/{task_id}",
        tags=["queue"],
        operation_id="getResult",
        summary="The result of a task; reading does not remove it",
        responses=described(404, 409),
    )
    @threads.read
    def result(task_id: JobId) -> TaskResult:
        job = engine.get(task_id)
        return TaskResult(task_id=job.job_id, status=job.status, result=job.result, error=job.error)

    @app.get(
        "/queue/",
        tags=["queue"],
        operation_id="getQueue",
        summary="Waiting and revoked tasks",
        responses=described(),
    )
    @threads.read
    def queue() -> Queue:
        def items(state: str) -> List[QueueItem]:
            return [_item(job) for job in islice(engine.jobs(Filters(status=[state])), MAX_ITEMS)]

        counts = engine.counts()
        return Queue(
            pending=items(PENDING),
            scheduled=items(SCHEDULED),
            revoked=items(CANCELLED),
            totals={
                "pending": counts[PENDING],
                "scheduled": counts[SCHEDULED],
                "revoked": counts[CANCELLED],
            },
        )

    @app.delete(
        "/queue/{task_id}",
        tags=["queue"],
        operation_id="revokeTask",
        summary="Revoke a task that has not started",
        responses=described(404, 409),
    )
    @threads.write
    def revoke(task_id: JobId) -> Revoked:
        return Revoked(task_id=engine.revoke(task_id).job_id, revoked=True)

    @app.post(
        "/queue/flush/",
        tags=["queue"],
        operation_id="flushQueue",
        summary="Cancel all waiting tasks",
        responses=described(),
    )
    @threads.write
    def flush() -> Flushed:
        return Flushed(**engine.flush())


def _item(job: Job) -> QueueItem:
    return QueueItem(
        task_id=job.job_id,
        name=job.name,
        timestamp=rfc3339(job.timestamp),
        eta=None if job.run_at is None else rfc3339(job.run_at),
    )
