"""A disk that is full: nothing is accepted, what runs ends rightly, and it mends by itself."""

import os
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from robotni.jobs.request import JobRequest
from robotni.tests.calls import HELLO, problem
from robotni.tests.chaos.mounts import fill, small_disk
from robotni.tests.conftest import House
from robotni.tests.processes import Server, eventually

WAITS = """
import pathlib, time
print("begin", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.01)
print("x" * 100_000)
print("end")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 32) as disk:
        yield disk


def test_507_while_full_running_jobs_end_rightly_and_nothing_is_restarted(
    disk: Path, project: Path
) -> None:
    server = Server(project, data_dir=disk / "data", kill_grace=1)
    try:
        server.start()
        ended = server.submit("pass")
        server.wait_for(ended)
        long = server.submit(WAITS)
        eventually(lambda: "begin" in output(server, long))  # while there is room for it
        big = disk / "big"
        filling = server.submit(f"open({str(big)!r}, 'wb').write(b'x' * (64 << 20))")
        eventually(lambda: big.exists() and not server.scripts(filling))
        filler = fill(disk)

        refused = server.http.post("/api/worker/jobs", json=HELLO)
        assert "make room" in problem(refused, 507)["detail"]
        assert server.http.post(f"/api/worker/jobs/{ended}/retry").status_code == 507
        assert server.http.get("/readyz").status_code != 200
        assert server.client.get(long)["status"] == "running"
        (project / "go").touch()
        eventually(lambda: not server.scripts(long))  # it could end, though nobody can say so

        filler.unlink()
        big.unlink()
        job = server.wait_for(filling)
        assert (job["status"], job["error"]["code"]) == ("failed", "exit_nonzero")
        assert job["outputTruncated"]  # the traceback found no room
        job = server.wait_for(long)
        assert (job["status"], job["attempt"]) == ("completed", 1)
        assert job["outputBytes"] == len("begin\nend\n") + 100_001
        assert job["outputTruncated"]
        assert server.wait_for(server.submit("print('on')"))["output"] == "on\n"
        assert server.worker_log().count("worker started") == 1
    finally:
        server.close()


def output(server: Server, job_id: str) -> str:
    answer = server.http.get(f"/api/worker/jobs/{job_id}/output")
    return answer.text if answer.status_code == 200 else ""


def test_a_run_that_cannot_begin_for_want_of_room_begins_when_there_is(
    disk: Path, project: Path
) -> None:
    house = House(project, data_dir=disk / "data")
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    claim = house.store.claim
    fillers = []

    def claim_the_last_room(*args: Any) -> Any:
        claimed = claim(*args)
        fillers.append(fill(disk))
        return claimed

    house.store.claim = claim_the_last_room  # type: ignore[method-assign]
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    thread.join(3)
    assert thread.is_alive()  # it can neither begin nor say so
    for filler in fillers:
        filler.unlink()
    thread.join(10)
    waiting = house.engine.get(job.job_id)
    assert (waiting.status, waiting.attempt) == ("pending", 0)
    house.store.claim = claim  # type: ignore[method-assign]
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"
    house.close()


def test_the_upkeep_goes_on_when_there_is_room_again(disk: Path, project: Path) -> None:
    house = House(project, data_dir=disk / "data")
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv", delay=5)).job
    house.maintenance.clean()
    house.clock.now += 10
    filler = fill(disk)
    assert house.maintenance.run() == 1.0
    assert house.engine.get(job.job_id).status == "scheduled"
    filler.unlink()
    house.maintenance.run()
    assert house.engine.get(job.job_id).status == "pending"
    house.close()


def test_a_run_whose_stdin_finds_no_room_begins_when_there_is(project: Path) -> None:
    (project / ".robotni").mkdir()
    with small_disk(project / ".robotni" / "jobs", 32) as disk:
        house = House(project)
        house.executor.recovery.sweep()
        (project / "size.py").write_text("import sys; print(len(sys.stdin.read()))")
        hello = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
        house.executor.run(hello.job_id)  # there is a shim
        stdin = "x" * (512 << 10)
        job = house.engine.submit(JobRequest(script="size.py", venv=".venv", stdin=stdin)).job
        filler = fill(disk)
        with open(filler, "r+b") as file:  # for some of it
            file.truncate(filler.stat().st_size - (256 << 10))
        (shim,) = house.executor.shim_pool._idle
        used = len(os.listdir(f"/proc/{shim.pid}/fd"))
        for number in range(1, 4):
            house.executor.run(job.job_id)
            waiting = house.engine.get(job.job_id)
            assert (waiting.status, waiting.attempt, waiting.run) == ("pending", 0, number)
        assert house.executor.shim_pool._idle == [shim]
        assert len(os.listdir(f"/proc/{shim.pid}/fd")) == used
        filler.unlink()
        house.executor.run(job.job_id)
        assert house.engine.get(job.job_id).output == f"{len(stdin)}\n"
        house.close()
