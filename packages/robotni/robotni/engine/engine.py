"""The engine: everything a client may ask for. submit get list output cancel retry flush status.

A job that `submit` returns is durable. Every call answers at once: none runs a script or waits for
one. The engine knows neither HTTP nor Huey; it is given the store, and a function that wakes up a
worker.
"""

import errno
import math
import os
import re
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from robotni import __version__, log
from robotni.engine.submit import SubmitRequest, SubmitResult, Submitted, Submitter, unwrap
from robotni.errors import Conflict, FieldError, InvalidRequest, NotFound
from robotni.jobs.models import SHORTEST_ID, Attempt, Job, Progress, local_date, next_midnight
from robotni.jobs.request import JobRequest
from robotni.jobs.states import CANCELLED, PENDING, RUNNING, SCHEDULED, STATES
from robotni.settings import Settings
from robotni.storage.queries import Filters
from robotni.storage.run_files import RunFiles, is_job_id
from robotni.storage.store import Store
from robotni.workers import Registry, WorkerType

OUTPUT_LIMIT = 64 * 1024  # bytes of output in a job's JSON: the last ones
DAY = 86400
PAGE_SIZE = 200
MAX_CANDIDATES = 5  # ids that an error names
_SHORT_ID = re.compile(rf"[0-9a-f]{{{SHORTEST_ID},31}}\Z")
POLL_INTERVAL = 5  # seconds between two polls of a client


class JobOutput(NamedTuple):
    """The files of an attempt, and how many bytes it wrote; 0 where that is not stored."""

    run_files: RunFiles
    written: int


