"""Around the idle exit: no job is stranded, and of many workers one lives."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List

from robotni.tests.chaos.rounds import rounds
from robotni.tests.conftest import House
from robotni.tests.processes import Server, clean_environ, eventually

# A worker around which a job is stored when its threads have ended and before it is gone; as
# from a web process that saw the bell still held.
LEAVING = """
import sys
from robotni.jobs.request import JobRequest
from robotni.engine.engine import Engine
from robotni.bootstrap import build_huey

huey = build_huey()
consumer = huey.create_consumer()
release = consumer._release_all

def store_and_release():
    if not sum(huey.store.counts().values()):
        engine = Engine(huey.settings, huey.store, lambda: None)
        engine.submit(JobRequest(script="hello.py", venv=".venv"))
    release()

consumer._release_all = store_and_release
consumer.run()
"""


def test_a_job_that_came_as_the_worker_left_is_run(project: Path) -> None:
    (project / "leaving.py").write_text(LEAVING)
    house = House(project)
    subprocess.run(
        [sys.executable, "leaving.py"],
        cwd=project,
        env=clean_environ(idle_exit="0.1"),
        timeout=30,
        check=True,
    )
    assert house.store.counts()["completed"] == 1
    house.close()


def test_of_submits_around_the_idle_exit_none_is_stranded(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(idle_exit=0.15, workers=4)
    (server.project / "quick.py").write_text("")
    request = {"script": "quick.py", "venv": ".venv"}
    for number in range(rounds(12)):
        jobs: List[str] = [str(server.client.submit(request)["jobId"]) for _ in range(16)]
        for job_id in reversed(jobs):
            assert server.wait_for(job_id)["status"] == "completed"
        time.sleep(0.1 + 0.02 * (number % 12))  # the worker is about to leave, leaves, has left
    assert server.worker_log().count("idle, stopped") >= 3


def test_of_20_workers_started_at_once_one_lives(make_server: Callable[..., Server]) -> None:
    server = make_server(autostart=0)
    number = rounds(2)
    for _ in range(number):
        crowd = [server.start_worker("--on-demand") for _ in range(20)]
        one = survivor_of(crowd)
        assert server.wait_for(server.submit("pass"))["status"] == "completed"
        assert survivor_of(crowd) is one
        one.kill()  # so that of the next 20 none finds another at work
        assert [worker.wait() for worker in crowd].count(0) == 19
    assert (server.project / "hand.log").read_text().count("worker started") == number


def survivor_of(crowd: List["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
    def alive() -> List["subprocess.Popen[bytes]"]:
        return [worker for worker in crowd if worker.poll() is None]

    eventually(lambda: len(alive()) == 1, 60)
    return alive()[0]
