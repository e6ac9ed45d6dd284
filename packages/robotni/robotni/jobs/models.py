"""The record of a job, as it is stored and as the API shows it; its ids and its times.

Where a job is (`status`) and how it ended (`exitCode`, `signal`, `error`) are separate fields. This
module knows neither the transitions between states (`states.py`) nor what decides how a run ended
(`outcome.py`). No I/O and no clock: a time is an argument, in seconds since the epoch.
"""

import os
import time
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from typing_extensions import Annotated, Literal

from robotni.jobs.states import RUNNING, TERMINAL


def rfc3339(seconds: float) -> str:
    """`2026-11-22T12:00:00.000Z`, rounded to milliseconds."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    return f"{_without_fraction(whole)}.{millis:03d}Z"


@lru_cache(maxsize=1024)  # many times in a list of jobs share a second
def _without_fraction(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]


SHORTEST_ID = 8  # digits at the end of an id that may stand for all of it


def new_job_id(now: float) -> str:
    """32 hex digits: a UUIDv7 (RFC 9562, method 3). Ids sort by creation time, to a microsecond."""
    ticks = int(now * 1000 * 4096)  # 48 bits of milliseconds, 12 bits of their fraction
    millis, fraction = (ticks >> 12) & ((1 << 48) - 1), ticks & 0xFFF
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return f"{(millis << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << 62) | random:032x}"


Timestamp = Annotated[
    float,
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Seconds = Annotated[
    float,
    PlainSerializer(lambda s: int(s) if s == int(s) else s, when_used="json"),
    WithJsonSchema({"type": "number"}, mode="serialization"),
]
State = Literal["scheduled", "pending", "running", "completed", "failed", "cancelled"]


class View(BaseModel):
    """Base of what the API shows: fields are camelCase in JSON, and none is left out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
    )


class JobError(View):
    """Why a job or an attempt failed: a code, and a sentence that says what to do."""

    code: Literal[
        "exit_nonzero",
        "signalled",
        "timeout",
        "out_of_memory",
        "spawn_failed",
        "lost",
        "expired",
        "result_invalid",
    ]
    message: str


class Attempt(View):
    """One start of a job, and how it ended."""

    attempt: int
    started_at: Timestamp
    finished_at: Optional[Timestamp] = None
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    error: Optional[JobError] = None
    run: int = Field(0, exclude=True)  # names the folder of its files


class Progress(View):
    percent: float
    message: str


class Job(View):
    """What a job runs, where it is (`status`) and how it ended (`exitCode`, `signal`, `error`).

    Times are RFC 3339 in UTC, durations are seconds.
    """

    # One row of the database. In Python a time is in seconds since the epoch.

    job_id: str
    type: str = "python-script"
    project: str = "default"
    status: State = "pending"
    timestamp: Timestamp
    output: Optional[str] = None
    script: Optional[str] = None
    module: Optional[str] = None
    venv: Optional[str] = None
    args: List[str] = []
    params: Dict[str, Any] = {}
    cwd: str = ""
    env: Annotated[
        Dict[str, str],
        PlainSerializer(sorted, return_type=List[str], when_used="json"),
        WithJsonSchema({"type": "array", "items": {"type": "string"}}, mode="serialization"),
    ] = {}
    warm: bool = False
    preload: List[str] = []
    timeout: Seconds = 3600
    expires: Optional[Seconds] = None
    attempt: int = 0
    max_attempts: int = 1
    retry_of: Optional[str] = None
    run_at: Optional[Timestamp] = None
    started_at: Optional[Timestamp] = None
    finished_at: Optional[Timestamp] = None
    cancel_requested_at: Optional[Timestamp] = None
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    error: Optional[JobError] = None
    progress: Optional[Progress] = None
    result: Any = None
    output_bytes: int = 0
    output_truncated: bool = False
    attempts: List[Attempt] = []

    # Stored, but not shown by the API. `run` counts claims, and `attempt` the starts a user sees;
    # `name` is what a search looks at: the base name of the script, the module, or the type.
    name: str = Field("", exclude=True)
    stdin: Optional[str] = Field(None, exclude=True)
    retry_delay: float = Field(0, exclude=True)
    run: int = Field(0, exclude=True)
    pending_since: Optional[float] = Field(None, exclude=True)
    idempotency_key: Optional[str] = Field(None, exclude=True)
    request_digest: Optional[str] = Field(None, exclude=True)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def run_of(self, attempt: int) -> Optional[int]:
        """The number of the run that is or was attempt number `attempt`; None if there is none."""
        if attempt == self.attempt and self.status == RUNNING:
            return self.run
        return next((a.run for a in self.attempts if a.attempt == attempt), None)


def local_date(now: float) -> str:
    """The local calendar date, such as `2026-11-22`."""
    return time.strftime("%Y-%m-%d", time.localtime(now))


def next_midnight(now: float) -> float:
    """The next local midnight, in seconds since the epoch."""
    local = time.localtime(now)
    return time.mktime((local.tm_year, local.tm_mon, local.tm_mday + 1, 0, 0, 0, 0, 0, -1))
