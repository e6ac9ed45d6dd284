"""How a job is written in a row of the store, and read back.

The fields of `Job` are the columns; what is no plain value is JSON text. The statements of the hot
path stand here as text, since building them costs more than running them.
"""

import json
from typing import Any, Dict, Mapping, Optional, Sequence

from robotni.jobs.models import Attempt, Job, JobError, Progress

COLUMNS = tuple(name for name in Job.model_fields if name != "output")
LIST_COLUMNS = tuple(name for name in COLUMNS if name not in ("attempts", "stdin"))
SELECT = f"SELECT {', '.join(COLUMNS)} FROM job"
INSERT = f"INSERT INTO job ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_JSON = frozenset(("args", "params", "env", "error", "progress", "result", "attempts", "preload"))
_encode = json.JSONEncoder(ensure_ascii=False).encode
_BLANK = Job(job_id="", timestamp=0)


def cells_of(job: Job) -> Sequence[Any]:
    """The values of `INSERT`."""
    values = job.__dict__
    return [_to_cell(name, values[name]) if name in _JSON else values[name] for name in COLUMNS]


def to_cells(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Fields of a job as the database takes them."""
    return {name: _to_cell(name, value) for name, value in values.items()}


def to_job(cells: Sequence[Any], names: Sequence[str] = COLUMNS) -> Job:
    """The job of a row that was selected as `names`."""
    row = dict(zip(names, cells))
    for name in _JSON:
        cell = row.get(name)
        if cell is not None:
            row[name] = _from_json(cell)
    row["output_truncated"] = bool(row["output_truncated"])
    row["warm"] = bool(row["warm"])
    row["error"] = _error(row["error"])
    if row["progress"] is not None:
        row["progress"] = Progress.model_construct(**row["progress"])
    attempts = row.get("attempts") or ()
    row["attempts"] = [
        Attempt.model_construct(**{**attempt, "error": _error(attempt["error"])})
        for attempt in attempts
    ]
    return _BLANK.model_copy(update=row)  # quicker than to construct one; the store is trusted


def _to_cell(name: str, value: Any) -> Any:
    return _to_json(value) if name in _JSON and value is not None else value


def _from_json(cell: str) -> Any:
    if cell == "[]":  # most cells are empty, and to parse those is half of reading a row
        return []
    return {} if cell == "{}" else json.loads(cell)


def _to_json(value: Any) -> str:
    if not value and isinstance(value, (list, dict)):
        return "[]" if isinstance(value, list) else "{}"
    if isinstance(value, (JobError, Progress)):
        value = value.model_dump()
    elif isinstance(value, list):
        value = [
            {**item.model_dump(), "run": item.run} if isinstance(item, Attempt) else item
            for item in value
        ]
    return _encode(value)


def _error(value: Optional[Dict[str, Any]]) -> Optional[JobError]:
    return None if value is None else JobError.model_construct(**value)
