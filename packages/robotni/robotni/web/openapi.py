"""What the framework cannot write into the OpenAPI document itself: error answers and examples.

Errors are described once, as a component. Examples are added at the end, since the framework drops
every null from the examples that it is given.
"""

from typing import Any, Dict

from pydantic.json_schema import models_json_schema

from robotni.jobs.models import Attempt, Job
from robotni.jobs.states import STATES
from robotni.web.problems import Problem

JOB_ID = "01936f3e8c7a7d1e9b2f4c5a6d7e8f90"
_REF = "#/components/schemas/{model}"
_MEANINGS = {
    401: "ROBOTNI_TOKEN is set, and the request does not have it",
    403: "This Host or Origin is not allowed",
    404: "No such job, task, output or page",
    409: "The job's state forbids it, or the shortened id stands for several jobs",
    413: "The body is over 1 MiB",
    415: "The body is not application/json",
    416: "The output is not that long yet; Content-Range has its size",
    422: "The request is wrong; errors points at each wrong field",
    429: "ROBOTNI_MAX_PENDING jobs wait already; see Retry-After",
    503: "The machine lacks something for now, or robotni.db was replaced; detail says what to do",
    507: "The disk is full",
}


def described(*statuses: int) -> Dict[Any, Dict[str, Any]]:
    """The error answers of an operation; 401, 403, 422 and 503 are possible everywhere."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {
        status: {"description": _MEANINGS[status], "content": content}
        for status in (*statuses, 401, 403, 422, 503)
    }


def complete(document: Dict[str, Any]) -> Dict[str, Any]:
    """`document` with the schema of a problem, the token, and an example in each schema."""
    schemas = document["components"]["schemas"]
    _, found = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas.update(found["$defs"])
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "ROBOTNI_TOKEN, where set"}
    }
    document["security"] = [{}, {"token": []}]
    for name, example in _examples().items():
        schemas[name]["example"] = example
    return document


def _examples() -> Dict[str, Any]:
    job = Job(
        job_id=JOB_ID,
        status="running",
        timestamp=1795348800,
        script="/srv/app/jobs/hello.py",
        venv="/srv/app/.venv",
        args=["--n", "3"],
        cwd="/srv/app",
        attempt=1,
        started_at=1795348800.012,
        attempts=[Attempt(attempt=1, started_at=1795348800.012)],
    ).model_dump(mode="json", by_alias=True)
    item = {name: value for name, value in job.items() if name not in ("output", "attempts")}
    task = {"task_id": JOB_ID, "name": "add", "timestamp": job["timestamp"], "eta": None}
    return {
        "JobRequest": {"script": "jobs/hello.py", "venv": ".venv", "args": ["--n", "3"]},
        "Job": job,
        "JobList": {"jobs": [item], "nextCursor": JOB_ID},
        "Status": {
            "status": "ok",
            "version": "1.0",
            "uptime": 60.5,
            "pollInterval": 5,
            "workers": {"max": 4, "busy": 0, "consumer": "running"},
            "jobs": dict.fromkeys(STATES, 0),
            "queue": {"pending": 0, "scheduled": 0, "oldestPendingSeconds": None},
            "slo": {"completedWithinTimeout": 1.0, "apiP95Ms": 4.2},
            "warm": {"interpreters": 1, "memoryBytes": 31457280},
            "nextWake": "2026-11-23T00:00:00.000Z",
        },
        "BucketList": {
            "buckets": [
                {
                    "start": "2026-11-22T12:00:00.000Z",
                    "completed": 3,
                    "failed": 1,
                    "cancelled": 0,
                    "p50Seconds": 0.4,
                    "p95Seconds": 2.5,
                }
            ]
        },
        "TypeList": {
            "types": [
                {
                    "type": "add",
                    "title": "Add",
                    "description": "Adds two integers of any size.",
                    "capabilities": ["cancel", "timeout", "retry", "output", "progress", "result"],
                    "schema": {"type": "object", "properties": {"x": {"type": "integer"}}},
                }
            ]
        },
        "AddRequest": {"x": 5, "y": 3},
        "FakeJobRequest": {"seconds": 10},
        "TaskId": {"task_id": JOB_ID},
        "TaskResult": {"task_id": JOB_ID, "status": "completed", "result": 8, "error": None},
        "Queue": {
            "pending": [task],
            "scheduled": [],
            "revoked": [],
            "totals": {"pending": 1, "scheduled": 0, "revoked": 0},
        },
        "Revoked": {"task_id": JOB_ID, "revoked": True},
        "Flushed": {"pending": 3, "scheduled": 1},
    }
