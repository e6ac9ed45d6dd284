"""`robotni demo`: a server, a worker and a script in its own venv, shown over HTTP.

Everything lives in a temporary folder, which is removed at the end.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import click

from robotni.cli.stop import wait_until
from robotni.client import Client, RemoteJob
from robotni.errors import RobotniError, Unreachable

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
POLL_INTERVAL = 0.1
_HELLO = """\
import os, platform, sys, time

with open(os.environ["ROBOTNI_PROGRESS"], "a") as progress:
    for step in range(5):
        progress.write(f"{20 * step} step {step + 1}\\n")
        progress.flush()
        print("hello from", sys.executable, "step", step + 1)
        time.sleep(0.2)
with open(os.environ["ROBOTNI_RESULT"], "w") as result:
    result.write('{"python": "%s"}' % platform.python_version())
"""


def run_demo(script: Optional[str], venv: Optional[str], args: List[str]) -> int:
    """Runs `script` in `venv`, by default a built-in script in a new venv; returns the exit code
    of the command."""
    with tempfile.TemporaryDirectory(prefix="robotni-demo-") as folder:
        if script is None:
            script = str(Path(folder) / "hello.py")
            Path(script).write_text(_HELLO)
        if venv is None:
            venv = str(Path(folder) / "venv")
            click.echo(f"creating a virtual environment in {venv}")
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        request = {"script": os.path.abspath(script), "venv": os.path.abspath(venv), "args": args}
        with _server(Path(folder), request) as client:
            click.echo(f"robotni listens on {client.url}\n")
            click.echo(f"POST /api/worker/jobs\n{_pretty(request)}\n")
            job = _follow(client.submit(request))
    click.echo("stopped the server and the worker, and removed the temporary folder")
    return 0 if job["status"] == "completed" else 1


def _follow(job: RemoteJob) -> RemoteJob:
    click.echo(f"202 Accepted, job id {job.id}; polling GET /api/worker/jobs/{job.id}")
    states: List[str] = []
    last_line = ""

    def show(job: RemoteJob) -> None:
        nonlocal last_line
        if job["status"] not in states:
            states.append(job["status"])
        progress = job["progress"] or {"percent": 0, "message": ""}
        line = f"  {job['status']:<10} {progress['percent']:5.1f} %  {progress['message']}"
        if line != last_line:
            click.echo(line)
            last_line = line

    job.wait(poll=POLL_INTERVAL, on_change=show)
    click.echo(f"\nstates seen  {' -> '.join(states)}")
    click.echo(f"exit code    {job['exitCode']}")
    if job["error"] is not None:
        click.echo(f"error        {job['error']['code']}: {job['error']['message']}")
    click.echo(f"result       {_pretty(job['result'])}")
    click.echo(f"output\n\n{job['output']}")
    return job


@contextmanager
def _server(folder: Path, request: Dict[str, Any]) -> Iterator[Client]:
    """A client of a server that may run the script of `request`."""
    port = _free_port()
    environ = {n: v for n, v in os.environ.items() if not n.startswith("ROBOTNI_")}
    environ.update(
        ROBOTNI_DATA_DIR=str(folder / "data"),
        ROBOTNI_PORT=str(port),
        ROBOTNI_SCRIPT_ROOTS=":".join([os.path.dirname(request["script"]), request["venv"]]),
    )
    program = str(Path(__file__).parents[1] / "__main__.py")
    log = folder / "server.log"
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [sys.executable, program, "serve"], env=environ, stdout=out, stderr=out,
            cwd=os.path.dirname(request["script"]),
        )  # fmt: skip
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            wait_until(lambda: server.poll() is not None or _answers(client), START_TIMEOUT)
            if not _answers(client):
                raise RobotniError(f"the server did not start; its log:\n{log.read_text()}")
            yield client
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(client: Client) -> bool:
    try:
        client.status()
    except Unreachable:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2)
