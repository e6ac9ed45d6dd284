"""Whatever a script does to the folder of its run, the run ends once and no other folder changes.

The programs do not run as root, for whom no folder is closed.
"""

import tempfile

from robotni.tests.nobody import run_as_nobody

PROGRAM = """
import os, shutil, signal, sys
from pathlib import Path
from robotni.jobs.request import JobRequest
from robotni.storage.queries import Filters
from robotni.storage.run_files import RunFiles, delete_job
from robotni.tests.conftest import House
from robotni.tests.nobody import become_nobody

signal.alarm(60)
become_nobody()
here = os.getcwd()
os.makedirs(".venv/bin")
os.symlink("/bin/sh", ".venv/bin/python")
open(".venv/pyvenv.cfg", "w").write("home = /usr/bin\\n")
open("hello.py", "w").close()
os.makedirs("foreign/1")
house = House(Path(here))
jobs = house.datadir.jobs

def change(case, run):
    job = os.path.dirname(run)
    if case == "the run is closed": os.chmod(run, 0)
    if case == "the job is closed": os.chmod(job, 0)
    if case == "started is closed": os.chmod(run + "/started", 0)
    if case == "started is no JSON": open(run + "/started", "w").write("{")
    if case == "started is a FIFO": os.unlink(run + "/started"); os.mkfifo(run + "/started")
    if case == "started is a folder": os.unlink(run + "/started"); os.mkdir(run + "/started")
    if case == "ring is closed": os.mkfifo(run + "/cancel.fifo"); os.chmod(run + "/cancel.fifo", 0)
    if case == "cancel is a folder": os.mkdir(run + "/cancel")
    if case == "output is closed": os.chmod(run + "/output", 0)
    if case.startswith("the run is a"): shutil.rmtree(run)
    if case == "the run is gone": shutil.rmtree(run)
    if case == "the job is gone": shutil.rmtree(job)
    if case == "the run is a file": open(run, "w").close()
    if case == "the run is a FIFO": os.mkfifo(run)
    if case == "the run is a circle": os.symlink(run, run)
    if case == "the job is a link":
        os.rename(job, here + "/was")
        os.symlink(here + "/foreign", job)
        os.chmod(here + "/foreign/1", 0)

def start(case):
    house.clock.now += 1
    job_id = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job.job_id
    house.claim(job_id)
    run_files = RunFiles(jobs, job_id, 1).create()
    open(run_files.folder + "/started", "w").write('{"mark": null}')
    open(run_files.output, "w").write("x" * 9)
    change(case, run_files.folder)
    return job_id

def end(case, cancel):
    job_id = start(case)
    listed = [job.status for job in house.engine.list(Filters(), None, 1)[0]]
    output = house.engine.output(job_id)
    assert listed == [house.engine.get(job_id).status] == ["running"]
    kept = output.run_files.open_output()
    assert len(b"".join(kept.chunks(*kept.whole()))) == kept.size
    if cancel:
        house.engine.cancel(job_id)
    house.executor.recovery.sweep()
    job = house.engine.get(job_id)
    delete_job(jobs, job_id)
    assert not os.path.lexists(jobs / job_id)
    assert os.path.isdir("foreign/1")
    shutil.rmtree("was", ignore_errors=True)
    return f"{job.status} {job.attempt} {job.error and job.error.code}"

for case in sys.argv[1:]:
    print(case, end(case, True), end(case, False), sep=": ", flush=True)
house.close()
"""
CASES = (
    "nothing",
    "the run is closed",
    "the job is closed",
    "started is closed",
    "started is no JSON",
    "started is a FIFO",
    "started is a folder",
    "ring is closed",
    "cancel is a folder",
    "output is closed",
    "the run is gone",
    "the job is gone",
    "the run is a file",
    "the run is a FIFO",
    "the run is a circle",
    "the job is a link",
)


def test_a_run_is_lost_once_whatever_its_script_did_to_its_folder() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # which other users can enter
        run = run_as_nobody(PROGRAM, *CASES, folder=folder)
    ends = [f"{case}: cancelled 1 None: failed 1 lost" for case in CASES]
    assert (run.stdout.splitlines(), run.returncode) == (ends, 0), run.stderr
