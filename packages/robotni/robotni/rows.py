"""How a job is written in a row of the store, and read back.

The fields of `Job` are the columns; what is no plain value is JSON text in both SQLite and others.
"""

import json
from typing import Any, Dict

from peewee import BareField, TextField

from robotni.job import Attempt, Job, JobError, Progress

_JSON = frozenset(("args", "params", "env", "error", "progress", "result", "attempts"))
COLUMNS = tuple(name for name in Job.model_fields if name != "output")
LIST_COLUMNS = tuple(name for name in COLUMNS if name not in ("attempts", "stdin"))


class _JsonField(TextField):
    def db_value(self, value: Any) -> Any:
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def python_value(self, value: Any) -> Any:
        return None if value is None else json.loads(value)


def columns() -> Dict[str, Any]:
    """A peewee field for each column of a job."""
    return {name: (_JsonField if name in _JSON else BareField)() for name in COLUMNS}


def plain(value: Any) -> Any:
    if isinstance(value, (JobError, Progress)):
        return value.model_dump()
    if isinstance(value, list):
        return [_attempt_row(v) if isinstance(v, Attempt) else v for v in value]
    return value


def _attempt_row(attempt: Attempt) -> Dict[str, Any]:
    return {**attempt.model_dump(), "run": attempt.run}


def to_row(job: Job) -> Dict[str, Any]:
    return {name: plain(getattr(job, name)) for name in COLUMNS}


def to_job(row: Dict[str, Any]) -> Job:
    row["output_truncated"] = bool(row["output_truncated"])
    if row["error"] is not None:
        row["error"] = JobError.model_construct(**row["error"])
    if row["progress"] is not None:
        row["progress"] = Progress.model_construct(**row["progress"])
    row["attempts"] = [_attempt(a) for a in row.get("attempts") or ()]
    return Job.model_construct(**row)


def _attempt(row: Dict[str, Any]) -> Attempt:
    error = row["error"] and JobError.model_construct(**row["error"])
    return Attempt.model_construct(**{**row, "error": error})
