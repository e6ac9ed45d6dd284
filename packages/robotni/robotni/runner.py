"""The runner: how a worker takes one job from pending to its end. claim launch adopt finish.

It promises at most one start per attempt, a settled row for every run that ended, and that a run
whose shim lives is waited for, not repeated. Evidence decides, in this order: the lock of the run
is held: it runs. `exit.json`: it ended so. `started`: it is lost. Nothing: it never started, or
the machine went down since (a power cut may take the evidence): it is lost.
Budget: 2.0 ms of CPU for a job in the worker, three transactions with what the web process writes.
It must not know Huey; a thread of the worker calls `run` with a job id, or `adopt` with an orphan.
"""

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Set, Tuple

from robotni import events
from robotni.datadir import DataDir, is_locked, ring
from robotni.errors import InvalidRequest, StorageFull
from robotni.interpreters import Interpreters
from robotni.job import (
    PENDING,
    RUNNING,
    TERMINAL,
    TIMEOUT,
    TRANSITIONS,
    Attempt,
    ExitFacts,
    Job,
    Outcome,
    Progress,
    outcome,
    signal_name,
)
from robotni.orders import Orders, recipe
from robotni.preflight import Place, Preflight
from robotni.rundir import RunDir
from robotni.settings import Settings
from robotni.slots import LEFT, NOT_BEGUN, Leave, Slot, Slots, kill_marked
from robotni.store import Store

PAUSE = 1.0  # seconds before another try where the machine, not the job, is at fault
ADOPT_POLL = 0.1  # seconds between two looks at the lock of an adopted run


