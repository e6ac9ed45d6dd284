"""What a script may do to the folder of its own run, where robotni is not root: nobody is held up
by it, nothing is started twice, and nothing outside is touched."""

import tempfile

from robotni.tests.nobody import run_as_nobody

PROGRAM = """
import os, shutil, signal, sys
from robotni.engine import engine
from robotni.storage import queue_messages as jobtickets
from robotni.storage import queries as listing
from robotni.web import problems
from robotni.storage import store
from robotni.consumer import huey_queue as tickets
from robotni.consumer import maintenance as maintenance
from robotni import bootstrap as wiring
from robotni.storage.run_files import RunFiles, delete_job
from robotni.tests.nobody import become_nobody

signal.alarm(60)
become_nobody()
here = os.getcwd()
os.makedirs(".venv/bin")
os.symlink("/bin/sh", ".venv/bin/python")
open(".venv/pyvenv.cfg", "w").write("home = /usr/bin\\n")
open("hello.py", "w").close()
os.makedirs("foreign/1")
os.environ.update(ROBOTNI_DATA_DIR=here + "/data", ROBOTNI_SCRIPT_ROOTS=here)
settings, datadir, engine = wiring.build_engine()
huey = wiring.build_huey(settings)

def spoil(case, run):
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
    if case == "the run is gone": shutil.rmtree(run)
    if case == "the job is gone": shutil.rmtree(job)
    if case == "the run is a file": open(run, "w").close()
    if case == "the run is a FIFO": os.mkfifo(run)
    if case == "the run is a circle": os.symlink(run, run)
    if case == "the job is a link":
        os.rename(job, here + "/was")
        os.symlink(here + "/foreign", job)
        os.chmod(here + "/foreign/1", 0)

def begun(case):
    request = problems.validated({"script": "hello.py", "venv": ".venv"})
    job_id = engine.submit(request).job.job_id
    huey.store.claim(huey.store.get(job_id), 1.0)
    run_files = RunFiles(datadir.jobs, job_id, 1).create()
    open(run_files.folder + "/started", "w").write('{"mark": null}')
    open(run_files.output, "w").write("x" * 9)
    spoil(case, run_files.folder)
    return job_id

def ends(case, cancelled):
    job_id = begun(case)
    listed = [job.status for job in engine.list(listing.Filters(), None, 1)[0]]
    output = engine.output(job_id).slice(0)
    assert listed == [engine.get(job_id).status] == ["running"]
    assert len(b"".join(output.chunks)) == output.size
    if cancelled:
        engine.cancel(job_id)
    huey.executor.recovery.sweep()
    job = engine.get(job_id)
    delete_job(datadir.jobs, job_id)
    assert not os.path.lexists(datadir.jobs / job_id)
    assert os.path.isdir("foreign/1")
    shutil.rmtree("was", ignore_errors=True)
    return f"{job.status} {job.attempt} {job.error and job.error.code}"

for case in sys.argv[1:]:
    print(case, ends(case, True), ends(case, False), sep=": ", flush=True)
"""
CASES = (
    "nothing",
    "the run is closed",
    "the job is closed",
    "the start is closed",
    "the start is spoilt",
    "the start is a FIFO",
    "the start is a folder",
    "the ring is closed",
    "the cancel is a folder",
    "the output is closed",
    "the lock is a FIFO",
    "the run is gone",
    "the job is gone",
    "the run is a file",
    "the run is a FIFO",
    "the run is a circle",
    "the job is a link",
)


def test_whatever_a_script_does_to_its_folder_it_is_lost_once() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where others than root come, too
        said = run_as_nobody(PROGRAM, *CASES, folder=folder)
    ends = [f"{case}: cancelled 1 None: failed 1 lost" for case in CASES]
    assert (said.stdout.splitlines(), said.returncode) == (ends, 0), said.stderr
