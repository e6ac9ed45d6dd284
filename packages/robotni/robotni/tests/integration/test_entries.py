"""The entries in `robotni_huey`, with stock uvicorn and stock huey_consumer in two terminals."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from robotni.tests.paths import ENTRIES
from robotni.tests.processes import Server, eventually

BIN = Path(sys.executable).parent


@pytest.fixture
def terminals(project: Path) -> Iterator[Server]:
    """uvicorn with --reload and huey_consumer with -w 4, on the data directory of `project`."""
    server = Server(project, autostart=0, script_roots=project)
    # They start in another project folder than the one with the scripts of the test.
    commands: Any = (
        [str(BIN / "uvicorn"), "main:app", "--reload", "--port", str(server.port)],
        [str(BIN / "huey_consumer"), "huey_app.huey", "-w", "4"],
    )
    started = []
    with open(project / "terminals.log", "ab") as log:
        for command in commands:
            started.append(
                subprocess.Popen(command, cwd=ENTRIES, env=server.environ, stdout=log, stderr=log)
            )
    eventually(server.answers)
    yield server
    for process in started:
        try:
            process.terminate()
        except ProcessLookupError:
            pass  # it has exited, and a search through all processes reaped it
        assert process.wait(10) is not None
    server.close()


def test_jobs_of_stock_uvicorn_are_run_by_stock_huey_consumer(terminals: Server) -> None:
    (terminals.project / "hi.py").write_text("print('hi')")
    request = {
        "script": str(terminals.project / "hi.py"),
        "venv": str(terminals.project / ".venv"),
        "cwd": str(terminals.project),
    }
    jobs = [terminals.client.submit(request)["jobId"] for _ in range(3)]
    for job_id in jobs:
        assert terminals.wait_for(job_id)["output"] == "hi\n"
    added = terminals.http.post("/add/", json={"x": 5, "y": 3}).json()["task_id"]
    assert terminals.wait_for(added)["result"] == 8
    assert terminals.workers() == []  # only the huey_consumer started by hand ran them


def test_robotni_serve_in_the_same_project_uses_the_same_queue(terminals: Server) -> None:
    other = Server(terminals.project, autostart=0, data_dir=terminals.data)
    try:
        job_id = other.start().submit("print('from serve')")
        assert terminals.wait_for(job_id)["output"] == "from serve\n"
    finally:
        other.close()
