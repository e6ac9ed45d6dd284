"""What a script may do to the folder of its own run, where robotni is not root: nobody is held up
by it, nothing is started twice, and nothing outside is touched."""

import subprocess
import sys
import tempfile
from typing import Dict

import pytest

PROGRAM = """
import os, shutil, signal, sys
from robotni import engine, jobtickets, listing, problems, store, tickets, upkeep, wiring
from robotni.rundir import RunDir, delete_job

signal.alarm(60)
if os.geteuid() == 0:  # for whom permissions do not count
    os.chown(".", 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
here, case = os.getcwd(), sys.argv[1]
os.makedirs(".venv/bin")
os.symlink("/bin/sh", ".venv/bin/python")
open(".venv/pyvenv.cfg", "w").write("home = /usr/bin\\n")
open("hello.py", "w").close()
os.makedirs("foreign/1")
os.environ.update(ROBOTNI_DATA_DIR=here + "/data", ROBOTNI_SCRIPT_ROOTS=here)
settings, datadir, engine = wiring.build_engine()
huey = wiring.build_huey(settings)

def spoil(run):
    job = os.path.dirname(run)
    if case == "the run is closed": os.chmod(run, 0)
    if case == "the job is closed": os.chmod(job, 0)
    if case == "the start is closed": os.chmod(run + "/started", 0)
    if case == "the start is spoilt": open(run + "/started", "w").write("{")
    if case == "the start is a FIFO": os.unlink(run + "/started"); os.mkfifo(run + "/started")
    if case == "the start is a folder": os.unlink(run + "/started"); os.mkdir(run + "/started")
    if case == "the ring is closed": os.mkfifo(run + "/ring"); os.chmod(run + "/ring", 0)
    if case == "the cancel is a folder": os.mkdir(run + "/cancel")
    if case == "the output is closed": os.chmod(run + "/output", 0)
    if case == "the lock is a FIFO": os.mkfifo(run + "/lock")
    if case.startswith("the run is a"): shutil.rmtree(run)
    if case == "the run is a file": open(run, "w").close()
    if case == "the run is a FIFO": os.mkfifo(run)
    if case == "the run is a circle": os.symlink(run, run)
    if case == "the job is a link":
        os.rename(job, here + "/was")
        os.symlink(here + "/foreign", job)
        os.chmod(here + "/foreign/1", 0)

def begun():
    request = problems.validated({"script": "hello.py", "venv": ".venv"})
    job_id = engine.submit(request).job.job_id
    huey.store.take_ticket()
    huey.runner.claim(job_id)
    rundir = RunDir(datadir.jobs, job_id, 1).create()
    open(rundir.folder + "/started", "w").write('{"mark": null}')
    open(rundir.output, "w").write("x" * 9)
    spoil(rundir.folder)
    return job_id

for cancelled in (True, False):
    job_id = begun()
    listed = [job.status for job in engine.list(listing.Filters(), None, 1)[0]]
    output = engine.output(job_id).slice(0)
    assert listed == [engine.get(job_id).status] == ["running"]
    assert len(b"".join(output.chunks)) == output.size
    if cancelled:
        engine.cancel(job_id)
    huey.upkeep.sweep()
    job = engine.get(job_id)
    print(job.status, job.attempt, job.error and job.error.code, end=" ")
    delete_job(datadir.jobs, job_id)
    assert not os.path.lexists(datadir.jobs / job_id)
    assert os.path.isdir("foreign/1")
    shutil.rmtree("was", ignore_errors=True)
"""
LOST = "cancelled 1 None failed 1 lost"
CASES: Dict[str, str] = {
    "nothing": LOST,
    "the run is closed": LOST,
    "the job is closed": LOST,
    "the start is closed": LOST,
    "the start is spoilt": LOST,
    "the start is a FIFO": LOST,
    "the start is a folder": LOST,
    "the ring is closed": LOST,
    "the cancel is a folder": LOST,
    "the output is closed": LOST,
    "the lock is a FIFO": LOST,
    "the run is a file": LOST,
    "the run is a FIFO": LOST,
    "the run is a circle": LOST,
    "the job is a link": LOST,
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_a_script_does_to_its_folder_it_is_lost_once(case: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where others than root come, too
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM, case],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (said.stdout.strip(), said.returncode) == (CASES[case], 0), said.stderr
