"""Outcome."""

from signal import Signals
from typing import NamedTuple, Optional

from typing_extensions import Literal

from robotni.jobs.models import Job, JobError
from robotni.jobs.states import PENDING

LONGEST_DELAY = 365 * 86400  # seconds; where doubling ends


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
