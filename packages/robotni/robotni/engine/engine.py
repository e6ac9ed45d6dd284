"""The engine: what a client can ask of robotni. submit get list cancel retry flush status.

A job that `submit` returned is durable. Nothing here runs a script or waits for one, and nothing
here knows of HTTP or Huey: wiring hands in the store and a bell.
"""

import errno
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from robotni import __version__, log
from robotni.engine.submit import SubmitRequest, SubmitResult, Submitted, Submitter, unwrap
from robotni.errors import Conflict, FieldError, InvalidRequest, NotFound
from robotni.jobs.models import Attempt, Job, Progress, local_date, next_midnight
from robotni.jobs.request import JobRequest
from robotni.jobs.states import CANCELLED, PENDING, RUNNING, SCHEDULED, STATES
from robotni.settings import Settings
from robotni.storage.queries import Filters
from robotni.storage.run_files import RunFiles, is_job_id
from robotni.storage.store import Store
from robotni.workers import Registry, WorkerType

TAIL = 64 * 1024  # bytes of output in a job's JSON
DAY = 86400
AT_ONCE = 200  # jobs of a list that are read at once


class Engine:
    """The verbs of a client. `clock` gives seconds since the epoch; `notify` wakes a worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        jobs: Path,
        notify: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._notify = notify
        self._clock = clock
        self._registry = Registry()
        self._submitter = Submitter(settings, store, jobs, self._registry, notify, clock)
        self._started_at = clock()
        self._clean_day = ""

    def close(self) -> None:
        """Closes what the calling thread has open of the database; the next use opens it again."""
        self._store.close()

    # submit

    def submit(self, request: JobRequest, key: Optional[str] = None, digest: str = "") -> Submitted:
        """Checks and stores a job. With a `key` seen before: the first job, `replayed`."""
        return unwrap(self.submit_all([SubmitRequest(lambda: request, key, lambda: digest)])[0])

    def submit_all(self, requests: Sequence[SubmitRequest]) -> List[SubmitResult]:
        """The same for several at once; what came of each, in their order."""
        results = self._submitter.submit(requests)
        return [
            Submitted(self.view(one.job), True)
            if isinstance(one, Submitted) and one.replayed
            else one
            for one in results
        ]

    def retry(self, job_id: str) -> Job:
        """A new job from the request of an ended one."""
        old = self._get(job_id)
        if not old.is_terminal:
            raise Conflict(
                f"job {job_id} is {old.status}; cancel it first, or wait until it has ended"
            )
        return self._submitter.resubmit(old).job

    # get, list

    def _get(self, job_id: str) -> Job:
        job = self._store.get(job_id) if is_job_id(job_id) else None
        if job is None:
            raise NotFound(
                "there is no such job; ids come from a submit or from GET /api/worker/jobs"
            )
        return job

    def get(self, job_id: str) -> Job:
        """The job as it is now: live progress while it runs, output when it has ended."""
        return self.view(self._get(job_id))

    def view(self, job: Job) -> Job:
        if job.status == RUNNING:
            run_files = RunFiles(self._jobs, job.job_id, job.run)
            running = [*job.attempts, _running_attempt(job)]
            return self._live(job, run_files).model_copy(update={"attempts": running})
        if not job.is_terminal:
            return job
        run = job.run_of(job.attempt)
        if run is None:
            return job.model_copy(update={"output": ""})
        text, cut = RunFiles(self._jobs, job.job_id, run).read_tail(TAIL)
        return job.model_copy(
            update={"output": text, "output_truncated": job.output_truncated or cut}
        )

    def _live(self, job: Job, run_files: RunFiles) -> Job:
        seen = run_files.read_progress()
        progress = None if seen is None else Progress(percent=seen[0], message=seen[1])
        return job.model_copy(
            update={"output_bytes": run_files.output_size(), "progress": progress}
        )

    def list(
        self, filters: Filters, cursor: Optional[str], limit: int
    ) -> Tuple[List[Job], Optional[str]]:
        """(jobs newest first, cursor of the next page or None); fewer than `limit` where they hold
        much."""
        if cursor is not None and not is_job_id(cursor):
            raise InvalidRequest(
                [FieldError("/cursor", "not a cursor; take nextCursor from the page before")]
            )
        unknown = [state for state in filters.status if state not in STATES]
        if unknown:
            raise InvalidRequest(
                [FieldError("/status", f"{unknown[0][:40]!r} is no state; use {', '.join(STATES)}")]
            )
        jobs, following = self._store.list(filters, cursor, limit)
        jobs = [
            self._live(job, RunFiles(self._jobs, job.job_id, job.run))
            if job.status == RUNNING
            else job
            for job in jobs
        ]
        return jobs, following

    def jobs(self, filters: Filters) -> Iterator[Job]:
        """All that fit, newest first, page by page."""
        cursor: Optional[str] = None
        while True:
            page, cursor = self.list(filters, cursor, AT_ONCE)
            yield from page
            if cursor is None:
                return

    def output(self, job_id: str, attempt: Optional[int] = None) -> Optional[RunFiles]:
        """The files of an attempt (the last by default); None when nothing has started."""
        job = self._get(job_id)
        if attempt is None:
            run = job.run_of(job.attempt)
            return None if run is None else RunFiles(self._jobs, job_id, run)
        run = job.run_of(attempt)
        if run is None:
            raise NotFound(f"job {job_id} has no attempt {attempt}; it has had {job.attempt}")
        return RunFiles(self._jobs, job_id, run)

    def types(self) -> List[WorkerType]:
        return self._registry.list()

    # cancel, flush

    def cancel(self, job_id: str) -> Job:
        """Cancels what waits, asks what runs to end; Conflict when it has ended otherwise."""
        while True:
            job = self._get(job_id)
            now = self._clock()
            if job.status == CANCELLED:
                return self.view(job)
            if job.is_terminal:
                raise Conflict(f"job {job_id} is {job.status} already; nothing is left to cancel")
            if job.status == RUNNING:
                if self._request_cancel(job, now):
                    return self.get(job_id)
            elif self._store.transition("cancel", job_id, finished_at=now):
                log.cancel_requested(job_id, job.status)
                return self.get(job_id)

    def _request_cancel(self, job: Job, now: float) -> bool:
        at = job.cancel_requested_at or now
        if not self._store.transition(
            "request_cancel", job.job_id, job.run, cancel_requested_at=at
        ):
            return False  # it went on meanwhile: look again
        log.cancel_requested(job.job_id, job.status)
        try:
            RunFiles(self._jobs, job.job_id, job.run).request_cancel()
        except OSError as error:  # no room, or the script has spoilt its folder: the sweep says it
            if error.errno != errno.ENOSPC:  # again, and the latter is worth a line
                log.failed("cancel", job.job_id)
        return True

    def revoke(self, job_id: str) -> Job:
        """Cancels what has not started; Conflict for what has."""
        job = self._get(job_id)
        if job.status == CANCELLED and job.attempt == 0:
            return job
        if not self._store.transition("cancel", job_id, finished_at=self._clock()):
            status = self._get(job_id).status
            raise Conflict(
                f"task {job_id} is {status}; only what has not started can be revoked, a running "
                f"job is cancelled by DELETE /api/worker/jobs/{job_id}"
            )
        log.cancel_requested(job_id, job.status)
        return self._get(job_id)

    def flush(self) -> Dict[str, int]:
        """Cancels everything pending and scheduled; how many of each."""
        counts = self._store.flush(self._clock())
        log.flushed(counts[PENDING], counts[SCHEDULED])
        return counts

    # status

    def needs_worker_in(self) -> float:
        """Seconds until a worker finds something to do, 0 when it would now; as of now, and with
        the clean-up of tomorrow left out."""
        now = self._clock()
        counts = self._store.counts()
        due = self._store.next_due()
        if counts[PENDING] or counts[RUNNING] or not self._is_clean(local_date(now)):
            return 0.0
        return math.inf if due is None else max(0.0, due - now)

    def _is_clean(self, day: str) -> bool:
        """Whether the clean-up of `day` has been taken on; once it is, it stays so."""
        if self._clean_day != day and self._store.retention.is_day_claimed(day):
            self._clean_day = day
        return self._clean_day == day

    def check(self) -> None:
        """Raises when store or disk cannot be used."""
        self._store.counts()
        self._submitter.check_disk()

    def counts(self) -> Dict[str, int]:
        """Number of jobs in each state."""
        return self._store.counts()

    def ended_totals(self) -> List[Tuple[str, str, int]]:
        """(state, error code or "", jobs) of all that ever ended."""
        return self._store.ended_totals()

    def status(self) -> Dict[str, Any]:
        """The figures of `GET /api/worker/status`, less what only the web process knows."""
        now = self._clock()
        counts = self._store.counts()
        oldest, due = self._store.oldest_pending(), self._store.next_due()
        started, timed_out = self._store.attempts_since(now - DAY)
        return {
            "status": "ok",
            "version": __version__,
            "uptime": round(now - self._started_at, 3),
            "pollInterval": 5,
            "workers": {
                "max": self._settings.workers,
                "busy": counts[RUNNING],
            },
            "jobs": counts,
            "queue": {
                PENDING: counts[PENDING],
                SCHEDULED: counts[SCHEDULED],
                "oldestPendingSeconds": None if oldest is None else max(0, round(now - oldest, 3)),
            },
            "slo": {
                "completedWithinTimeout": 1 - timed_out / started if started > 0 else None,
            },
            "nextWake": min(next_midnight(now), due or float("inf")),
        }


def _running_attempt(job: Job) -> Attempt:
    return Attempt(attempt=job.attempt, started_at=job.started_at or job.timestamp, run=job.run)
