"""`robotni stop`, and a server that ends: which processes exit, and which go on."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, List

import httpx

from robotni import create_app
from robotni.system.locks import is_locked
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.integration.consumer.test_recovery import WITNESS, begun, completes_once, witness
from robotni.tests.processes import Server, eventually


def stop(server: Server, *args: str) -> "subprocess.CompletedProcess[str]":
    return robotni("stop", *args, cwd=server.project, **server.settings)


def test_stop_cancels_running_scripts_only_with_the_option_cancel(server: Server) -> None:
    job_id = server.submit("import time; print('on', flush=True); time.sleep(300)")
    server.wait_for(job_id, "running")
    eventually(lambda: server.client.output(job_id) == b"on\n")
    stopped = stop(server)
    assert stopped.returncode == 0, stopped.stderr
    assert "server and worker have stopped" in stopped.stdout
    assert "1 script goes on running" in stopped.stdout
    assert server.process is not None
    assert server.process.wait(5) == 0
    assert server.workers() == []
    assert server.scripts(job_id)
    (shim,) = server.shims()
    shim.suspend()
    too_early = stop(server, "--cancel")
    assert (too_early.returncode, "1 script has not ended yet" in too_early.stderr) == (1, True)
    shim.resume()
    cancelled = stop(server, "--cancel")
    assert (cancelled.returncode, "cancelled" in cancelled.stdout) == (0, True)
    assert server.scripts(job_id) == []
    server.start()
    assert server.wait_for(job_id)["status"] == "cancelled"


def test_stop_cancel_ends_running_jobs_and_starts_no_waiting_one(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(workers=2)
    running = [server.submit(WITNESS) for _ in range(2)]
    for job_id in running:
        begun(server, job_id)
    waiting = [server.submit("print('later')") for _ in range(3)]
    answer = stop(server, "--cancel", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {"stopped": True, "cancelledJobs": 2, "runningJobs": 0}
    assert server.workers() == server.shims() == []
    assert len(witness(server)) == 2
    assert server.process is not None and server.process.wait(5) == 0
    server.start()
    for job_id in running:
        assert server.wait_for(job_id)["status"] == "cancelled"
    for job_id in waiting:
        assert server.wait_for(job_id)["output"] == "later\n"


def test_stop_where_nothing_runs_exits_with_0(project: Path) -> None:
    answer = robotni("stop", "--cancel", cwd=project)
    assert answer.returncode == 0
    nothing = f"no server and no worker of {project} was running"
    assert answer.stdout == f"running jobs cancelled: 0\n{nothing}\n"


def files_of_the_database(data: Path) -> List[str]:
    """There are three of them while a process has the database open, else one."""
    return sorted(path.name for path in data.glob("robotni.db*"))


def test_an_app_that_has_ended_has_closed_its_database(project: Path) -> None:
    app = create_app(project, autostart=False)

    async def serve() -> None:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(
            transport=transport, base_url="http://localhost"
        ) as client:
            for query in ("", "?q=a"):
                assert (await client.get(f"/api/worker/jobs{query}")).status_code == 200
            assert (await client.post("/add/", json={"x": 1, "y": 2})).status_code == 202

    for _ in range(2):  # an app can be started again
        asyncio.run(serve())
        assert files_of_the_database(project / ".robotni") == ["robotni.db"]


def test_stop_prints_what_has_stopped(project: Path, make_server: Callable[..., Server]) -> None:
    server = make_server(autostart=0)
    worker = server.start_worker()
    eventually(server.workers)
    eventually(lambda: is_locked(server.data / "worker.lock"))
    server.stop()
    assert stop(server).stdout == "worker has stopped\n"
    assert files_of_the_database(server.data) == ["robotni.db"]
    assert worker.wait(10) == 0
    server.start()
    assert stop(server).stdout == "server has stopped\n"


def test_stop_waits_until_the_database_is_closed(server: Server) -> None:
    other = sqlite3.connect(str(server.data / "robotni.db"))
    other.execute("SELECT * FROM tally").fetchall()
    stop = server.start_command("stop")
    assert server.process is not None and server.process.wait(20) == 0
    time.sleep(0.3)
    assert stop.poll() is None
    other.close()
    assert stop.wait(20) == 0
    assert files_of_the_database(server.data) == ["robotni.db"]


def test_two_servers_share_one_worker_and_the_last_one_stops_it(
    make_server: Callable[..., Server],
) -> None:
    first = make_server()
    second = make_server()
    job_id = first.submit(WITNESS)
    begun(first, job_id)
    workers = [worker.pid for worker in first.workers()]
    assert len(workers) == 1
    assert first.process is not None
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    assert "Another server of this project is running, so the worker goes on." in first.log()
    assert [worker.pid for worker in second.workers()] == workers
    assert second.wait_for(second.submit("pass"))["status"] == "completed"
    completes_once(second, job_id)
    second.stop()
    assert second.workers() == [], second.log() + second.worker_log()


def test_a_worker_that_was_stopped_is_started_again_within_a_second(server: Server) -> None:
    """A `robotni serve` that ends beside a `uvicorn main:app` stops the worker of both."""
    job_id = server.submit(WITNESS)
    begun(server, job_id)
    (worker,) = server.workers()
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    stopped = time.monotonic()

    def is_back() -> Any:
        return server.client.status()["workers"]["consumer"] == "running"

    eventually(is_back)
    # One second is promised; a loaded machine takes longer to start Python.
    assert time.monotonic() - stopped < 3
    completes_once(server, job_id)
