"""How a job is written to a row of the table `job`, and read back.

The columns are the fields of `Job`, less `output`, which is a file; lists, objects and models are
JSON text. A row is not validated when it is read: that is quicker, and a process of an older
version can read what a newer one wrote.
"""

import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type

from robotni.jobs.models import Attempt, Job, JobError, Progress, View

COLUMNS = tuple(name for name in Job.model_fields if name != "output")
LIST_COLUMNS = tuple(name for name in COLUMNS if name not in ("attempts", "stdin"))
SELECT = f"SELECT {', '.join(COLUMNS)} FROM job"
INSERT = f"INSERT INTO job ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_JSON = frozenset(("args", "params", "env", "error", "progress", "result", "attempts", "preload"))
_encode = json.JSONEncoder(ensure_ascii=False, default=vars).encode  # a model as its fields
_decode = json.JSONDecoder().decode
_BLANK = Job(job_id="", timestamp=0)


def cells_of(job: Job) -> List[Any]:
    """The values of `INSERT`."""
    values = vars(job)
    return [_to_cell(name, values[name]) for name in COLUMNS]


def to_cells(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Fields of a job as the database takes them."""
    return {name: _to_cell(name, value) for name, value in values.items()}


def _to_cell(name: str, value: Any) -> Any:
    return _encode(value) if name in _JSON and value is not None else value


def to_job(cells: Sequence[Any], names: Sequence[str] = COLUMNS) -> Job:
    """The job of a row that was selected as `names`, `COLUMNS` or `LIST_COLUMNS`."""
    row = dict(zip(names, cells))
    for name in _JSON:
        if row.get(name) is not None:
            row[name] = _decode(row[name])
    row["warm"] = bool(row["warm"])
    row["output_truncated"] = bool(row["output_truncated"])
    row["error"] = _to_model(JobError, row["error"])
    row["progress"] = _to_model(Progress, row["progress"])
    row["attempts"] = [
        Attempt.model_construct(**{**attempt, "error": _to_model(JobError, attempt["error"])})
        for attempt in row.get("attempts", ())
    ]
    return _BLANK.model_copy(update=row)  # takes half the time of model_construct


def _to_model(model: Type[View], values: Optional[Dict[str, Any]]) -> Any:
    return None if values is None else model.model_construct(**values)
