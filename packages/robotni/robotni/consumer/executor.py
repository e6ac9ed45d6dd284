"""The executor: how a worker takes one job from pending to its end. claim launch adopt.

It promises at most one start per attempt, a settled row for every run that ended, and that a run
whose shim lives is waited for, not repeated. Evidence decides, in this order: the lock of the run
is held: it runs. `exit.json`: it ended so. `started`: it is lost. No folder, which is made before
the claim: somebody has removed it, it is lost. Nothing in it: it never started, unless a process
carries its mark, or the machine went down since (a power cut may take the evidence): it is lost.
A thread that ends a run takes what waits next in the same transaction, so under load a job costs
two transactions with what the web process writes, else three. Budget: 1.1 ms of CPU in the worker.
It must not know Huey; a thread of the worker calls `run` with a job id, or `adopt` with an orphan.
"""

import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Deque, Dict, Iterator, Mapping, Optional

from robotni import log
from robotni.consumer.completer import PAUSE, Completer
from robotni.consumer.in_flight import InFlight, Minder
from robotni.consumer.launch import LaunchSpecs, recipe
from robotni.consumer.shim_pool import ENDED, LEFT, NOT_BEGUN, ShimPool, Slot, StopSignal
from robotni.consumer.warm_pool import WarmPool
from robotni.engine.preflight import JobPaths, Preflight
from robotni.errors import InvalidRequest, StorageFull
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.states import PENDING
from robotni.settings import Settings
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.processes import OrphanedProcesses

ADOPT_POLL = 0.1  # seconds between two looks at the lock of an adopted run


