"""robotni and its yardsticks: servers driven over HTTP, and `xargs`.

Every system has `run`, `starts`, `roots` (its processes, without the client) and `close`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure import cpu_seconds, end, free_port, tree
from peer_apps.drive import stamp
from project import Project, numpy_venv
from wire import Wire

HERE = Path(__file__).parent
APPS = HERE / "peer_apps"
CLIENTS = 4  # connections that submit at once, like the pool of a web app


class Served:
    """A server with robotni's two calls: submit a script, and count the jobs in each state."""

    name = ""

    def __init__(self, project: Project, port: int, roots: list[int]) -> None:
        self.project = project
        self.port = port
        self.roots = roots
        self.wire = self._connect()

    def _connect(self) -> Wire:
        deadline = time.monotonic() + 30
        while True:
            try:
                return Wire(self.port)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def submit(self, script: str, wire: Wire | None = None, **fields: Any) -> str:
        body = {"script": script, "venv": ".venv", **fields}
        return (wire or self.wire).json("POST", "/api/worker/jobs", body)["jobId"]

    def counts(self) -> dict[str, int]:
        return self.wire.json("GET", "/api/worker/status")["jobs"]

    def run(self, script: str, count: int, **fields: Any) -> float:
        """Seconds from the first POST until all jobs have completed."""
        before = self.counts()["completed"]
        wires = [Wire(self.port) for _ in range(CLIENTS)]
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:

            def submit_every_fourth(number: int) -> None:
                for _ in range(number, count, CLIENTS):
                    self.submit(script, wires[number], **fields)

            list(pool.map(submit_every_fourth, range(CLIENTS)))
        while left := (jobs := self.counts())["pending"] + jobs["running"]:
            pace = (time.monotonic() - began) / max(1, count - left)
            time.sleep(min(0.5, max(0.01, 0.5 * left * pace)))  # a poll costs the server, too
        seconds = time.monotonic() - began
        if jobs["completed"] != before + count:
            raise RuntimeError(f"jobs of {self.name} failed: {jobs}")
        for wire in wires:
            wire.close()
        return seconds

    def starts(self, count: int, script: str = "stamp.py", **fields: Any) -> list[float]:
        """Milliseconds from each POST to the script's first line, after 50 ms without work."""
        found = []
        for _ in range(count):
            time.sleep(0.05)
            out = self.project.new_out()
            began = time.monotonic()
            self.submit(script, args=[out], **fields)
            found.append(1000 * (stamp(out) - began))
            while (jobs := self.counts())["pending"] + jobs["running"]:
                time.sleep(0.01)
        return found

    def close(self) -> None:
        self.wire.close()


class Robotni(Served):
    """`robotni serve` with a data directory of its own; the worker starts on demand."""

    def __init__(self, project: Project, data: str, **settings: Any) -> None:
        self.name = "robotni"
        self.data = project.folder / data
        env = {n: v for n, v in os.environ.items() if not n.startswith("ROBOTNI_")}
        roots = [str(project.folder), str(numpy_venv() or project.folder)]
        port = free_port()
        given = {
            "port": port,
            "data_dir": self.data,
            "script_roots": ":".join(roots),
            "max_pending": 1_000_000,
            **settings,
        }
        env.update({f"ROBOTNI_{name.upper()}": str(value) for name, value in given.items()})
        with open(project.path(f"{data}.log"), "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "robotni", "serve"],
                cwd=project.folder, env=env, stdout=log, stderr=log,
            )  # fmt: skip
        super().__init__(project, port, [self._process.pid])

    def job(self, job_id: str) -> dict[str, Any]:
        return self.wire.json("GET", f"/api/worker/jobs/{job_id}")

    def wait(self, job_id: str) -> None:
        while self.job(job_id)["finishedAt"] is None:
            time.sleep(0.01)

    def close(self) -> None:
        """As Ctrl-C does: the web process, and the worker with it."""
        super().close()
        started = tree(self.roots)
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)
        deadline = time.monotonic() + 10
        while cpu_seconds(started) and time.monotonic() < deadline:
            time.sleep(0.02)


class Endpoint(Served):
    """`peer_apps/endpoint.py`: robotni's two calls, with FastAPI, in front of `app`. With
    `with_sqlite`, and no worker, it is what a durable submit costs at least."""

    def __init__(self, project: Project, app: str, python: Any, env: dict[str, str]) -> None:
        port = free_port()
        options = ["--port", str(port), "--log-level", "error", "--no-access-log"]
        self._process = subprocess.Popen(
            [python, "-m", "uvicorn", "endpoint:app", *options],
            cwd=APPS,
            env={**env, "BENCH_APP": app, "BENCH_FOLDER": str(project.folder)},
        )
        super().__init__(project, port, [self._process.pid])

    def close(self) -> None:
        super().close()
        end(self._process)


def bare_endpoint(project: Project) -> Endpoint:
    env = {**os.environ, "BENCH_FILE": project.new_out()}
    return Endpoint(project, "with_sqlite", sys.executable, env)


class Xargs:
    """`xargs -P4`: four scripts at once, without a queue or a record. The upper bound."""

    name = "xargs -P4"
    roots: tuple[int, ...] = ()

    def __init__(self, project: Project) -> None:
        self._project = project
        self.cpu_seconds = 0.0  # of the last run, with its scripts

    def run(self, script: str, count: int) -> float:
        began = time.monotonic()
        child = subprocess.Popen(
            ["xargs", "-P4", "-n1", self._project.python],
            stdin=subprocess.PIPE,
            cwd=self._project.folder,
        )
        child.stdin.write(f"{script}\n".encode() * count)
        child.stdin.close()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"xargs ended with {child.returncode}")
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return seconds

    def starts(self, count: int) -> list[float]:
        """The interpreter alone, started by this process."""
        found = []
        for _ in range(count):
            time.sleep(0.05)
            out = self._project.new_out()
            began = time.monotonic()
            with subprocess.Popen([self._project.python, self._project.path("stamp.py"), out]):
                found.append(1000 * (stamp(out) - began))
        return found

    def close(self) -> None:
        pass
