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
        "consumer/recovery.py",
        "            return self._to_adopt.popleft()\n",
        "            return None\n",
        "integration/consumer/test_recovery.py::"
        "test_never_more_scripts_than_workers_those_taken_up_again_included",
    ),
    "no sweep": Mutant(
        "consumer/recovery.py",
        "[self._sweep_job(job) for job in self._store.running()]",
        "[]",
        "integration/consumer/test_executor.py::"
        "test_a_claimed_run_without_a_trace_goes_back_to_pending",
    ),
    "nobody wakes a thread for a job whose submitter died": Mutant(
        "consumer/maintenance.py",
        "        self.wake_idle_threads()\n",
        "",
        "integration/consumer/test_recovery.py::"
        "test_a_job_of_which_nobody_rang_is_started_all_the_same",
    ),
    "always tried again": Mutant(
        "jobs/outcome.py",
        "    if job.attempt >= job.max_attempts:\n",
        "    if False:\n",
        "unit/jobs/test_outcome.py",
    ),
    "not synced at each commit": Mutant(
        "storage/database.py",
        '"synchronous = full"',
        '"synchronous = normal"',
        "unit/engine/test_engine.py::test_sqlite_writes_durably",
    ),
    "the shim ignores its lock": Mutant(
        "shim/loop.py",
        "        run = Run(message, wakeup, fifo, vmstat, standby)\n",
        "        os.close(lock)\n        lock = os.open(os.devnull, os.O_RDONLY)\n"
        "        run = Run(message, wakeup, fifo, vmstat, standby)\n",
        "integration/shim/test_shim.py::test_a_run_goes_on_when_the_worker_is_gone",
    ),
    "no evidence before the start": Mutant(
        "shim/run.py",
        "        write_padded(self.evidence, json.dumps(evidence).encode())\n",
        "",
        "integration/shim/test_shim.py::test_the_start_is_on_record_before_the_script_begins",
    ),
    "the exit file is ignored": Mutant(
        "consumer/recovery.py",
        "        ended = run_files.exit_facts()\n",
        "        ended = None\n",
        "integration/consumer/test_executor.py::test_evidence_of_an_end_is_never_called_lost",
    ),
    "an end is not guarded by its run": Mutant(
        "storage/store.py",
        "        if run is not None:\n            guards",
        "        if False:\n            guards",
        "unit/jobs/test_states.py::test_a_transition_of_an_earlier_run_changes_nothing",
    ),
    "a job is reserved by two threads": Mutant(
        "consumer/executor.py",
        "self._store.next_pending(self.in_flight.ids())",
        "self._store.next_pending([])",
        "unit/consumer/test_claim_next.py::test_a_job_is_reserved_once",
    ),
    "a folder that was removed tells nothing": Mutant(
        "consumer/recovery.py",
        "            or run_files.is_removed()\n",
        "",
        "integration/consumer/test_executor.py::"
        "test_a_claimed_run_whose_folder_was_removed_is_lost",
    ),
    "the folder is made after the claim": Mutant(
        "consumer/executor.py",
        "        self._make_folder(waiting)\n        return",
        "        return",
        "integration/consumer/test_executor.py::"
        "test_the_folder_of_a_run_is_there_before_it_is_claimed",
    ),
    "a thread sleeps without a look": Mutant(
        "consumer/huey_queue.py",
        "            message = self._next_message()\n            if message is None",
        "            message = None\n            if message is None",
        "unit/consumer/test_idle_threads.py::test_one_wake_up_is_enough_for_many_jobs",
    ),
    "a run to adopt waits for the FIFO": Mutant(
        "consumer/huey_queue.py",
        " or executor.recovery.has_runs_to_adopt()",
        "",
        "unit/consumer/test_idle_threads.py::test_a_job_waits_while_there_is_a_run_to_adopt",
    ),
    "a pending job comes before a run to adopt": Mutant(
        "consumer/executor.py",
        " and not self.recovery.has_runs_to_adopt()",
        "",
        "unit/consumer/test_claim_next.py::test_a_run_to_adopt_comes_before_the_jobs_that_wait",
    ),
    "the worker is notified before the job is stored": Mutant(
        "engine/submit.py",
        "            inserted = self._store.insert_all(",
        "            self._notify()\n            inserted = self._store.insert_all(",
        "unit/engine/test_submit.py::test_the_worker_is_woken_up_once_after_all_jobs_are_stored",
    ),
    "a terminal row may change": Mutant(
        "storage/migrations.py",
        "WHEN OLD.status IN ({_TERMINAL})",
        "WHEN 0",
        "unit/jobs/test_states.py::test_a_terminal_row_cannot_be_changed_with_sql",
    ),
    "idle exit without the last look": Mutant(
        "consumer/consumer.py",
        "if self._was_idle and self.huey.store.counts()[PENDING]:",
        "if False:",
        "chaos/test_idle.py::test_a_job_that_came_as_the_worker_left_is_run",
    ),
    "no subreaper": Mutant(
        "shim/loop.py",
        "    prctl(PR_SET_CHILD_SUBREAPER, 1)",
        "    pass",
        "integration/shim/test_shim.py::"
        "test_nothing_is_left_of_a_finished_run[normal end-a double fork]",
    ),
    "no mark": Mutant(
        "shim/run.py",
        'mark(self.spec["mark"])',
        "None",
        "integration/shim/test_shim.py::"
        "test_death_of_the_shim_frees_the_lock_and_the_mark_finds_what_it_leaves",
    ),
    "a standby interpreter has no mark": Mutant(
        "shim/standby.py",
        "        mark_others(descendants())\n",
        "",
        "integration/shim/test_standby.py::"
        "test_death_of_the_shim_frees_the_lock_and_the_mark_finds_the_script",
    ),
    "a standby interpreter outlives its shim": Mutant(
        "shim/standby_program.py",
        "        libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)\n",
        "        pass\n",
        "integration/shim/test_standby.py::test_a_standby_interpreter_ends_with_its_shim",
    ),
    "a preload that crashes fails the run": Mutant(
        "shim/run.py",
        " and not self.standby.was_used():",
        " and False:",
        "integration/shim/test_standby.py::"
        "test_a_preload_that_crashes_while_a_run_waits_for_it_costs_no_run",
    ),
    "a module that changed is not noticed": Mutant(
        "shim/standby_program.py",
        " and stamps(os) == before",
        "",
        "integration/shim/test_standby.py::test_a_change_since_the_import_gives_a_new_interpreter",
    ),
    "a standby interpreter is started while jobs are pending": Mutant(
        "consumer/executor.py",
        "may_prepare = not is_busy and",
        "may_prepare =",
        "integration/consumer/test_warm_pool.py::test_none_is_started_while_jobs_are_pending",
    ),
    "a full disk fails a run that could not start": Mutant(
        "consumer/completer.py",
        "self._when_possible(lambda: self._store.release(job, self._clock()))",
        "self._store.release(job, self._clock())",
        "chaos/test_full_disk.py::"
        "test_a_run_that_cannot_begin_for_want_of_room_begins_when_there_is",
    ),
    "the script is not checked again": Mutant(
        "consumer/executor.py",
        "            self._preflight.check(JobPaths(job.script, job.module, job.venv, job.cwd))\n",
        "",
        "integration/consumer/test_executor.py::"
        "test_a_script_swapped_for_a_link_after_the_post_is_not_run",
    ),
    "a reboot is not noticed": Mutant(
        "system/datadir.py",
        "return not now or self.boot.read_text() != now",
        "return False",
        "integration/consumer/test_executor.py::"
        "test_a_claimed_run_without_a_trace_is_lost_when_the_machine_went_down_since",
    ),
    "the clean-up asks for no day": Mutant(
        "consumer/maintenance.py",
        "if retention.is_day_claimed(day) or not retention.claim_day(day):",
        "if False:",
        "unit/engine/test_engine.py::"
        "test_the_clean_up_runs_once_a_day_also_when_the_clock_jumps_back",
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
        assert text.count(mutant.old) == 1, f"{mutant.module} has changed: correct the mutant"
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
