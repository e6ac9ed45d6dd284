"""Deliberate bugs, one at a time in a copy of the package, each of which a named test must catch.

A mutant is a replacement of a text that occurs once; one whose text is gone is an error. All named
tests pass on a copy without a mutant, so it is the mutant that they catch.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from robotni.tests.ahead import ahead
from robotni.tests.paths import PACKAGE

NONE = "no mutant"


class Mutant(NamedTuple):
    module: str
    old: str
    new: str
    caught_by: str


MUTANTS: Dict[str, Mutant] = {
    "adopted runs do not count": Mutant(
        "upkeep.py",
        "            return self._executor.orphans.popleft()\n",
        "            return None\n",
        "test_recovery.py::test_never_more_scripts_than_workers_those_taken_up_again_included",
    ),
    "no sweep": Mutant(
        "upkeep.py",
        "sum(self._sweep_job(job) for job in self._store.running())",
        "0",
        "test_runner.py::test_a_claimed_run_without_a_trace_goes_back_to_pending",
    ),
    "nobody notifies for what waits": Mutant(
        "upkeep.py",
        "        self.wake()\n",
        "",
        "test_recovery.py::test_a_job_of_which_nobody_rang_is_started_all_the_same",
    ),
    "always tried again": Mutant(
        "job.py",
        "    if job.attempt >= job.max_attempts:\n",
        "    if False:\n",
        "test_job.py::test_how_a_run_ends_says_how_the_job_goes_on",
    ),
    "two transactions instead of one": Mutant(
        "store.py",
        "        self._db.sql(INSERT, cells_of(job))\n",
        "        self._db.sql(INSERT, cells_of(job))\n"
        "        self._db.sql('COMMIT')\n        self._db.sql('BEGIN IMMEDIATE')\n",
        "faults/test_points.py::test_a_submit_killed_at_any_sync_leaves_job_and_ticket_or_neither",
    ),
    "not synced at each commit": Mutant(
        "database.py",
        '"synchronous = full"',
        '"synchronous = normal"',
        "test_engine.py::test_sqlite_keeps_its_promise_of_durability",
    ),
    "the shim ignores its lock": Mutant(
        "shim/loop.py",
        "        order, lock = message\n",
        "        order, lock = message\n        os.close(lock)\n"
        "        lock = os.open(os.devnull, os.O_RDONLY)\n",
        "test_shim.py::test_a_run_goes_on_when_the_worker_is_gone",
    ),
    "no evidence before the start": Mutant(
        "shim/run.py",
        "        write_padded(self.evidence, encode(evidence).encode())\n",
        "",
        "test_shim.py::test_the_start_is_on_record_before_the_script_begins",
    ),
    "the exit file is ignored": Mutant(
        "runner.py",
        "        ended = run_files.exit()\n",
        "        ended = None\n",
        "test_runner.py::test_evidence_of_an_end_is_never_called_lost",
    ),
    "a finish is not fenced": Mutant(
        "store.py",
        "        if run is not None:\n            guards",
        "        if False:\n            guards",
        "test_job.py::test_a_verb_of_an_earlier_run_changes_nothing",
    ),
    "a part that fails undoes nothing": Mutant(
        "database.py",
        '            self.sql("ROLLBACK TO share")\n',
        "",
        "test_database.py::test_what_one_raises_undoes_its_own_part_alone",
    ),
    "the next run is nobody's": Mutant(
        "store.py",
        "if not mind(waiting.job_id, waiting.run + 1):",
        "if False:",
        "test_relay.py::test_the_oldest_is_claimed_with_the_end",
    ),
    "a folder that is gone tells nothing": Mutant(
        "runner.py",
        "has_begun or run_files.is_gone() or run_files.has_begun()",
        "has_begun or run_files.has_begun()",
        "test_runner.py::test_a_claimed_run_whose_folder_is_gone_is_lost",
    ),
    "the folder is made after the claim": Mutant(
        "runner.py",
        "RunFiles(self._datadir.jobs, job_id, run).prepare()",
        "pass",
        "test_runner.py::test_a_claimed_run_without_a_trace_goes_back_to_pending",
    ),
    "the next folder is made after the claim": Mutant(
        "settler.py",
        "RunFiles(self._datadir.jobs, job_id, run).prepare()",
        "pass",
        "test_relay.py::test_the_next_run_has_a_folder_before_it_is_claimed",
    ),
    "who comes to the bell does not look": Mutant(
        "tickets.py",
        "        try:\n            ticket = self._look()\n",
        "        try:\n            ticket = None\n",
        "test_line.py::test_who_comes_to_the_bell_late_looks_first",
    ),
    "an orphan waits for the bell": Mutant(
        "tickets.py",
        " or bool(self._orphans)",
        "",
        "test_line.py::test_each_orphan_gets_a_thread",
    ),
    "what waits comes before an orphan": Mutant(
        "runner.py",
        " and not self.orphans",
        "",
        "test_relay.py::test_an_orphan_comes_before_what_waits",
    ),
    "rung for before it is stored": Mutant(
        "submissions.py",
        "        earlier = self._store.insert_all(jobs, self._most)\n",
        "        self._notify()\n        earlier = self._store.insert_all(jobs, self._most)\n",
        "test_submissions.py::test_the_bell_rings_once_and_after_all_are_stored",
    ),
    "a terminal row may change": Mutant(
        "schema.py",
        "WHEN OLD.status IN ({_TERMINAL})",
        "WHEN 0",
        "test_job.py::test_a_terminal_row_does_not_change_by_raw_sql_either",
    ),
    "idle exit without the second look": Mutant(
        "consumer.py",
        "if idle and self.huey.store.counts()[PENDING]:",
        "if False:",
        "faults/test_idle.py::test_a_job_that_came_as_the_worker_left_is_run",
    ),
    "no subreaper": Mutant(
        "shim/loop.py",
        "    control(PR_SET_CHILD_SUBREAPER, 1)",
        "    pass",
        "test_shim.py::test_nothing_is_left_of_a_finished_run[normal end-a double fork]",
    ),
    "no mark": Mutant(
        "shim/run.py",
        'mark(self.order.get("mark"))',
        "None",
        "test_shim.py::test_death_of_the_shim_frees_the_lock_and_the_mark_finds_what_it_leaves",
    ),
    "a full disk fails what could not begin": Mutant(
        "settler.py",
        "self._when_there_is_room(lambda: self._release_once(job, why))",
        "self._release_once(job, why)",
        "faults/test_full_disk.py::"
        "test_a_run_that_cannot_begin_for_want_of_room_begins_when_there_is",
    ),
    "the script is not checked again": Mutant(
        "runner.py",
        "            self._preflight.check(JobPaths(job.script, job.module, job.venv, job.cwd))\n",
        "            pass\n",
        "test_runner.py::test_a_script_swapped_for_a_link_after_the_post_is_not_run",
    ),
    "a reboot is not noticed": Mutant(
        "datadir.py",
        "return not now or self.boot.read_text() != now",
        "return False",
        "test_runner.py::"
        "test_a_claimed_run_without_a_trace_is_lost_when_the_machine_went_down_since",
    ),
    "the clean-up asks for no day": Mutant(
        "upkeep.py",
        "if self._store.retention.is_clean(day) or not self._store.retention.claim_day(day):",
        "if False:",
        "test_engine.py::test_clean_runs_once_per_local_date_also_when_the_clock_jumps_back",
    ),
}


def copy_of_the_package(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    return Path(shutil.copytree(PACKAGE, folder / "robotni", ignore=ignored))


def run_tests(package: Path, tests: List[str]) -> "subprocess.CompletedProcess[str]":
    """Runs tests of a copied package, on that copy."""
    environ = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(package)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"robotni/tests/{test}" for test in tests)],
        cwd=package.parent,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True, scope="module")
def heavy() -> None:
    if sys.version_info < (3, 9):
        pytest.skip("a mutant is the same on every Python; the default one looks for them")


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Dict[str, Future[Any]]]":
    """How the test that each names ends on a copy with the mutant."""

    def tried(name: str) -> "subprocess.CompletedProcess[str]":
        package = copy_of_the_package(tmp_path_factory.mktemp("copy"))
        if name == NONE:
            return run_tests(package, sorted({mutant.caught_by for mutant in MUTANTS.values()}))
        mutant = MUTANTS[name]
        path = package / mutant.module
        text = path.read_text()
        assert text.count(mutant.old) == 1, f"{mutant.module} has changed: mend the mutant"
        path.write_text(text.replace(mutant.old, mutant.new))
        return run_tests(package, [mutant.caught_by])

    yield from ahead(request, "name", tried)


@pytest.mark.parametrize("name", [NONE])
def test_without_a_mutant_the_same_tests_pass(name: str, trials: "Dict[str, Future[Any]]") -> None:
    run = trials[name].result()
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, trials: "Dict[str, Future[Any]]") -> None:
    run = trials[name].result()
    if "skipped" in run.stdout and "failed" not in run.stdout:
        pytest.skip("this machine cannot run the test that catches it")
    assert run.returncode == 1, run.stdout
    assert "error" not in run.stdout.splitlines()[-1], run.stdout
