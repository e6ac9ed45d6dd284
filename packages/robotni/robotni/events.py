"""What robotni says while it works: the wording of every log line, one event a line.

`event job=<id> facts`; as JSON the same facts are fields (see `logs.py`). Never an environment, a
token, an argument or a path from a request: ids and numbers cannot forge a second line.
"""

import logging
import sys
from typing import Any, Optional

from robotni.job import Job, JobError

log = logging.getLogger("robotni")


def submitted(job: Job) -> None:
    _say(logging.INFO, "submitted", job=job.job_id, type=job.type, status=job.status)


def started(job: Job) -> None:
    _say(logging.INFO, "started", job=job.job_id, run=job.run, attempt=job.attempt)


def settled(job: Job, verb: str, error: Optional[JobError]) -> None:
    code = error.code if error else "none"
    _say(logging.INFO, "settled", job=job.job_id, run=job.run, by=verb, error=code)


def late(job: Job) -> None:
    _say(logging.INFO, "late", "was settled by somebody else", job=job.job_id, run=job.run)


def adopted(job: Job) -> None:
    _say(logging.INFO, "adopted", "its shim lives", job=job.job_id, run=job.run)


def released(job: Job, why: str) -> None:
    _say(logging.WARNING, "released", f"never started: {why}", job=job.job_id, run=job.run)


def survivors(job: Job) -> None:
    note = "some processes could not be ended"
    _say(logging.ERROR, "survivors", note, job=job.job_id, run=job.run)


def cancel_requested(job_id: str, status: str) -> None:
    _say(logging.INFO, "cancel", job=job_id, status=status)


def flushed(pending: int, scheduled: int) -> None:
    _say(logging.INFO, "flushed", pending=pending, scheduled=scheduled)


def swept(orphans: int, tickets: int) -> None:
    if orphans or tickets:
        _say(logging.INFO, "swept", orphans=orphans, tickets=tickets)


def expired(jobs: int) -> None:
    if jobs:
        _say(logging.INFO, "expired", jobs=jobs)


def cleaned(jobs: int, day: str) -> None:
    _say(logging.INFO, "cleaned", jobs=jobs, day=day)


def dropped() -> None:
    log.warning("dropped a row of Huey's table that is no ticket")


def failed(what: str, job_id: str) -> None:
    """Something that must never happen; with the traceback of the exception at hand."""
    _say(logging.ERROR, f"failed {what}", traceback=True, job=job_id)


def serving(url: str, project_folder: str, data_dir: str) -> None:
    _say(logging.INFO, "serving", url=url, project_folder=project_folder, data_dir=data_dir)


def left(running: int) -> None:
    _say(logging.INFO, "left", running=running)


def worker(event: str, pid: int) -> None:
    _say(logging.INFO, f"worker {event}", pid=pid)


def worker_died(code: int, pause: float) -> None:
    note = "next try after the pause, in seconds; see worker.log"
    _say(logging.ERROR, "worker died at once", note, exit_code=code, pause=pause)


def _say(level: int, event: str, note: str = "", traceback: bool = False, **facts: Any) -> None:
    if not log.isEnabledFor(level):
        return
    words = [event, *(f"{name}={value}" for name, value in facts.items()), note]
    if note:
        facts["note"] = note
    text = " ".join(filter(None, words))
    extra = {"event": event, "facts": facts}
    why = sys.exc_info() if traceback else None
    # As `log.log` does, but for its search for who called: a third of the cost of a line.
    log.handle(log.makeRecord(log.name, level, "", 0, "%s", (text,), why, extra=extra))
