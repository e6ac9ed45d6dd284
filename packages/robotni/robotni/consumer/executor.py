"""A job's life in the worker, read downward: reserve, claim, launch, wait, complete.

It promises at most one start per attempt, and an end in the row for every run that ended. A thread
that ends a run claims the job that waits longest in the same transaction, so under load a job costs
two transactions in the worker and the web process together, else three. Runs that nobody answers
for are the business of `recovery`. The executor does not know Huey: a thread of the worker calls
`run` with the id of a job.
"""

import time
from contextlib import suppress
from typing import Any, Callable, Dict, Mapping, Optional

from robotni import log
from robotni.consumer.completer import FAULTS, PAUSE, Completer
from robotni.consumer.in_flight import InFlight
from robotni.consumer.launch import LaunchSpecs, Recipe, recipe
from robotni.consumer.recovery import Recovery
from robotni.consumer.shim_pool import (
    ENDED,
    NOT_STARTED,
    STOPPING,
    ShimPool,
    ShimProcess,
    StopSignal,
)
from robotni.consumer.warm_pool import WarmPool
from robotni.engine.preflight import JobPaths, Preflight
from robotni.errors import InvalidRequest
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.states import PENDING
from robotni.settings import Settings
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import notify


class Executor:
    """Runs jobs in the threads of one worker. `server_environ` is what scripts see a part of."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        datadir: DataDir,
        server_environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stop_signal = StopSignal()
        self.in_flight = InFlight()
        self.shim_pool = ShimPool(datadir.worker_log)
        self.warm_pool = WarmPool(settings.warm_max, settings.idle_exit, datadir.warm)
        self.completer = Completer(store, lambda: notify(datadir.wakeup), self.stop_signal, clock)
        self.recovery = Recovery(store, datadir, self.in_flight, self.completer, self.stop_signal)
        self._store = store
        self._clock = clock
        self._preflight = Preflight(settings.project_folder, settings.script_roots)
        self._launch_specs = LaunchSpecs(settings, datadir, server_environ)

    def close(self) -> None:
        """Lets the shims end, each after the run it may have."""
        self.warm_pool.close()
        self.shim_pool.close()

    def run(self, job_id: str) -> None:
        """Runs the next attempt of a pending job to its end, then each job that was claimed as the
        one before ended, until none is pending or this worker stops."""
        if not self.in_flight.add(job_id):
            return  # another thread has it
        try:
            job = self._claim(job_id)
        except FAULTS:  # nothing was claimed; the job stays pending
            self.stop_signal.wait(PAUSE)
            job = None
        if job is None:
            self.in_flight.remove(job_id)
        while job is not None:
            try:
                claimed = self._run_attempt(job)
            finally:
                self.in_flight.remove(job.job_id)
            job = claimed

    # reserve, claim

    def reserve_next(self) -> Optional[Job]:
        """The job that has been pending longest, now in flight; None where none is pending."""
        while True:
            waiting = self._store.next_pending(self.in_flight.ids())
            if waiting is None or self.in_flight.add(waiting.job_id):
                return waiting

    def _claim(self, job_id: str) -> Optional[Job]:
        waiting = self._store.get(job_id)
        if waiting is None or waiting.status != PENDING or self.stop_signal.is_set():
            return None
        self._make_folder(waiting)
        return self._store.claim(waiting, self._clock())

    def _make_folder(self, waiting: Job) -> None:
        """Makes the folder of the next run before its claim, so that afterwards its absence is no
        sign that the run never started. Where that fails, the launch says why."""
        with suppress(OSError):
            self._store.run_files(waiting, waiting.run + 1).create()

    def _run_attempt(self, job: Job) -> Optional[Job]:
        """A claimed run to its end; returns the job that was claimed with that."""
        try:
            return self._launch_and_complete(job)
        except FAULTS:  # of the machine: what became of the run is decided by its evidence, later
            log.failed("run", job.job_id)
            self.recovery.sweep_soon()
            return None
        except Exception as error:  # a run must always end in its row
            log.failed("run", job.job_id)
            self._fail_unless_started(job, error)
            return None

    def _put_back(self, job: Job, reason: str) -> None:
        """The machine's fault: after a moment the job is pending again, its attempt given back."""
        self.stop_signal.wait(PAUSE)
        self.completer.release(job, reason)

    def _fail_unless_started(self, job: Job, error: Exception) -> None:
        """After a fault of robotni's own; a run that started is left to recovery."""
        run_files = self._store.run_files(job)
        if not run_files.is_locked() and not run_files.has_started():
            self.completer.complete(job, ExitFacts(spawn_error=f"robotni failed: {error!r}."))

    # launch, wait

    def _launch_and_complete(self, job: Job) -> Optional[Job]:
        run_files = self._store.run_files(job)
        try:
            self._preflight.check(JobPaths(job.script, job.module, job.venv, job.cwd))
            spec = self._launch_specs.build(job, run_files.create())
            standby = recipe(job, spec)
            shim = self.warm_pool.take(standby) or self.shim_pool.take()
        except InvalidRequest as error:
            self.completer.complete(job, ExitFacts(spawn_error=f"{error}."))
            return None
        except OSError as error:  # a full disk, no more processes
            self._put_back(job, str(error))
            return None
        claimed: Optional[Job] = None
        try:
            claimed = self._run_in(shim, job, run_files, spec)
        finally:
            self._give_back(shim, standby, is_busy=claimed is not None)
        return claimed

    def _run_in(
        self, shim: ShimProcess, job: Job, run_files: RunFiles, spec: Dict[str, Any]
    ) -> Optional[Job]:
        try:
            is_sent = shim.launch(run_files, spec)
        except OSError as error:  # its lock could not be opened, and nothing was sent
            self._put_back(job, str(error))
            return None
        if not is_sent:
            self.stop_signal.wait(PAUSE)
            self.recovery.wait_and_recover(job)  # by what the shim did before it died
            return None
        log.started(job.job_id, job.run, job.attempt)
        end = shim.wait(self.stop_signal.fd)
        if end == STOPPING:
            return None  # the shim finishes the run; the next worker adopts it
        if end == NOT_STARTED:
            self._put_back(job, "the shim could not write its evidence")
            return None
        if shim.exit_facts is None:  # it died, or could not say
            self.recovery.recover(job, has_started=end == ENDED)
            return None
        return self._complete(job, shim.exit_facts)

    def _give_back(self, shim: ShimProcess, standby: Optional[Recipe], is_busy: bool) -> None:
        """A standby is started only when nothing is pending: during a burst it would slow it."""
        may_prepare = not is_busy and not self.stop_signal.is_set()
        if standby is not None and may_prepare and self.warm_pool.keep(standby, shim):
            return
        self.shim_pool.give_back(shim)

    # complete

    def _complete(self, job: Job, exit_facts: Dict[str, Any]) -> Optional[Job]:
        """Ends the run, and claims the next job unless an adopted run needs this thread."""
        waiting: Optional[Job] = None
        if not self.stop_signal.is_set() and not self.recovery.has_runs_to_adopt():
            with suppress(*FAULTS):  # the machine cannot say; this run ends first
                waiting = self.reserve_next()
        if waiting is not None:
            self._make_folder(waiting)
        claimed: Optional[Job] = None
        try:
            claimed = self.completer.complete_by_evidence(job, exit_facts, waiting)
        finally:
            if waiting is not None and claimed is None:
                self.in_flight.remove(waiting.job_id)
        return claimed
