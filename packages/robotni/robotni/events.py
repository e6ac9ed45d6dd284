"""What robotni says while it works: the wording of every log line, one event a line.

`event job=<id> facts`. Never an environment, a token, an argument or a path from a request:
ids and numbers cannot forge a second line.
"""

import logging
from typing import Optional

from robotni.job import Job, JobError

log = logging.getLogger("robotni")


def submitted(job: Job) -> None:
    log.info("submitted job=%s type=%s status=%s", job.job_id, job.type, job.status)


def started(job: Job) -> None:
    log.info("started job=%s run=%d attempt=%d", job.job_id, job.run, job.attempt)


def settled(job: Job, verb: str, error: Optional[JobError]) -> None:
    code = error.code if error else "none"
    log.info("settled job=%s run=%d by=%s error=%s", job.job_id, job.run, verb, code)


def late(job: Job) -> None:
    log.info("late job=%s run=%d was settled by somebody else", job.job_id, job.run)


def adopted(job: Job) -> None:
    log.info("adopted job=%s run=%d its shim lives", job.job_id, job.run)


def released(job: Job, why: str) -> None:
    log.warning("released job=%s run=%d never started: %s", job.job_id, job.run, why)


def survivors(job: Job) -> None:
    log.error("survivors job=%s run=%d some processes could not be ended", job.job_id, job.run)


def cancel_requested(job_id: str, status: str) -> None:
    log.info("cancel job=%s status=%s", job_id, status)


def flushed(pending: int, scheduled: int) -> None:
    log.info("flushed pending=%d scheduled=%d", pending, scheduled)


def swept(orphans: int, tickets: int, expired: int) -> None:
    if orphans or tickets or expired:
        log.info("swept orphans=%d tickets=%d expired=%d", orphans, tickets, expired)


def cleaned(jobs: int, day: str) -> None:
    log.info("cleaned jobs=%d day=%s", jobs, day)


def failed(what: str, job_id: str) -> None:
    """Something that must never happen; with the traceback of the exception at hand."""
    log.exception("failed %s job=%s", what, job_id)


def worker(event: str, pid: int) -> None:
    log.info("worker %s pid=%d", event, pid)


def worker_died(code: int, pause: float) -> None:
    log.error("worker died at once, exit code %d; next try in %g s, see worker.log", code, pause)
