"""Maintenance: what happens by itself while a worker lives. due, expire, clean.

It has a thread of its own, since long jobs may occupy all others for hours. Each step is guarded,
so that repeating it, or doing it in two workers at once, changes nothing.
"""

import time
from typing import Callable, Optional

from robotni import log
from robotni.consumer.executor import Executor
from robotni.errors import DatabaseReplaced, MachineFault, StorageFull
from robotni.jobs.models import local_date
from robotni.jobs.states import PENDING
from robotni.settings import Settings
from robotni.storage.run_files import delete_job
from robotni.storage.store import BATCH, Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import notify

INTERVAL = 1.0  # seconds
MINUTE = 60.0
CLEAN_BATCH = 50  # jobs deleted in one transaction: 10 ms with a million rows
DAY = 86400


class Maintenance:
    """The periodic work of one worker."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        datadir: DataDir,
        executor: Executor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._datadir = datadir
        self._executor = executor
        self._clock = clock
        self._day_to_clean: Optional[str] = None
        self._cleaned = 0
        self._kept = 0  # jobs with files that cannot be deleted; the next day tries again
        self._next_minute = 0.0

    def run(self) -> float:
        """Does what is due; seconds until it should be called again, at most INTERVAL."""
        try:
            return self._run()
        except (OSError, MachineFault):
            log.failed("maintenance")
            return INTERVAL  # it is tried again
        except StorageFull:
            return INTERVAL  # there may be room by then
        except DatabaseReplaced:
            log.failed("maintenance; the worker stops, its scripts go on")
            self._executor.stop_signal.set()
            return INTERVAL

    def _run(self) -> float:
        self.due()
        self._executor.recovery.sweep_if_due()
        expired = self.expire() if time.monotonic() >= self._next_minute else 0
        self.wake_idle_threads()
        self.clean()
        self._executor.warm_pool.prune()
        if self._day_to_clean is not None or expired == BATCH:
            return 0.0  # there is more to do
        next_due = self._store.next_due()
        return INTERVAL if next_due is None else min(INTERVAL, max(0.001, next_due - self._clock()))

    def due(self) -> None:
        """Makes pending what is scheduled for now."""
        self._notify(self._store.due(self._clock()))

    def expire(self) -> int:
        """Fails what waited longer than its `expires`; how many, a batch for each call."""
        expired = self._store.expire(self._clock())
        if expired < BATCH:
            self._next_minute = time.monotonic() + MINUTE
            self._store.shrink_log()
        log.expired(expired)
        return expired

    def wake_idle_threads(self) -> None:
        """For pending jobs whose submitter died between the commit and the wake-up, and for runs
        to adopt."""
        if len(self._executor.in_flight) < self._settings.workers:
            self._notify(self._store.counts()[PENDING])
        if self._executor.recovery.has_runs_to_adopt():
            self._notify(self._settings.workers)

    def clean(self) -> None:
        """Once per local date, deletes what ended RETENTION_DAYS ago; a batch for each call."""
        now = self._clock()
        day = local_date(now)
        if self._day_to_clean is None:
            retention = self._store.retention
            if retention.is_day_claimed(day) or not retention.claim_day(day):
                return
            self._day_to_clean, self._cleaned, self._kept = day, 0, 0
        moment = now - self._settings.retention_days * DAY
        job_ids = self._store.retention.ended_before(moment, CLEAN_BATCH, self._kept)
        deleted = [job_id for job_id in job_ids if self._delete_files(job_id)]
        self._store.retention.delete_ended(deleted, moment)
        self._cleaned += len(deleted)
        self._kept += len(job_ids) - len(deleted)
        if len(job_ids) < CLEAN_BATCH:
            log.cleaned(self._cleaned, self._day_to_clean)
            self._day_to_clean = None

    def _delete_files(self, job_id: str) -> bool:
        try:
            delete_job(self._datadir.jobs, job_id)
        except OSError:  # a mount in it, a file of another user: the others are deleted
            log.failed("clean-up", job_id)
            return False
        return True

    def _notify(self, count: int) -> None:
        for _ in range(min(count, self._settings.workers)):
            notify(self._datadir.wakeup)
