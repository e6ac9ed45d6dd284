"""Recovery: what becomes of a running job that no thread of this worker has in flight.

Its evidence decides, in this order. The lock of the run is held: its shim is alive, so the run is
adopted: a thread waits for its end. `exit.json` is there: it ended so; an ended run is never called
lost. `started` is there, or cannot be read; or the folder, which is made before the claim, has been
removed; or a process carries the run's mark; or the machine was restarted, which may have taken the
evidence: the run is lost, and what is left of it is killed. None of these: it never started, and
goes back to pending.
"""

import time
from collections import deque
from contextlib import suppress
from typing import Deque, Optional

from robotni import log
from robotni.consumer.completer import FAULTS, PAUSE, Completer
from robotni.consumer.in_flight import InFlight
from robotni.consumer.shim_pool import CONTINUE_EVERY, StopSignal
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.processes import OrphanedProcesses, continue_marked

SWEEP_EVERY = 60.0  # seconds
LOCK_POLL = 0.1  # seconds between two looks at the lock of an adopted run


class Recovery:
    """Recovers the runs that an earlier worker, or a thread that failed, left behind."""

    def __init__(
        self,
        store: Store,
        datadir: DataDir,
        in_flight: InFlight,
        completer: Completer,
        stop_signal: StopSignal,
    ) -> None:
        self._store = store
        self._datadir = datadir
        self._in_flight = in_flight
        self._completer = completer
        self._stop_signal = stop_signal
        self._to_adopt: Deque[Job] = deque()
        self._next_sweep = time.monotonic() + SWEEP_EVERY  # the consumer sweeps at its start

    def sweep_soon(self) -> None:
        """After a fault of the machine in a thread that had a run."""
        self._next_sweep = min(self._next_sweep, time.monotonic() + PAUSE)

    def sweep_if_due(self) -> None:
        if time.monotonic() >= self._next_sweep:
            self.sweep()

    def sweep(self) -> None:
        """Recovers every running job that is not in flight."""
        self._next_sweep = time.monotonic() + SWEEP_EVERY
        results = [self._sweep_job(job) for job in self._store.running()]
        for job in list(self._to_adopt):  # while all threads have a run
            self._continue_shim(self._store.run_files(job))
        if "error" not in results and self._datadir.has_rebooted():
            self._datadir.remember_boot()  # from here on missing evidence means "never started"
        log.recovered(sum(result != "in flight" for result in results))

    def _sweep_job(self, job: Job) -> str:
        """What was done: `in flight`, `adopted`, `recovered` or `error`."""
        if not self._in_flight.add(job.job_id):
            self._repeat_cancel(job)
            return "in flight"
        result = "recovered"
        try:
            self._repeat_cancel(job)
            if self._store.run_files(job).is_locked():
                self._to_adopt.append(job)  # it stays in flight until a thread has adopted it
                return "adopted"
            self.recover(job)
        except Exception:  # one row must not stop the recovery of the others
            log.failed("recovery", job.job_id)
            result = "error"
        self._in_flight.remove(job.job_id)
        return result

    def _repeat_cancel(self, job: Job) -> None:
        """Who requested the cancel may have died before telling the shim."""
        if job.cancel_requested_at is None:
            return
        try:
            self._store.run_files(job).request_cancel()
        except OSError:  # a full disk, say; the next sweep tries again
            log.failed("cancel", job.job_id)

    def has_runs_to_adopt(self) -> bool:
        return bool(self._to_adopt)

    def next_to_adopt(self) -> Optional[Job]:
        try:
            return self._to_adopt.popleft()
        except IndexError:
            return None

    def adopt(self, job: Job) -> None:
        """Waits for a run whose shim an earlier worker started, then completes it."""
        log.adopted(job.job_id, job.run)
        try:
            self.wait_and_recover(job)
        except FAULTS:
            log.failed("adoption", job.job_id)
            self.sweep_soon()
        finally:
            self._in_flight.remove(job.job_id)

    def wait_and_recover(self, job: Job) -> None:
        run_files = self._store.run_files(job)
        continue_at = time.monotonic()
        while run_files.is_locked():
            if time.monotonic() >= continue_at:
                self._continue_shim(run_files)
                continue_at = time.monotonic() + CONTINUE_EVERY
            if self._stop_signal.wait(LOCK_POLL):
                return
        self.recover(job)

    def _continue_shim(self, run_files: RunFiles) -> None:
        """A script may have stopped its shim, which would then miss its deadline and a cancel."""
        with suppress(OSError):  # the next look tries again
            continue_marked((run_files.started() or {}).get("shim"), run_files.mark)

    def recover(self, job: Job, has_started: bool = False) -> None:
        """Ends a run whose shim has ended, by the evidence it left; `has_started`: it surely did
        start, whatever the files say."""
        run_files = self._store.run_files(job)
        ended = run_files.exit_facts()
        if ended is not None:
            self._completer.complete_by_evidence(job, ended)
            return
        left = OrphanedProcesses(run_files.mark)
        has_started = (
            has_started
            or run_files.has_started()
            or run_files.is_removed()
            or self._datadir.has_rebooted()
        )
        if not has_started and not left.are_there():
            current = self._store.get(job.job_id)
            if current is not None and current.run == job.run:
                self._completer.release(current, "there is no trace of a start")
            return
        if not has_started:  # this worker may be killed between the next two steps
            run_files.restore_start()
        if not left.kill():
            log.processes_left(job.job_id, job.run)
        self._completer.complete(job, ExitFacts(lost=True))