class Runner:
    """Runs jobs in the threads of one worker. `server` is the environment scripts see part of."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        datadir: DataDir,
        server: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.leave = Leave()
        self.slots = Slots(settings.workers, datadir.worker_log)
        self.interpreters = Interpreters(
            settings.warm_max, settings.idle_exit, datadir.worker_log, datadir.warm
        )
        self._settings = settings
        self._store = store
        self._datadir = datadir
        self._clock = clock
        self._orders = Orders(settings, datadir, server)
        self._preflight = Preflight(settings.project_folder, settings.script_roots)
        self._mine: Set[Tuple[str, int]] = set()
        self._mine_lock = threading.Lock()
        self._last_busy = time.monotonic()

    def close(self) -> None:
        """Lets the shims go, each after the run it may have."""
        self.slots.close()
        self.interpreters.close()

    def idle_seconds(self) -> float:
        """Seconds since a thread last had a job; 0 while one has."""
        with self._mine_lock:
            if self._mine:
                self._last_busy = time.monotonic()
            return time.monotonic() - self._last_busy

    def has_room(self) -> bool:
        """Whether a thread has nothing to do."""
        with self._mine_lock:
            return len(self._mine) < self._settings.workers

    def mind(self, job_id: str, run: int) -> bool:
        """Takes responsibility for a run; False when another thread has it."""
        with self._mine_lock:
            if (job_id, run) in self._mine:
                return False
            self._mine.add((job_id, run))
            return True

    def unmind(self, job_id: str, run: int) -> None:
        with self._mine_lock:
            self._mine.discard((job_id, run))
            self._last_busy = time.monotonic()

    @contextmanager
    def _minding(self, job_id: str, run: int) -> Iterator[bool]:
        won = self.mind(job_id, run)
        try:
            yield won
        finally:
            if won:
                self.unmind(job_id, run)

    def run(self, job_id: str) -> None:
        """Runs the next attempt of a pending job to its end, or until this worker leaves."""
        if self.leave.is_set():
            return  # row and ticket stay as they are, for the next worker
        waiting = self._store.get(job_id)
        run = 0 if waiting is None else waiting.run + 1
        with self._minding(job_id, run) as won, self.slots.room():
            if not won:
                self._store.drop_ticket(job_id)
                return
            job = self.claim(job_id, run)
            if job is None:
                return
            try:
                self._follow(job)
            except Exception as error:  # a run must always settle
                events.failed("run", job_id)
                self._settle_anyhow(job, error)

    def _settle_anyhow(self, job: Job, error: Exception) -> None:
        """After a fault of our own: failed if nothing was started; evidence is the sweep's."""
        rundir = RunDir(self._datadir.jobs, job.job_id, job.run)
        if not is_locked(rundir.lock) and rundir.started() is None:
            self.settle(job, ExitFacts(spawn_error=f"robotni could not run it: {error!r}."))

    def claim(self, job_id: str, run: Optional[int] = None) -> Optional[Job]:
        """The job, now running; None when it is not pending any more, or waited too long, or when
        its next run is not number `run`."""
        now = self._clock()
        try:
            job = self._store.claim(job_id, now, run)
        except StorageFull:
            self.leave.wait(PAUSE)  # its ticket is handed out again
            return None
        if job is None:
            self._store.expire(now)
        else:
            events.started(job)
        return job

    def _follow(self, job: Job) -> None:
        with ExitStack() as taken:
            try:
                slot = self.launch(job, taken)
            except OSError as error:  # a full disk, no more processes
                self._postpone(job, str(error))
                return
            if slot is None:
                return
            ended = slot.wait(self.leave.fd)
        if ended == NOT_BEGUN:
            self._postpone(job, "the shim could not write its evidence")
        elif ended != LEFT:
            self.settle_orphan(job)

    def launch(self, job: Job, taken: ExitStack) -> Optional[Slot]:
        """Hands the run to the shim of a slot; None when it has been settled without."""
        rundir = RunDir(self._datadir.jobs, job.job_id, job.run).create()
        try:
            self._preflight.check(Place(job.script, job.module, job.venv, job.cwd))
        except InvalidRequest as error:
            self.settle(job, ExitFacts(spawn_error=f"{error}."))
            return None
        order = self._orders.order(job, rundir)
        slot = taken.enter_context(self._warm_slot(job, rundir, order)) if job.warm else None
        if job.warm and self.leave.is_set():
            self.release(job, "this worker leaves")
            return None
        slot = slot or taken.enter_context(self.slots.take())
        if not slot.launch(rundir, order):
            self._postpone(job, "the shim died before")
            return None
        return slot

    @contextmanager
    def _warm_slot(
        self, job: Job, rundir: RunDir, order: Dict[str, Any]
    ) -> Iterator[Optional[Slot]]:
        """None when the run must go cold; the order then says why, for the job's output."""
        wanted, given_up = recipe(job, order), rundir.is_cancel_requested
        with self.interpreters.take(wanted, self.leave.fd, given_up, job.timeout) as (slot, why):
            if why:
                order["note"] = f"robotni: {why}; this run is cold\n"
            yield slot

    def _postpone(self, job: Job, why: str) -> None:
        """The machine's fault: a moment's pause, then pending again, the attempt given back."""
        self.leave.wait(PAUSE)
        self.release(job, why)

    def release(self, job: Job, why: str) -> None:
        if job.cancel_requested_at is not None:
            self.settle(job, ExitFacts(stopped_by="cancel"))
        else:
            self._when_there_is_room(lambda: self._release_once(job, why))

    def _release_once(self, job: Job, why: str) -> None:
        if self._store.release(job, self._clock()):
            events.released(job, why)
            ring(self._datadir.bell)

    def adopt(self, job: Job) -> None:
        """Waits for a run that an earlier worker began, then settles it."""
        events.adopted(job)
        rundir = RunDir(self._datadir.jobs, job.job_id, job.run)
        while is_locked(rundir.lock):
            if self.leave.wait(ADOPT_POLL):
                return
        self.settle_orphan(job)

    def is_running(self, job: Job) -> bool:
        """Whether the shim of this run lives."""
        return is_locked(RunDir(self._datadir.jobs, job.job_id, job.run).lock)

    def settle_orphan(self, job: Job) -> None:
        """Settles a run whose shim is done or dead, by the evidence it left."""
        rundir = RunDir(self._datadir.jobs, job.job_id, job.run)
        ended = rundir.exit()
        if ended is not None:
            self.finish(job, ended)
            return
        started = rundir.started()
        if started is None and not self._datadir.has_rebooted():
            self.release(self._store.get(job.job_id) or job, "no trace of a start")
            return
        if started is not None and not kill_marked(started.get("mark")):
            events.survivors(job)
        self.settle(job, ExitFacts(lost=True))

    def finish(self, job: Job, ended: Dict[str, Any]) -> None:
        """Settles a run by its `exit.json`."""
        number = ended["signal"]
        facts = ExitFacts(
            exit_code=ended["exitCode"],
            signal=None if number is None else signal_name(number),
            stopped_by=ended["stoppedBy"],
            out_of_memory=ended["outOfMemory"],
            spawn_error=ended["spawnError"],
            last_line=RunDir(self._datadir.jobs, job.job_id, job.run).last_line(),
        )
        self.settle(
            job,
            facts,
            finished_at=ended["finishedAt"],
            output_bytes=ended["outputBytes"],
            output_truncated=ended["outputTruncated"],
        )

    def settle(self, job: Job, facts: ExitFacts, **columns: Any) -> None:
        """Writes how a run ended, fenced by the run; waits for room on a full disk."""
        files = self._script_files(job)
        self._when_there_is_room(lambda: self._settle_once(job, facts, {**files, **columns}))

    def _when_there_is_room(self, write: Callable[[], None]) -> None:
        while True:
            try:
                write()
                return
            except StorageFull:
                if self.leave.wait(PAUSE):
                    return  # the evidence stays; the next worker settles it

    def _settle_once(self, job: Job, facts: ExitFacts, columns: Dict[str, Any]) -> None:
        current: Optional[Job] = job
        while current is not None and current.run == job.run and current.status == RUNNING:
            now = self._clock()
            verdict = outcome(current, facts, now)
            values = _columns(current, facts, verdict, now, columns)
            timed_out = verdict.error is not None and verdict.error.code == TIMEOUT
            if self._store.settle(verdict.verb, current, timed_out, **values):
                events.settled(current, verdict.verb, verdict.error)
                if TRANSITIONS[verdict.verb][1] == PENDING:
                    ring(self._datadir.bell)
                return
            current = self._store.get(job.job_id)  # cancelled meanwhile, or settled
        events.late(job)

    def _script_files(self, job: Job) -> Dict[str, Any]:
        """Result and progress as the script left them; a bad result is told in the job's log."""
        rundir = RunDir(self._datadir.jobs, job.job_id, job.run)
        columns: Dict[str, Any] = {"output_bytes": rundir.output_size()}
        seen = rundir.read_progress()
        columns["progress"] = None if seen is None else Progress(percent=seen[0], message=seen[1])
        try:
            columns["result"] = rundir.read_result()
        except ValueError as error:
            rundir.note(str(error))
        return columns


def _columns(
    job: Job, facts: ExitFacts, verdict: Outcome, now: float, columns: Dict[str, Any]
) -> Dict[str, Any]:
    """The row after a run: how it ended when that is final, else clean for the next attempt."""
    finished_at = columns.pop("finished_at", now)
    attempt = Attempt(
        attempt=job.attempt,
        started_at=job.started_at or finished_at,
        finished_at=finished_at,
        exit_code=facts.exit_code,
        signal=facts.signal,
        error=verdict.error,
        run=job.run,
    )
    common: Dict[str, Any] = {"attempts": [*job.attempts, attempt]}
    to = TRANSITIONS[verdict.verb][1]
    if to in TERMINAL:
        ending = {"exit_code": facts.exit_code, "signal": facts.signal, "error": verdict.error}
        return {**columns, **common, **ending, "finished_at": finished_at}
    since = now if to == PENDING else None
    return {**common, "started_at": None, "run_at": verdict.run_at, "pending_since": since}
