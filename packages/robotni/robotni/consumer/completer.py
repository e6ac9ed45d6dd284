"""The completer: how a run ends in the job's row. finish settle release.

It promises that a run is settled once, fenced by its number, by what its evidence says; that on a
full disk it waits for room, or leaves the evidence to the next worker; and that a place which
becomes free takes the next job in the same transaction. It must not know how a run is started.
"""

from typing import Any, Callable, Dict, Optional, Tuple, TypeVar

from robotni import log
from robotni.consumer.in_flight import Minder
from robotni.consumer.shim_pool import StopSignal
from robotni.errors import StorageFull
from robotni.jobs.models import Attempt, Job, Progress
from robotni.jobs.outcome import ExitFacts, Outcome, outcome, signal_name
from robotni.jobs.states import PENDING, RUNNING, TERMINAL, TIMEOUT, TRANSITIONS
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import notify

PAUSE = 1.0  # seconds before another try where the machine, not the job, is at fault
Written = TypeVar("Written")


class Completer:
    """Writes ends. Where a `minder` is given, it also claims what comes next for the same place,
    which is returned, running and minded."""

    def __init__(
        self, store: Store, datadir: DataDir, leave: StopSignal, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._datadir = datadir
        self._stop_signal = leave
        self._clock = clock

    def finish(
        self, job: Job, ended: Dict[str, Any], minder: Optional[Minder] = None
    ) -> Optional[Job]:
        """Settles a run by its `exit.json`."""
        number = ended["signal"]
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run)
        facts = ExitFacts(
            exit_code=ended["exitCode"],
            signal=None if number is None else signal_name(number),
            stopped_by=ended["stoppedBy"],
            out_of_memory=ended["outOfMemory"],
            spawn_error=ended["spawnError"],
            last_line=run_files.last_line() if ended["exitCode"] else "",
        )
        columns = {
            "finished_at": ended["finishedAt"],
            "output_bytes": ended["outputBytes"],
            "output_truncated": ended["outputTruncated"],
        }
        return self._settle(job, facts, {**_script_files(run_files), **columns}, minder)

    def settle(self, job: Job, facts: ExitFacts, minder: Optional[Minder] = None) -> Optional[Job]:
        """Settles a run of which there is no `exit.json`."""
        run_files = RunFiles(self._datadir.jobs, job.job_id, job.run)
        columns = {**_script_files(run_files), "output_bytes": run_files.output_size()}
        return self._settle(job, facts, columns, minder)

    def release(self, job: Job, why: str) -> None:
        """Back to pending: it provably never started."""
        if job.cancel_requested_at is not None:
            self.settle(job, ExitFacts(stopped_by="cancel"))
        else:
            self._when_there_is_room(lambda: self._release_once(job, why))

    def _release_once(self, job: Job, why: str) -> None:
        if self._store.release(job, self._clock()):
            log.released(job.job_id, job.run, why)
            self._notify()

    def _settle(
        self, job: Job, facts: ExitFacts, columns: Dict[str, Any], minder: Optional[Minder]
    ) -> Optional[Job]:
        return self._when_there_is_room(lambda: self._settle_once(job, facts, columns, minder))

    def _when_there_is_room(self, write: Callable[[], Written]) -> Optional[Written]:
        while True:
            try:
                return write()
            except StorageFull:
                if self._stop_signal.wait(PAUSE):
                    return None  # the evidence stays; the next worker settles it

    def _settle_once(
        self, job: Job, facts: ExitFacts, columns: Dict[str, Any], minder: Optional[Minder]
    ) -> Optional[Job]:
        current: Optional[Job] = job
        while current is not None and current.run == job.run and current.status == RUNNING:
            now = self._clock()
            verdict = outcome(current, facts, now)
            values = _columns(current, facts, verdict, now, columns)
            timed_out = verdict.error is not None and verdict.error.code == TIMEOUT
            won, following = self._write(verdict.verb, current, timed_out, values, minder)
            if won:
                log.ended(
                    job.job_id,
                    job.run,
                    verdict.verb,
                    None if verdict.error is None else verdict.error.code,
                )
                if TRANSITIONS[verdict.verb][1] == PENDING:
                    self._notify()
                return following
            current = self._store.get(job.job_id)  # cancelled meanwhile, or settled
        log.end_ignored(job.job_id, job.run)
        return None

    def _notify(self) -> None:
        try:
            notify(self._datadir.wakeup)
        except OSError:  # no descriptors left: the maintenance notifies
            pass

    def _write(
        self,
        verb: str,
        job: Job,
        timed_out: bool,
        values: Dict[str, Any],
        minder: Optional[Minder],
    ) -> Tuple[bool, Optional[Job]]:
        """Whether the run was settled by this, and what was claimed with it."""
        if minder is None:
            return self._store.settle(verb, job, timed_out, **values), None

        # In quotes, as annotations of an inner function are made at each call.
        def mind(job_id: "str", run: "int") -> "bool":
            won = minder.mind(job_id, run)
            if won:
                RunFiles(self._datadir.jobs, job_id, run).prepare()
            return won

        try:
            return self._store.complete_and_claim(verb, job, timed_out, self._clock, mind, **values)
        except StorageFull:
            minder.unmind_all_but((job.job_id, job.run))
            raise


def _script_files(run_files: RunFiles) -> Dict[str, Any]:
    """Result and progress as the script left them; a bad result is told in the job's log."""
    seen = run_files.read_progress()
    columns: Dict[str, Any] = {
        "progress": None if seen is None else Progress(percent=seen[0], message=seen[1])
    }
    try:
        columns["result"] = run_files.read_result()
    except ValueError as error:
        run_files.note(str(error))
    return columns


def _columns(
    job: Job, facts: ExitFacts, verdict: Outcome, now: float, columns: Dict[str, Any]
) -> Dict[str, Any]:
    """The row after a run: how it ended when that is final, else clean for the next attempt."""
    finished_at = columns.get("finished_at", now)
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
