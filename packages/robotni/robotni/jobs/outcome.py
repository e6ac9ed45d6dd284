"""What becomes of a job when a run has ended: a pure function of what is known of that run.

`outcome` is the only place that decides it. A run that robotni stopped for a cancel makes the job
cancelled; a run that ended by itself before the cancel reached it keeps its own end. A failed run
is tried again while attempts are left and no cancel was requested. Also here: when a waiting job
has expired. No I/O and no clock: the time is an argument, in seconds since the epoch.
"""

from signal import Signals
from typing import NamedTuple, Optional

from typing_extensions import Literal

from robotni.jobs.models import Job, JobError
from robotni.jobs.states import PENDING

MAX_RETRY_DELAY = 365 * 86400  # seconds; the delay doubles up to here


class ExitFacts(NamedTuple):
    """What is known of a run that has ended.

    `stopped_by` is the reason why robotni stopped the run, if it did. `lost` means that the run
    left no evidence of its end. `quote` is what an error message quotes of the output: "" when
    there was none, None when it cannot be quoted. `result_error` says what is wrong with the
    result."""

    exit_code: Optional[int] = None
    signal: Optional[str] = None
    stopped_by: Optional[Literal["cancel", "timeout"]] = None
    out_of_memory: bool = False
    spawn_error: Optional[str] = None
    lost: bool = False
    quote: Optional[str] = ""
    result_error: Optional[str] = None


class Outcome(NamedTuple):
    """The transition that ends a run (a verb of TRANSITIONS), its error when it failed, and for
    `postpone` the time of the next attempt."""

    verb: str
    error: Optional[JobError] = None
    run_at: Optional[float] = None


def outcome(job: Job, facts: ExitFacts, now: float) -> Outcome:
    """The outcome of the current run of `job`."""
    if facts.stopped_by == "cancel":
        return Outcome("abort")
    error = _error(job, facts)
    if error is None:
        return _success(job, facts)
    if job.cancel_requested_at is not None:
        return Outcome("abort") if facts.lost else Outcome("fail", error)
    if job.attempt >= job.max_attempts:
        return Outcome("fail", error)
    delay = min(job.retry_delay * 2 ** (job.attempt - 1), MAX_RETRY_DELAY)
    if delay > 0:
        return Outcome("postpone", error, now + delay)
    return Outcome("requeue", error)


def _success(job: Job, facts: ExitFacts) -> Outcome:
    """Of a program that did its work, which is never repeated, also where its result is lost."""
    if facts.result_error is None:
        return Outcome("complete")
    message = f"{_program(job)} ended with exit code 0, but {facts.result_error}."
    return Outcome("fail", JobError(code="result_invalid", message=message))


def _program(job: Job) -> str:
    return job.script or job.module or job.type


def _error(job: Job, facts: ExitFacts) -> Optional[JobError]:
    """Why the run failed; None when it succeeded."""
    program = _program(job)
    if facts.lost:
        return JobError(
            code="lost",
            message="The processes of the run died with the machine, or were killed from outside; "
            "retry the job, or submit it with retries.",
        )
    if facts.spawn_error is not None:
        return JobError(code="spawn_failed", message=facts.spawn_error)
    if facts.stopped_by == "timeout":
        return JobError(
            code="timeout",
            message=f"The script was stopped after {job.timeout:.12g} s, its timeout; make it "
            "faster, or submit it with a longer timeout.",
        )
    if facts.out_of_memory:
        return JobError(
            code="out_of_memory",
            message="The kernel killed the script because the machine ran out of memory; add "
            "memory, or make the script use less at a time.",
        )
    if facts.signal is not None:
        return JobError(
            code="signalled",
            message=f"{program} was ended by {facts.signal}, which robotni did not send; "
            "the end of the output may say why.",
        )
    if facts.exit_code != 0:
        return JobError(
            code="exit_nonzero",
            message=f"{program} ended with exit code {facts.exit_code}" + _quoted(facts.quote),
        )
    return None


def _quoted(quote: Optional[str]) -> str:
    if quote is None:
        return "; the end of its output was not kept as a whole, so nothing is quoted from it."
    return f": {quote}" if quote else "; it printed nothing."


def is_expired(job: Job, now: float) -> bool:
    """Whether a pending job has waited longer than its `expires`."""
    if job.status != PENDING or job.expires is None or job.pending_since is None:
        return False
    return job.pending_since + job.expires < now


def expiry(expires: float) -> JobError:
    """The error of a job that has waited longer than `expires` seconds."""
    return JobError(
        code="expired",
        message=f"The job waited to start for longer than its expires of {expires:.12g} s; "
        "submit it again with a longer expires, or run more workers.",
    )


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `SIG42` for 42, a real-time signal without a name."""
    try:
        return Signals(number).name
    except ValueError:
        return f"SIG{number}"
