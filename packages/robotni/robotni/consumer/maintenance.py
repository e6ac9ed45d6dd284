"""Maintenance: what must happen by itself while a worker lives. due sweep clean.

Runs on a thread of its own, since four long jobs would hold up a ticket for hours. Each step is
guarded, so repeating it, or two workers doing it, changes nothing.
"""

import time
from typing import Callable, Optional

from robotni import log
from robotni.consumer.executor import Executor
from robotni.errors import StorageFull
from robotni.jobs.models import Job, local_date
from robotni.jobs.states import PENDING
from robotni.settings import Settings
from robotni.storage.run_files import RunFiles, delete_job
from robotni.storage.store import BATCH, Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import notify

SWEEP_EVERY = 60.0
TICK = 1.0
CLEAN_BATCH = 50  # jobs deleted in one transaction: 10 ms with a million rows
DAY = 86400


class Maintenance:
    """The periodic verbs of one worker."""

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
        self._next_sweep = time.monotonic() + SWEEP_EVERY
        self._cleaning: Optional[str] = None
        self._cleaned = 0
        self._expiring = False
        self._failed = False

    def tick(self) -> float:
        """Does what is due; seconds until it wants to be called again, at most one."""
        try:
            return self._tick()
        except StorageFull:
            return TICK  # there may be room by then

    def _tick(self) -> float:
        self.due()
        if time.monotonic() >= self._next_sweep:
            self.sweep()
        if self._expiring:
            self.expire()
        self.wake()
        self.clean()
        self._executor.warm_pool.tend()
        if self._cleaning is not None or self._expiring:
            return 0.0
        due = self._store.next_due()
        return TICK if due is None else min(TICK, max(0.001, due - self._clock()))

    def next_orphan(self) -> Optional[Job]:
        """A run to adopt, before anything new is taken on: it holds one of our places."""
        try:
            return self._executor.orphans.popleft()
        except IndexError:
            return None

    def due(self) -> None:
        """Makes pending what is scheduled for now."""
        self._notify(self._store.due(self._clock()))

    def wake(self) -> None:
        """Rings for jobs of which nobody rang: who submitted died between commit and ring."""
        if self._executor.has_room():
            self._notify(self._store.counts()[PENDING])

    def sweep(self) -> None:
        """Settles every running row that no thread here waits for, and mends the tickets."""
        self._next_sweep = time.monotonic() + SWEEP_EVERY
        self._failed = False
        orphans = sum(self._sweep_job(job) for job in self._store.running())
        if not self._failed and self._datadir.has_rebooted():
            self._datadir.remember_boot()  # from here on the absence of evidence is evidence
        self._store.shrink_log()
        self.expire()
        tickets = self._store.mend_tickets()
        log.recovered(orphans)
        self._notify(tickets + len(self._executor.orphans))

    def _sweep_job(self, job: Job) -> bool:
        adopted = False
        minded = self._executor.in_flight.mind(job.job_id, job.run)
        try:
            if job.cancel_requested_at is not None:
                self._remind(job)
            if minded and self._executor.is_running(job):
                self._executor.orphans.append(job)
                adopted = True
            elif minded:
                self._executor.recover(job)
        except Exception:  # one row must not stop the others
            log.failed("sweep", job.job_id)
            self._failed = True
        finally:
            if minded and not adopted:
                self._executor.in_flight.unmind(job.job_id, job.run)
        return minded

    def _remind(self, job: Job) -> None:
        """Whoever asked a run to end may have died before notifying."""
        try:
            RunFiles(self._datadir.jobs, job.job_id, job.run).request_cancel()
        except OSError:  # the script's doing, or a full disk; it must settle all the same
            log.failed("reminder", job.job_id)
            self._failed = True

    def expire(self) -> None:
        """Fails what waited longer than it was willing to; a batch for each call."""
        expired = self._store.expire(self._clock())
        self._expiring = expired == BATCH
        log.expired(expired)

    def adopt(self, job: Job) -> None:
        try:
            self._executor.adopt(job)
        finally:
            self._executor.in_flight.unmind(job.job_id, job.run)

    def clean(self) -> None:
        """Once per local date, deletes what ended RETENTION_DAYS ago; a batch for each call."""
        now = self._clock()
        day = local_date(now)
        if self._cleaning is None:
            if self._store.cleanup.is_clean(day) or not self._store.cleanup.claim_day(day):
                return
            self._cleaning, self._cleaned = day, 0
        moment = now - self._settings.retention_days * DAY
        job_ids = self._store.cleanup.ended_before(moment, CLEAN_BATCH)
        for job_id in job_ids:
            delete_job(self._datadir.jobs, job_id)
        self._store.cleanup.delete(job_ids, moment)
        self._cleaned += len(job_ids)
        if len(job_ids) < CLEAN_BATCH:
            log.cleaned(self._cleaned, self._cleaning)
            self._cleaning = None

    def _notify(self, times: int) -> None:
        for _ in range(min(times, self._settings.workers)):
            notify(self._datadir.wakeup)
