"""`kill -9` of real processes: nothing accepted is lost, nothing is run twice."""

import shutil
import signal
from pathlib import Path
from typing import Callable

import psutil
import pytest

from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House
from robotni.tests.processes import Server, eventually

# Says that it began, waits for the file `go`, says that it ended.
WITNESS = """
import os, pathlib, time
print("begin", flush=True)
with open("witness", "a") as file:
    file.write(f"begin {os.environ['ROBOTNI_JOB_ID']}\\n")
while not pathlib.Path("go").exists():
    time.sleep(0.01)
with open("witness", "a") as file:
    file.write(f"end {os.environ['ROBOTNI_JOB_ID']}\\n")
print("end")
"""


def witness(server: Server) -> "list[str]":
    path = server.project / "witness"
    return path.read_text().splitlines() if path.exists() else []


def let_go(project: Path) -> None:
    (project / "go").touch()


def begun(server: Server, job_id: str) -> None:
    eventually(lambda: f"begin {job_id}" in witness(server))


def completes_once(server: Server, job_id: str) -> None:
    let_go(server.project)
    job = server.wait_for(job_id)
    assert job["status"] == "completed", job
    assert job["attempt"] == 1
    assert job["output"] == "begin\nend\n"
    assert witness(server).count(f"begin {job_id}") == 1
    assert witness(server).count(f"end {job_id}") == 1


def test_a_running_job_outlives_kill_9_of_the_worker(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    for worker in server.workers():
        worker.kill()
    assert server.client.get(job_id)["status"] == "running"
    completes_once(server, job_id)


def test_a_running_job_outlives_kill_9_of_the_web_process(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    server.kill_web()
    server.start()
    completes_once(server, job_id)


def test_a_run_whose_files_are_all_removed_is_ended_and_not_begun_again(server: Server) -> None:
    """As by somebody who makes room on a full disk."""
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    scripts = server.scripts(job_id)
    assert len(scripts) == 1
    server.kill_web()
    for worker in server.workers():
        worker.kill()
    shutil.rmtree(server.data / "jobs")
    server.start()
    job = server.wait_for(job_id)
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 1, "lost")
    eventually(lambda: not scripts[0].is_running())
    assert witness(server).count(f"begin {job_id}") == 1
    shutil.rmtree(server.data / "jobs")
    assert server.wait_for(server.submit("print(1)"))["output"] == "1\n"


def test_a_running_job_outlives_kill_9_of_worker_and_web_process(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    server.kill_web()
    for worker in server.workers():
        worker.kill()
    server.start()
    completes_once(server, job_id)


def test_a_job_that_ended_while_no_worker_lived_is_completed(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    server.kill_web()
    for worker in server.workers():
        worker.kill()
    let_go(server.project)
    eventually(lambda: not server.shims())
    server.start()
    completes_once(server, job_id)


def test_a_pending_job_outlives_kill_9_of_all(make_server: Callable[..., Server]) -> None:
    server = make_server(workers=1)
    first, second = server.submit(WITNESS), server.submit(WITNESS)
    begun(server, first)
    server.kill_web()
    for worker in server.workers():
        worker.kill()
    server.start()
    completes_once(server, first)
    completes_once(server, second)


def test_a_job_of_which_nobody_rang_is_started_all_the_same(server: Server) -> None:
    server.wait_for(server.submit("pass"))
    (worker,) = eventually(server.workers)
    server.kill_web()  # between its commit and its ring
    (server.project / "late.py").write_text("open('ran', 'w')")
    house = House(server.project, data_dir=server.data)
    job = house.engine.submit(JobRequest(script="late.py", venv=".venv")).job
    assert house.notifies == 1  # into the void
    eventually((server.project / "ran").exists, 5)
    eventually(lambda: house.engine.get(job.job_id).is_terminal, 5)
    assert worker.is_running()
    house.close()


def test_a_job_whose_shim_and_worker_are_killed_is_lost_and_leaves_nothing(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    for process in [*server.workers(), *server.shims()]:
        process.kill()
    job = server.wait_for(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "lost")
    assert server.scripts(job_id) == []


GONE = {
    "its start": "os.unlink(f'{run}/started')",
    "its run": "shutil.rmtree(run)",
    "its job": "shutil.rmtree(os.path.dirname(run))",
}


@pytest.mark.parametrize("and_worker", [False, True], ids=["shim", "shim and worker"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("gone", GONE)
def test_a_script_that_removed_the_evidence_is_lost_with_its_shim_and_leaves_nothing(
    server: Server, gone: str, warm: bool, and_worker: bool
) -> None:
    script = f"""
import os, shutil, time
with open("starts", "a") as file:
    file.write(f"{{os.getpid()}}\\n")
run = os.path.dirname(os.environ["ROBOTNI_RESULT"])
{GONE[gone]}
open("gone", "w").close()
time.sleep(300)
"""
    job_id = server.submit(script, warm=warm)
    eventually((server.project / "gone").exists)
    (pid,) = map(int, (server.project / "starts").read_text().split())
    victims = [psutil.Process(pid).parent()]
    if and_worker:
        victims += server.workers()
    for process in victims:
        assert process is not None
        process.kill()
    job = server.wait_for(job_id)
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("failed", "lost", 1)
    eventually(lambda: not psutil.pid_exists(pid), 2)
    assert (server.project / "starts").read_text() == f"{pid}\n"


def test_a_lost_attempt_is_tried_again_where_retries_allow(server: Server) -> None:
    job_id = server.submit(WITNESS, retries=1)
    begun(server, job_id)
    for shim in server.shims():
        shim.kill()
    eventually(lambda: witness(server).count(f"begin {job_id}") == 2)
    let_go(server.project)
    job = server.wait_for(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert job["attempts"][0]["error"]["code"] == "lost"


def test_ctrl_c_leaves_running_scripts_to_their_shims(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    server.stop()
    assert server.workers() == []
    assert "1 script goes on running" in server.log()
    server.start()
    completes_once(server, job_id)


def test_never_more_scripts_than_workers_those_taken_up_again_included(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(workers=2)
    jobs = [server.submit(WITNESS) for _ in range(2)]
    for job_id in jobs:
        begun(server, job_id)
    for worker in server.workers():
        worker.kill()
    server.kill_web()
    server.environ["ROBOTNI_WORKERS"] = "1"
    server.start()
    later = server.submit(WITNESS)
    eventually(server.workers)
    eventually(lambda: "adopted" in server.worker_log())
    assert server.client.get(later)["status"] == "pending"
    for job_id in [*jobs, later]:
        completes_once(server, job_id)


def test_sigterm_and_sigint_send_the_worker_away_within_3_s(server: Server) -> None:
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    for number in (signal.SIGTERM, signal.SIGINT):
        (worker,) = eventually(server.workers)
        eventually(lambda: server.client.status()["workers"]["consumer"] == "running")
        worker.send_signal(number)
        worker.wait(3)
    completes_once(server, job_id)