class Executor:
    """Runs jobs in the threads of one worker. `server` is the environment scripts see part of."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        datadir: DataDir,
        server: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stop_signal = StopSignal()
        self.shim_pool = ShimPool(settings.workers, datadir.worker_log)
        self.warm_pool = WarmPool(
            settings.warm_max, settings.idle_exit, datadir.worker_log, datadir.warm
        )
        self._settings = settings
        self._store = store
        self._datadir = datadir
        self._clock = clock
        self._launch_specs = LaunchSpecs(settings, datadir, server)
        self._preflight = Preflight(settings.project_folder, settings.script_roots)
        self.in_flight = InFlight()
        self.orphans: Deque[Job] = deque()
        self.completer = Completer(store, datadir, self.stop_signal, clock)

    def close(self) -> None:
        """Lets the shims go, each after the run it may have."""
        self.shim_pool.close()
        self.warm_pool.close()

    def has_room(self) -> bool:
        """Whether a thread has nothing to do."""
        return len(self.in_flight) < self._settings.workers

    def run(self, job_id: str) -> None:
        """Runs the next attempt of a pending job to its end, and then whatever was claimed as one
        was settled; until there is nothing, or this worker leaves."""
        if self.stop_signal.is_set():
            return  # row and ticket stay as they are, for the next worker
        try:
            self._run_on(job_id)
        except StorageFull:  # nothing is claimed, and the ticket is handed out again
            self.stop_signal.wait(PAUSE)

    def _run_on(self, job_id: str) -> None:
        with self.in_flight.thread() as minder, self.shim_pool.room():
            job = self._first(job_id, minder)
            while job is not None:
                following = self._attempt(job, minder)
                minder.unmind(job.job_id, job.run)
                job = following

    def _first(self, job_id: str, minder: Minder) -> Optional[Job]:
        waiting = self._store.get(job_id)
        pending = waiting if waiting is not None and waiting.status == PENDING else None
        if pending is None or not minder.mind(job_id, pending.run + 1):
            self._store.drop_ticket(job_id)
            return None
        return self._claim(job_id, pending)

    def _attempt(self, job: Job, minder: Minder) -> Optional[Job]:
        """A claimed run to its end; the next, claimed with that."""
        try:
            return self._follow(job, minder)
        except Exception as error:  # a run must always settle
            log.failed("run", job.job_id)
            self._settle_anyhow(job, error)
            return None

    def _settle_anyhow(self, job: Job, error: Exception) -> None:
        """After a fault of our own: failed if nothing was started; evidence is the sweep's."""
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run)
        if not run_files.is_held() and not run_files.has_begun():
            facts = ExitFacts(spawn_error=f"robotni could not run it: {error!r}.")
            self.completer.settle(job, facts)

    def claim(self, job_id: str) -> Optional[Job]:
        """The job, now running; None when it is not pending any more, or waited too long."""
        return self._claim(job_id, self._store.get(job_id))

    def _claim(self, job_id: str, waiting: Optional[Job]) -> Optional[Job]:
        """The next run of `waiting`, unless another is claimed by now."""
        run = 0 if waiting is None else waiting.run + 1
        if waiting is not None and waiting.status == PENDING:
            RunFiles(self._datadir.jobs, job_id, run).prepare()
        return self._store.claim(job_id, self._clock(), run)

    def _follow(self, job: Job, minder: Minder) -> Optional[Job]:
        with ExitStack() as taken:
            try:
                slot = self.launch(job, taken)
            except OSError as error:  # a full disk, no more processes
                self._postpone(job, str(error))
                return None
            if slot is None:
                return None
            log.started(job.job_id, job.run, job.attempt)
            ended = slot.wait(self.stop_signal.fd)
            facts = slot.facts
        if ended == NOT_BEGUN:
            self._postpone(job, "the shim could not write its evidence")
        elif ended != LEFT:
            goes_on = (
                not self.stop_signal.is_set() and not self.orphans
            )  # these hold places of ours
            following = minder if goes_on else None
            if facts is not None:
                return self.completer.finish(job, facts, following)
            return self.recover(job, following, ended == ENDED)
        return None

    def launch(self, job: Job, taken: ExitStack) -> Optional[Slot]:
        """Hands the run to the shim of a slot; None when it has been settled without."""
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run).create()
        try:
            self._preflight.check(JobPaths(job.script, job.module, job.venv, job.cwd))
        except InvalidRequest as error:
            self.completer.settle(job, ExitFacts(spawn_error=f"{error}."))
            return None
        order = self._launch_specs.build(job, run_files)
        slot = taken.enter_context(self._warm_slot(job, run_files, order)) if job.warm else None
        if self.stop_signal.is_set():
            self.completer.release(job, "this worker leaves")
            return None
        slot = slot or taken.enter_context(self.shim_pool.take())
        if not slot.launch(run_files, order):
            self.stop_signal.wait(PAUSE)
            self._await_end(job)  # its evidence says what it was told before it died
            return None
        return slot

    @contextmanager
    def _warm_slot(
        self, job: Job, run_files: RunFiles, order: Dict[str, Any]
    ) -> Iterator[Optional[Slot]]:
        """None when the run must go cold; the order then says why, for the job's output."""
        wanted, given_up = recipe(job, order), run_files.is_cancel_requested
        with self.warm_pool.take(wanted, self.stop_signal.fd, given_up, job.timeout) as (slot, why):
            if why:
                order["note"] = f"robotni: {why}; this run is cold\n"
            yield slot

    def _postpone(self, job: Job, why: str) -> None:
        """The machine's fault: a moment's pause, then pending again, the attempt given back."""
        self.stop_signal.wait(PAUSE)
        self.completer.release(job, why)

    def adopt(self, job: Job) -> None:
        """Waits for a run that an earlier worker began, then settles it."""
        log.adopted(job.job_id, job.run)
        self._await_end(job)

    def _await_end(self, job: Job) -> None:
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run)
        while run_files.is_held():
            if self.stop_signal.wait(ADOPT_POLL):
                return
        self.recover(job)

    def is_running(self, job: Job) -> bool:
        """Whether the shim of this run lives."""
        return RunFiles(self._datadir.jobs, job.job_id, job.run).is_held()

    def recover(
        self, job: Job, minder: Optional[Minder] = None, has_begun: bool = False
    ) -> Optional[Job]:
        """Settles a run whose shim is done or dead, by the evidence it left, or when it `has_begun`
        for sure. With a `minder` it may claim another job with that, which it returns."""
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run)
        ended = run_files.exit()
        if ended is not None:
            return self.completer.finish(job, ended, minder)
        left = OrphanedProcesses(
            (run_files.mark, (run_files.started() or {}).get("mark")), run_files.result
        )
        has_begun = has_begun or run_files.is_gone() or run_files.has_begun()
        if not (has_begun or self._datadir.has_rebooted() or left.are_there()):
            current = self._store.get(job.job_id)
            if current is not None and current.run == job.run:
                self.completer.release(current, "no trace of a start")
            return None
        if not left.kill():
            log.processes_left(job.job_id, job.run)
        return self.completer.settle(job, ExitFacts(lost=True), minder)
