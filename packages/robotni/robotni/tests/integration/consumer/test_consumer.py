"""The worker as a process: started on demand, one of it, gone when idle, stock Huey commands."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import psutil
import pytest

from robotni.tests.conftest import House
from robotni.tests.paths import ENTRIES
from robotni.tests.processes import Server, clean_environ, eventually

BIN = Path(sys.executable).parent


def consumer_runs(server: Server) -> bool:
    return bool(server.client.status()["workers"]["consumer"] == "running")


def test_the_worker_is_started_by_need_and_leaves_when_idle(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(idle_exit=1)
    eventually(lambda: server.workers() == [])  # the day's clean-up may have started one
    for _ in range(2):
        job_id = server.submit("print('hello')")
        assert server.wait_for(job_id)["status"] == "completed"
        eventually(lambda: server.workers() == [])
        assert not consumer_runs(server)
        assert server.shims() == []


def test_no_job_is_stranded_around_the_idle_exit(make_server: Callable[..., Server]) -> None:
    server = make_server(idle_exit=0.3)
    jobs = []
    for number in range(30):
        jobs.append(server.submit("pass"))
        time.sleep(0.3 + 0.01 * (number % 20))
    for job_id in jobs:
        assert server.wait_for(job_id)["status"] == "completed"
    assert server.worker_log().count("idle, stopped") >= 3


def test_a_burst_of_submits_starts_one_worker(server: Server) -> None:
    jobs = [server.submit("pass") for _ in range(20)]
    for job_id in jobs:
        server.wait_for(job_id)
    assert server.worker_log().count("worker started") == 1


def test_of_many_workers_one_lives(server: Server) -> None:
    job_id = server.submit("pass")
    server.wait_for(job_id)
    crowd = [server.start_worker("--on-demand") for _ in range(5)]
    for worker in crowd:
        worker.wait(20)
    assert len(server.workers()) == 1
    assert server.wait_for(server.submit("pass"))["status"] == "completed"


def test_a_worker_started_by_hand_takes_over(server: Server) -> None:
    long = server.submit("import time; print('once'); time.sleep(2)")
    server.wait_for(long, "running")
    (old,) = server.workers()
    by_hand = server.start_worker()
    old.wait(10)
    job = server.wait_for(long)
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "once\n")
    assert server.wait_for(server.submit("pass"))["status"] == "completed"
    assert [p.pid for p in server.workers()] == [by_hand.pid]
    by_hand.terminate()
    by_hand.wait(3)


def test_without_autostart_jobs_wait_for_a_worker_by_hand(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(autostart=0, idle_exit=0.2)
    job_id = server.submit("pass")
    time.sleep(1)
    assert server.client.get(job_id)["status"] == "pending"
    worker = server.start_worker()
    assert server.wait_for(job_id)["status"] == "completed"
    time.sleep(1)
    assert worker.poll() is None  # no idle exit then
    worker.terminate()
    worker.wait(3)


@pytest.mark.parametrize("program", ["huey_consumer", "huey_consumer.py"])
def test_stock_huey_consumer_works_on_the_project_s_queue(server: Server, program: str) -> None:
    if not (BIN / program).exists():
        pytest.skip(f"this Huey installs no {program}")
    with open(server.project / "huey.log", "ab") as log:
        consumer = subprocess.Popen(
            [str(BIN / program), "huey_app.huey"],
            cwd=ENTRIES,
            env={**server.environ, "ROBOTNI_SCRIPT_ROOTS": str(server.project)},
            stdout=log,
            stderr=log,
        )
    try:
        jobs = [server.submit("import time; time.sleep(1.5)") for _ in range(4)]
        # Bare: WORKERS, not one. A worker started on demand, while this one began, leaves for it.
        eventually(lambda: server.client.status()["workers"]["busy"] == 4)
        assert all(server.wait_for(job_id)["status"] == "completed" for job_id in jobs)
        eventually(lambda: server.workers() == [])
        assert consumer.poll() is None and consumer_runs(server)
    finally:
        consumer.terminate()
        code = consumer.wait(3)
    assert code == 0


def test_more_threads_than_workers_are_capped(make_house: Callable[..., House]) -> None:
    from robotni.tests.unit.consumer.test_huey_queue import huey_of

    huey = huey_of(make_house(workers=3))
    asked = {1: 3, 2: 2, 3: 3, 99: 3}
    assert {n: huey.create_consumer(workers=n).workers for n in asked} == asked


def test_forking_workers_are_refused_with_a_sentence(project: Path) -> None:
    answer = subprocess.run(
        [str(BIN / "huey_consumer"), "huey_app.huey", "-k", "process"],
        cwd=ENTRIES,
        env=clean_environ(data_dir=project / "data", script_roots=project),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "leave -k out" in answer.stderr


def test_nothing_in_the_working_directory_can_pass_for_robotni(
    make_server: Callable[..., Server], project: Path
) -> None:
    for name in ("robotni.py", "huey.py", "json.py", "types.py"):
        (project / name).write_text("raise SystemExit('hijacked')")
    server = make_server()
    assert server.wait_for(server.submit("print(1)"))["status"] == "completed"


def test_the_web_process_does_not_keep_dead_workers_as_zombies(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(idle_exit=0.2)
    server.wait_for(server.submit("pass"))
    assert server.process is not None
    web = psutil.Process(server.process.pid)
    eventually(lambda: web.children() == [])


PLACED = {
    "removed": lambda path: None,
    "a file": lambda path: path.write_text(""),
    "a folder": lambda path: path.mkdir(),
    "another FIFO": os.mkfifo,
}


@pytest.mark.parametrize("placed", PLACED)
def test_a_worker_whose_fifos_are_replaced_is_woken_and_stopped_all_the_same(
    server: Server, placed: str
) -> None:
    server.wait_for(server.submit("print(1)"))
    (worker,) = eventually(server.workers)
    for name in ("wakeup", "stop_worker"):
        (server.data / name).unlink()
        PLACED[placed](server.data / name)
    job = server.wait_for(server.submit("print(2)"))
    assert job["status"] == "completed"
    assert "fifo replaced name=wakeup" in server.worker_log()
    server.start_command("stop").wait(20)
    eventually(lambda: not worker.is_running())
