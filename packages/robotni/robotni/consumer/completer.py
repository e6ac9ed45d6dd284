"""How a run ends in the job's row: complete, release.

A run ends once, guarded by its number, by what its evidence says. On a full disk, or without
descriptors, the completer waits, or leaves the evidence to the next worker. It does not know how a
run is started.
"""

import time
from typing import Any, Callable, Dict, Optional, Tuple, TypeVar

from robotni import log
from robotni.consumer.shim_pool import StopSignal
from robotni.errors import MachineFault, StorageFull
from robotni.jobs.models import Attempt, Job, Progress
from robotni.jobs.outcome import ExitFacts, Outcome, outcome, signal_name
from robotni.jobs.states import PENDING, RUNNING, TERMINAL, TIMEOUT, TRANSITIONS
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store

PAUSE = 1.0  # seconds before another try where the machine, not the job, is at fault
READ_WITHIN = 60.0  # seconds that a machine has which cannot read the files of a run
FAULTS = (OSError, StorageFull, MachineFault)  # of the machine: what failed is tried again
Written = TypeVar("Written")


class Completer:
    """Writes the ends of runs. `notify` wakes a thread for a job that is pending again."""

    def __init__(
        self,
        store: Store,
        notify: Callable[[], object],
        stop_signal: StopSignal,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._notify = notify
        self._stop_signal = stop_signal
        self._clock = clock

    def complete_by_evidence(
        self, job: Job, ended: Dict[str, Any], waiting: Optional[Job] = None
    ) -> Optional[Job]:
        """Ends a run as its `exit.json` says; see `complete`."""
        number = ended["signal"]
        run_files = self._store.run_files(job)
        if ended.get("processesLeft"):
            log.processes_left(job.job_id, job.run)
        has_failed = bool(ended["exitCode"])
        columns, result_error, quote = self._script_files(
            run_files, lambda: run_files.quote(ended["outputBytes"]) if has_failed else ""
        )
        facts = ExitFacts(
            exit_code=ended["exitCode"],
            signal=None if number is None else signal_name(number),
            stopped_by=ended["stoppedBy"],
            out_of_memory=ended["outOfMemory"],
            spawn_error=ended["spawnError"],
            quote=quote,
            result_error=result_error,
        )
        columns.update(
            finished_at=ended["finishedAt"],
            output_bytes=ended["outputBytes"],
            output_truncated=ended["outputTruncated"],
        )
        return self._complete(job, facts, columns, waiting)

    def complete(self, job: Job, facts: ExitFacts) -> None:
        """Ends a run that left no `exit.json`."""
        run_files = self._store.run_files(job)
        columns, _, _ = self._script_files(run_files)
        columns["output_bytes"] = run_files.output_size()
        self._complete(job, facts, columns, None)

    def release(self, job: Job, reason: str) -> None:
        """Puts back to pending a run that never started; a cancelled one ends instead."""
        if job.cancel_requested_at is not None:
            self.complete(job, ExitFacts(stopped_by="cancel"))
        elif self._when_possible(lambda: self._store.release(job, self._clock())):
            log.released(job.job_id, job.run, reason)
            self._notify()

    def _script_files(
        self, run_files: RunFiles, read_quote: Callable[[], Optional[str]] = str
    ) -> Tuple[Dict[str, Any], Optional[str], Optional[str]]:
        """Result and progress as the script left them, what is wrong with the result, and the quote
        of the output. OSError when this worker stops while the machine cannot read them."""
        deadline = time.monotonic() + READ_WITHIN
        while True:
            try:
                return (*_read_script_files(run_files), read_quote())
            except OSError as error:
                if time.monotonic() > deadline:
                    return {}, f"its result cannot be read ({error}); check the disk", None
                if self._stop_signal.wait(PAUSE):
                    raise

    def _complete(
        self, job: Job, facts: ExitFacts, columns: Dict[str, Any], waiting: Optional[Job]
    ) -> Optional[Job]:
        """Ends a run; returns the job `waiting`, claimed in the same transaction, if it was."""
        return self._when_possible(lambda: self._complete_once(job, facts, columns, waiting))

    def _when_possible(self, write: Callable[[], Written]) -> Optional[Written]:
        while True:
            try:
                return write()
            except FAULTS:
                if self._stop_signal.wait(PAUSE):
                    return None  # the evidence stays; the next worker completes the run

    def _complete_once(
        self, job: Job, facts: ExitFacts, columns: Dict[str, Any], waiting: Optional[Job]
    ) -> Optional[Job]:
        current: Optional[Job] = job
        while current is not None and current.run == job.run and current.status == RUNNING:
            now = self._clock()
            end = outcome(current, facts, now)
            error = None if end.error is None else end.error.code
            values = _columns(current, facts, end, now, columns)
            won, claimed = self._store.complete(
                end.verb, current, values, error == TIMEOUT, waiting, now
            )
            if won:
                log.ended(job.job_id, job.run, end.verb, error)
                if TRANSITIONS[end.verb][1] == PENDING:
                    self._notify()
                return claimed
            current = self._store.get(job.job_id)  # a cancel was requested meanwhile, or it ended
        log.end_ignored(job.job_id, job.run)
        return None


def _read_script_files(run_files: RunFiles) -> Tuple[Dict[str, Any], Optional[str]]:
    """Result and progress as the script left them, and what is wrong with the result."""
    progress = run_files.read_progress()
    columns: Dict[str, Any] = {
        "progress": None if progress is None else Progress(percent=progress[0], message=progress[1])
    }
    try:
        columns["result"] = run_files.read_result()
    except ValueError as error:
        return columns, str(error)
    return columns, None


def _columns(
    job: Job, facts: ExitFacts, end: Outcome, now: float, columns: Dict[str, Any]
) -> Dict[str, Any]:
    """The row after a run: how it ended when that is final, else clean for the next attempt."""
    finished_at = columns.get("finished_at", now)
    attempt = Attempt(
        attempt=job.attempt,
        started_at=job.started_at or finished_at,
        finished_at=finished_at,
        exit_code=facts.exit_code,
        signal=facts.signal,
        error=end.error,
        run=job.run,
    )
    attempts = {"attempts": [*job.attempts, attempt]}
    to = TRANSITIONS[end.verb][1]
    if to in TERMINAL:
        how = {"exit_code": facts.exit_code, "signal": facts.signal, "error": end.error}
        return {**columns, **attempts, **how, "finished_at": finished_at}
    since = now if to == PENDING else None
    return {**attempts, "started_at": None, "run_at": end.run_at, "pending_since": since}
