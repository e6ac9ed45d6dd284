"""The job: its record, the six states, the legal moves between them, and how a run ends.

Where a job is (`status`) and how it ended (`exitCode`, `signal`, `error`) are separate things.
`TRANSITIONS` is the only list of moves; `outcome` the only place that judges an ended run.
No I/O, no clock: time comes in as an argument, in seconds since the epoch.
"""

import os
import time
from datetime import datetime, timezone
from functools import lru_cache
from signal import Signals
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from typing_extensions import Annotated, Literal

SCHEDULED, PENDING, RUNNING = "scheduled", "pending", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
STATES = (SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)
TERMINAL: FrozenSet[str] = frozenset((COMPLETED, FAILED, CANCELLED))
WAITING: FrozenSet[str] = frozenset((SCHEDULED, PENDING))

# verb -> (states it may start from, state it leads to)
TRANSITIONS: Dict[str, Tuple[FrozenSet[str], str]] = {
    "due": (frozenset((SCHEDULED,)), PENDING),
    "claim": (frozenset((PENDING,)), RUNNING),
    "release": (frozenset((RUNNING,)), PENDING),  # it provably never started
    "requeue": (frozenset((RUNNING,)), PENDING),  # another attempt, now
    "postpone": (frozenset((RUNNING,)), SCHEDULED),  # another attempt, later
    "complete": (frozenset((RUNNING,)), COMPLETED),
    "fail": (frozenset((RUNNING,)), FAILED),
    "abort": (frozenset((RUNNING,)), CANCELLED),  # a cancelled run that has ended
    "request_cancel": (frozenset((RUNNING,)), RUNNING),
    "cancel": (WAITING, CANCELLED),
    "expire": (frozenset((PENDING,)), FAILED),
}

EXIT_NONZERO, SIGNALLED, TIMEOUT = "exit_nonzero", "signalled", "timeout"
OUT_OF_MEMORY, SPAWN_FAILED, LOST, EXPIRED = "out_of_memory", "spawn_failed", "lost", "expired"
LONGEST_DELAY = 365 * 86400  # seconds; where doubling ends


def rfc3339(seconds: float) -> str:
    """`2026-11-22T12:00:00.000Z`; milliseconds are rounded, never cut."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    return f"{_until_seconds(whole)}.{millis:03d}Z"


@lru_cache(maxsize=1024)  # those of a list lie close together
def _until_seconds(whole: int) -> str:
    stamp = datetime.fromtimestamp(whole, timezone.utc).isoformat()  # strftime asks for the zone
    return stamp[:19]


def new_job_id(now: float) -> str:
    """32 hex digits, a UUIDv7 (RFC 9562, method 3): sorts by creation time, to the microsecond."""
    ticks = int(now * 1000 * 4096)  # 48 bits of milliseconds, 12 of their fraction
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
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
    )


class JobError(View):
    """Why a job or an attempt failed: a fixed code and one sentence a person can act on."""

    code: Literal[
        "exit_nonzero",
        "signalled",
        "timeout",
        "out_of_memory",
        "spawn_failed",
        "lost",
        "expired",
    ]
    message: str


class Attempt(View):
    """One start of a job. `run` names the folder with its files and is not shown."""

    attempt: int
    started_at: Timestamp
    finished_at: Optional[Timestamp] = None
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    error: Optional[JobError] = None
    run: int = Field(0, exclude=True)


class Progress(View):
    percent: float
    message: str


class Job(View):
    """The record of a job: one row of the store and, less the excluded fields, the API's answer.

    Times are RFC 3339 UTC in JSON and seconds since the epoch in Python; durations are seconds.
    """

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
        """The run that was (or is) attempt number `attempt`; None when there was none."""
        if attempt == self.attempt and self.status == RUNNING:
            return self.run
        return next((a.run for a in self.attempts if a.attempt == attempt), None)


class ExitFacts(NamedTuple):
    """What is known of an ended run. `stopped_by` is the reason robotni signalled it, if it did;
    `last_line` the end of its output, which for a traceback names the exception."""

    exit_code: Optional[int] = None
    signal: Optional[str] = None
    stopped_by: Optional[Literal["cancel", "timeout"]] = None
    out_of_memory: bool = False
    spawn_error: Optional[str] = None
    lost: bool = False
    last_line: str = ""


class Outcome(NamedTuple):
    """The verb that settles a run, and the error that goes with it."""

    verb: str
    error: Optional[JobError] = None
    run_at: Optional[float] = None


def outcome(job: Job, facts: ExitFacts, now: float) -> Outcome:
    """How `job` goes on after a run that ended as `facts` say; pure."""
    if facts.stopped_by == "cancel":
        return Outcome("abort")
    error = _error(job, facts)
    if error is None:
        return Outcome("complete")
    if job.cancel_requested_at is not None:
        return Outcome("abort") if facts.lost else Outcome("fail", error)
    if job.attempt >= job.max_attempts:
        return Outcome("fail", error)
    delay = min(job.retry_delay * 2 ** (job.attempt - 1), LONGEST_DELAY)
    if delay > 0:
        return Outcome("postpone", error, now + delay)
    return Outcome("requeue", error)


def _error(job: Job, facts: ExitFacts) -> Optional[JobError]:
    what = job.script or job.module or job.type
    if facts.lost:
        return JobError(
            code="lost",
            message="The run's processes died with the machine, or were killed from outside; "
            "retry the job, or submit it with retries.",
        )
    if facts.spawn_error is not None:
        return JobError(code="spawn_failed", message=facts.spawn_error)
    if facts.stopped_by == "timeout":
        return JobError(
            code="timeout",
            message=f"The script was stopped after {job.timeout:.12g} s; make it quicker or submit "
            "it with a longer timeout.",
        )
    if facts.out_of_memory:
        return JobError(
            code="out_of_memory",
            message="The kernel killed the script because memory ran out; give the machine more, "
            "or let the script take less at a time.",
        )
    if facts.signal is not None:
        return JobError(
            code="signalled",
            message=f"{what} was ended by {facts.signal}, not sent by robotni; "
            "the end of the output may say why.",
        )
    if facts.exit_code != 0:
        return JobError(
            code="exit_nonzero",
            message=f"{what} ended with exit code {facts.exit_code}"
            + (f": {facts.last_line}" if facts.last_line else "; it printed nothing."),
        )
    return None


def is_expired(job: Job, now: float) -> bool:
    """Whether a pending job has waited longer than it was willing to."""
    if job.status != PENDING or job.expires is None or job.pending_since is None:
        return False
    return job.pending_since + job.expires < now


def expiry(expires: float) -> JobError:
    return JobError(
        code="expired",
        message=f"The job waited longer than its {expires:.12g} s for a start; "
        "submit it again, with a longer expires or more workers.",
    )


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; real-time signals without a name as `SIG42`."""
    try:
        return Signals(number).name
    except ValueError:
        return f"SIG{number}"


def local_date(now: float) -> str:
    """The local calendar date, `2026-11-22`."""
    return time.strftime("%Y-%m-%d", time.localtime(now))


def next_midnight(now: float) -> float:
    """The next local midnight, in seconds since the epoch."""
    local = time.localtime(now)
    return time.mktime((local.tm_year, local.tm_mon, local.tm_mday + 1, 0, 0, 0, 0, 0, -1))
