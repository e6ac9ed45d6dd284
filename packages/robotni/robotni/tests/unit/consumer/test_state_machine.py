"""Random walks of submit, claim, end, cancel, crash and sweep never leave the table of moves."""

import shutil
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from robotni.errors import Conflict
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.request import JobRequest
from robotni.jobs.states import TERMINAL, TRANSITIONS
from robotni.tests.conftest import House
from robotni.tests.processes import make_venv

LEGAL: Set[Tuple[str, str]] = {
    (start, to) for allowed, to in TRANSITIONS.values() for start in allowed
}
ENDS = (
    ExitFacts(exit_code=0),
    ExitFacts(exit_code=1),
    ExitFacts(signal="SIGKILL"),
    ExitFacts(stopped_by="timeout", signal="SIGTERM"),
    ExitFacts(stopped_by="cancel", signal="SIGTERM"),
    ExitFacts(lost=True),
)
PICK = st.integers(0, 1000)


class Moves(RuleBasedStateMachine):
    """`claimed` is what workers believe they run; a crash makes them forget it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        make_venv(self.folder / ".venv")
        (self.folder / "hello.py").touch()
        self.house = House(self.folder)
        self.seen: Dict[str, Job] = {}
        self.claimed: List[Job] = []
        self.starts: Set[Tuple[str, int]] = set()

    def teardown(self) -> None:
        self.house.close()
        shutil.rmtree(self.folder)

    def pick(self, number: int) -> Optional[str]:
        ids = sorted(self.seen)
        return ids[number % len(ids)] if ids else None

    @rule(delay=st.sampled_from([None, 5]), retries=st.integers(0, 2), wait=st.sampled_from([0, 3]))
    def submit(self, delay: Optional[float], retries: int, wait: float) -> None:
        request = JobRequest(
            script="hello.py", venv=".venv", delay=delay, retries=retries, retryDelay=wait
        )
        job = self.house.engine.submit(request).job
        self.seen[job.job_id] = job

    @rule(number=PICK)
    def claim(self, number: int) -> None:
        job_id = self.pick(number)
        job = self.house.claim(job_id) if job_id else None
        if job is not None:
            self.claimed.append(job)

    @rule(number=PICK, started=st.booleans())
    def begin(self, number: int, started: bool) -> None:
        """The shim leaves evidence of a start: never twice for one attempt."""
        if self.claimed and started:
            job = self.claimed[number % len(self.claimed)]
            folder = self.house.datadir.jobs / job.job_id / str(job.run)
            if not (folder / "started").exists() and self.is_current(job):
                assert (job.job_id, job.attempt) not in self.starts
                self.starts.add((job.job_id, job.attempt))
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "started").write_text('{"mark": null}')

    def is_current(self, job: Job) -> bool:
        row = self.house.store.get(job.job_id)
        return row is not None and row.status == "running" and row.run == job.run

    @rule(number=PICK, end=st.sampled_from(ENDS), twice=st.booleans(), goes_on=st.booleans())
    def end(self, number: int, end: ExitFacts, twice: bool, goes_on: bool) -> None:
        if self.claimed:
            job = self.claimed[number % len(self.claimed)]
            if not twice:
                self.claimed.remove(job)
            waiting = self.house.executor.reserve_next() if goes_on else None
            claimed = self.house.executor.completer._complete(job, end, {}, waiting)
            if waiting is not None:
                self.house.executor.in_flight.remove(waiting.job_id)
            if claimed is not None:
                self.claimed.append(claimed)

    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        job_id = self.pick(number)
        if job_id:
            try:
                self.house.engine.cancel(job_id)
            except Conflict:
                assert self.seen[job_id].is_terminal

    @rule()
    def crash_and_sweep(self) -> None:
        self.claimed.clear()
        self.house.executor.recovery.sweep()
        assert self.house.engine.counts()["running"] == 0

    @rule(seconds=st.sampled_from([1, 10]))
    def wait(self, seconds: float) -> None:
        self.house.clock.now += seconds
        self.house.maintenance.due()

    @rule()
    def flush(self) -> None:
        self.house.engine.flush()

    @invariant()
    def every_change_is_a_legal_move(self) -> None:
        for job_id, before in self.seen.items():
            after = self.house.store.get(job_id)
            assert after is not None
            if before.is_terminal:
                assert after == before
            else:
                self.check_step(before, after)
            self.seen[job_id] = after

    def check_step(self, before: Job, after: Job) -> None:
        assert after.status == before.status or self.is_reachable(before.status, after.status)
        assert (after.finished_at is not None) == (after.status in TERMINAL)
        assert after.attempt <= after.max_attempts
        assert after.run >= before.run

    def is_reachable(self, start: str, end: str) -> bool:
        """One rule may make two moves: a sweep releases, a flush cancels what was just due."""
        if (start, end) in LEGAL:
            return True
        return any((start, mid) in LEGAL and (mid, end) in LEGAL for _, mid in LEGAL)

    @invariant()
    def the_counts_are_right(self) -> None:
        counts = self.house.engine.counts()
        for state, number in counts.items():
            assert number == sum(job.status == state for job in self.seen.values())


Moves.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
test_moves = Moves.TestCase