class Engine:
    """The calls of a client. `notify` wakes up a worker; `clock` returns the time in seconds since
    the epoch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        notify: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._registry = Registry()
        self._submitter = Submitter(settings, store, self._registry, notify, clock)
        self._started_at = clock()

    def close(self) -> None:
        """Closes the calling thread's connection to the database; the next call opens another."""
        self._store.close()

    def submit(self, request: JobRequest, key: Optional[str] = None, digest: str = "") -> Submitted:
        """Checks a request and stores its job. When an earlier submit had the same idempotency
        `key`: the job of that one, `replayed`. Raises InvalidRequest, QueueFull, StorageFull."""
        return unwrap(self.submit_all([SubmitRequest(lambda: request, key, lambda: digest)])[0])

    def submit_all(self, requests: Sequence[SubmitRequest]) -> List[SubmitResult]:
        """Submits several at once, which costs one transaction; the result of each, in order."""
        results = self._submitter.submit(requests)
        return [
            Submitted(self.view(result.job), True)
            if isinstance(result, Submitted) and result.replayed
            else result
            for result in results
        ]

    def retry(self, job_id: str) -> Job:
        """A new job from the request of one that has ended; Conflict when it has not."""
        old = self._get(job_id)
        if not old.is_terminal:
            raise Conflict(
                f"job {old.job_id} is {old.status}; cancel it first, or wait until it has ended"
            )
        return self._submitter.resubmit(old).job

    def _get(self, job_id: str) -> Job:
        """The job with this id, of which the end is enough when no other job's id ends so."""
        if _SHORT_ID.match(job_id):
            ids = self._store.ids_ending_in(job_id, MAX_CANDIDATES + 1)
            if len(ids) > 1:
                raise Conflict(_ambiguous(job_id, ids))
            job_id = ids[0] if ids else job_id
        job = self._store.get(job_id) if is_job_id(job_id) else None
        if job is None:
            raise NotFound(
                "there is no such job; ids come from a submit or from GET /api/worker/jobs, and "
                f"may be shortened to their last {SHORTEST_ID} or more digits"
            )
        return job

    def get(self, job_id: str) -> Job:
        """The job as it is now: with its progress while it runs, with its output when it ended."""
        return self.view(self._get(job_id))

    def view(self, job: Job) -> Job:
        """Adds to a stored job what its files say: progress, or the end of its output."""
        if job.status == RUNNING:
            attempts = [*job.attempts, _running_attempt(job)]
            return self._with_progress(job).model_copy(update={"attempts": attempts})
        if not job.is_terminal:
            return job
        run = job.run_of(job.attempt)
        if run is None:
            return job.model_copy(update={"output": ""})
        text, is_cut = self._store.run_files(job, run).read_tail(OUTPUT_LIMIT)
        return job.model_copy(
            update={"output": text, "output_truncated": job.output_truncated or is_cut}
        )

    def _with_progress(self, job: Job) -> Job:
        """A running job with its progress and the size of its output so far."""
        run_files = self._store.run_files(job)
        found = run_files.read_progress()
        progress = None if found is None else Progress(percent=found[0], message=found[1])
        return job.model_copy(
            update={"output_bytes": run_files.output_size(), "progress": progress}
        )

    def list(
        self, filters: Filters, cursor: Optional[str], limit: int
    ) -> Tuple[List[Job], Optional[str]]:
        """(jobs, newest first; cursor of the next page, or None after the last one). A page has
        fewer than `limit` jobs where they are large."""
        if cursor is not None and not is_job_id(cursor):
            raise InvalidRequest(
                [FieldError("/cursor", "this is not a cursor; use nextCursor of the page before")]
            )
        unknown = [state for state in filters.status if state not in STATES]
        if unknown:
            detail = f"{unknown[0][:40]!r} is not a state; the states are {', '.join(STATES)}"
            raise InvalidRequest([FieldError("/status", detail)])
        jobs, following = self._store.list(filters, cursor, limit)
        jobs = [self._with_progress(job) if job.status == RUNNING else job for job in jobs]
        return jobs, following

    def jobs(self, filters: Filters) -> Iterator[Job]:
        """All jobs that match, newest first, read page by page."""
        cursor: Optional[str] = None
        while True:
            page, cursor = self.list(filters, cursor, PAGE_SIZE)
            yield from page
            if cursor is None:
                return

    def output(self, job_id: str, attempt: Optional[int] = None) -> Optional[JobOutput]:
        """The output of an attempt, by default of the last one; None when none has started."""
        job = self._get(job_id)
        number = job.attempt if attempt is None else attempt
        run = job.run_of(number)
        if run is not None:
            run_files = self._store.run_files(job, run)
            is_counted = job.is_terminal and number == job.attempt
            return JobOutput(run_files, job.output_bytes if is_counted else 0)
        if attempt is None:
            return None
        raise NotFound(f"job {job.job_id} has no attempt {attempt}; it has had {job.attempt}")

    def types(self) -> List[WorkerType]:
        return self._registry.list()

    def cancel(self, job_id: str) -> Job:
        """Cancels a waiting job, and requests the end of a running one. Conflict when it has
        completed or failed."""
        job_id = self._get(job_id).job_id
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
            return False  # its state has changed since it was read
        log.cancel_requested(job.job_id, job.status)
        try:
            self._store.run_files(job).request_cancel()
        except OSError as error:  # recovery tries again; it is stored that a cancel was requested
            if error.errno != errno.ENOSPC:
                log.failed("cancel", job.job_id)
        return True

    def revoke(self, job_id: str) -> Job:
        """Cancels a job that has not started; Conflict when it has."""
        job = self._get(job_id)
        job_id = job.job_id
        if job.status == CANCELLED and job.attempt == 0:
            return job
        if not self._store.transition("cancel", job_id, finished_at=self._clock()):
            status = self._get(job_id).status
            raise Conflict(
                f"task {job_id} is {status}; only a task that has not started can be revoked, a "
                f"running job is cancelled with DELETE /api/worker/jobs/{job_id}"
            )
        log.cancel_requested(job_id, job.status)
        return self._get(job_id)

    def flush(self) -> Dict[str, int]:
        """Cancels all pending and scheduled jobs; the count of each."""
        counts = self._store.flush(self._clock())
        log.flushed(counts[PENDING], counts[SCHEDULED])
        return counts

    def needs_worker_in(self) -> float:
        """Seconds until there is work for a worker: 0 when there is some now, infinity when none is
        planned. The clean-up of the next day is left out."""
        now = self._clock()
        counts = self._store.counts()
        due = self._store.next_due()
        if (
            counts[PENDING]
            or counts[RUNNING]
            or not self._store.retention.is_day_claimed(local_date(now))
        ):
            return 0.0
        return math.inf if due is None else max(0.0, due - now)

    def check(self) -> None:
        """Raises an error when the database cannot be read, the disk is nearly full, or no file
        can be opened."""
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self._store.counts()
        self._submitter.check_disk()

    def counts(self) -> Dict[str, int]:
        """Number of jobs in each state."""
        return self._store.counts()

    def ended_totals(self) -> List[Tuple[str, str, int]]:
        """(state, error code or "", count) of all jobs that ever ended, deleted ones included."""
        return self._store.ended_totals()

    def status(self) -> Dict[str, Any]:
        """The figures of `GET /api/worker/status`, without those that only the web server has."""
        now = self._clock()
        counts = self._store.counts()
        oldest, due = self._store.oldest_pending(), self._store.next_due()
        started, timed_out = self._store.attempts_since(now - DAY)
        return {
            "status": "ok",
            "version": __version__,
            "uptime": round(now - self._started_at, 3),
            "pollInterval": POLL_INTERVAL,
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


def _ambiguous(end: str, ids: Sequence[str]) -> str:
    named = ", ".join(ids[:MAX_CANDIDATES])
    more = ", and others" if len(ids) > MAX_CANDIDATES else ""
    return f"{end} is the end of several ids; give more digits of the one you mean: {named}{more}"


def _running_attempt(job: Job) -> Attempt:
    return Attempt(attempt=job.attempt, started_at=job.started_at or job.timestamp, run=job.run)
