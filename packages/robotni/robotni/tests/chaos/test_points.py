"""Killed at a named point: as a process is about to make its n-th call of a kind, by strace."""

import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from robotni.jobs.request import JobRequest
from robotni.jobs.states import PENDING, RUNNING
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.conftest import House
from robotni.tests.processes import eventually, processes_of

SYNCS = "fsync,fdatasync"
SUBMITTER = """
import sys
from pathlib import Path
from robotni.tests.conftest import House
from robotni.jobs.request import JobRequest

house = House(Path(sys.argv[1]))
for _ in range(3):
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    print(job.job_id, flush=True)
"""


def killing(strace: str, calls: str, number: int) -> List[str]:
    """The start of a command line: what follows is killed at its `number`th of `calls`."""
    inject = f"inject={calls}:signal=KILL:when={number}"
    return [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]


def test_a_submit_that_is_killed_at_any_sync_leaves_a_sound_database(
    strace: str, project: Path
) -> None:
    House(project).close()
    (project / "submitter.py").write_text(SUBMITTER)
    printed: List[str] = []
    killed = 0
    for number in range(1, 8):  # opening the file waits for none
        command = [*killing(strace, SYNCS, number), sys.executable, "submitter.py", str(project)]
        run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        killed += run.returncode < 0
        printed += run.stdout.split()
        store = Store(DataDir(project / ".robotni"))
        assert [job_id for job_id in printed if store.get(job_id) is None] == []
        assert store.integrity_errors() == []
        store.close()
    assert killed >= 3
    assert printed


POINTS = [("write,pwrite64", n) for n in range(1, 6)] + [("fsync", 1), ("fsync", 2)]
POINTS += [("fork,vfork,clone,clone3", 1), ("rename", 1), ("waitpid,wait4", 1), ("sendto", 1)]


@pytest.mark.parametrize(("calls", "number"), POINTS)
def test_a_shim_killed_at_any_point_starts_nothing_twice_and_forgets_no_end(
    house: House, strace: str, monkeypatch: pytest.MonkeyPatch, calls: str, number: int
) -> None:
    house.datadir.remember_boot()  # as a worker does when it starts
    python = house.project / "python"
    command = " ".join([*killing(strace, calls, number), sys.executable])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o700)
    lines = house.project / "lines"
    script = f"open({str(lines)!r}, 'a').write('S\\n')"
    job = house.engine.submit(JobRequest(script=house.script(script), venv=".venv")).job
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        house.executor.run(job.job_id)
    after = house.engine.get(job.job_id)
    begun = len(lines.read_text().splitlines()) if lines.exists() else 0
    run_files = RunFiles(house.datadir.jobs, job.job_id, 1)
    started, ended = run_files.started() is not None, run_files.exit() is not None
    code = after.error.code if after.error else None
    if ended:
        assert (after.status, begun) == ("completed", 1)
    elif started:
        assert (after.status, code) == ("failed", "lost")
        assert begun <= 1
    else:
        assert (after.status, after.attempt, begun) == ("pending", 0, 0)
        house.executor.shim_pool.close()
        house.executor.run(job.job_id)  # with a shim that nobody kills
        assert house.engine.get(job.job_id).status == "completed"
    eventually(lambda: not processes_of(house.datadir.jobs / job.job_id), 5)


WORKER = """
import sys
from pathlib import Path
from robotni.tests.conftest import House

house = House(Path(sys.argv[1]))
house.executor.run(sys.argv[2])
"""


# A claim that is not synced yet, one that is, and a run that its shim is told of.
ROW_POINTS = [("fdatasync", n) for n in (2, 3, 4, 5)] + [("mkdir", n) for n in (3, 5, 7)]
ROW_POINTS += [("sendmsg", n) for n in (1, 2, 3)]


@pytest.mark.parametrize(("calls", "number"), ROW_POINTS)
def test_a_worker_killed_at_any_point_of_a_row_of_jobs_runs_each_once(
    house: House, strace: str, calls: str, number: int
) -> None:
    house.executor.recovery.sweep()  # as a worker does when it starts
    (house.project / "worker.py").write_text(WORKER)
    lines = house.project / "lines"
    script = f"import os; open({str(lines)!r}, 'a').write(os.environ['ROBOTNI_JOB_ID'] + '\\n')"
    request = JobRequest(script=house.script(script), venv=".venv")
    jobs = [house.engine.submit(request).job.job_id for _ in range(3)]
    command = [*killing(strace, calls, number), sys.executable, "worker.py"]
    run = subprocess.run([*command, str(house.project), jobs[0]], cwd=house.project, check=False)
    assert run.returncode < 0, "it came to its end before"
    work_on(house)
    assert [house.engine.get(job_id).status for job_id in jobs] == ["completed"] * 3
    assert sorted(lines.read_text().split()) == sorted(jobs)


def work_on(house: House) -> None:
    """What the next worker does, in this thread, until nothing is left."""
    while any(house.store.counts()[state] for state in (PENDING, RUNNING)):
        house.executor.recovery.sweep()
        recovery = house.executor.recovery
        for job in iter(recovery.next_to_adopt, None):
            recovery.adopt(job)
        waiting = house.executor.reserve_next()
        if waiting is not None:
            house.executor.run(waiting.job_id)


def test_a_shim_that_died_once_it_had_its_launch_spec_is_not_taken_for_one_that_never_had(
    house: House, strace: str
) -> None:
    house.executor.recovery.sweep()
    (house.project / "worker.py").write_text(WORKER)
    lines = house.project / "lines"
    script = f"""
import os, signal, time
open({str(lines)!r}, "a").write("S")
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""
    request = JobRequest(script=house.script(script), venv=".venv")
    job_id = house.engine.submit(request).job.job_id
    slow = ["-e", "trace=sendto", "-e", "inject=sendto:delay_enter=1500000"]  # microseconds
    command = [strace, "-f", "-qq", "-o", "/dev/null", *slow, sys.executable, "worker.py"]
    subprocess.run([*command, str(house.project), job_id], cwd=house.project, check=True)
    job = house.engine.get(job_id)
    assert (job.status, job.error and job.error.code) == ("failed", "lost")
    assert lines.read_text() == "S"
    assert not processes_of(house.datadir.jobs / job_id)
