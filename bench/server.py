"""robotni under test: `robotni serve` in a project folder, driven over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from peer_apps.drive import stamp
from processes import end, tree
from project import Project, numpy_venv
from wire import Wire

from robotni.web.server import has_uvloop

CLIENTS = 4  # connections that submit at once, as a web app's pool


class Robotni:
    """One server with a data directory of its own; the worker starts on demand."""

    def __init__(self, project: Project, name: str, **settings: Any) -> None:
        self.project = project
        self.data = project.folder / name
        path = project.folder / f"{name}.log"
        with open(path, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "robotni", "serve"],
                cwd=project.folder, env=self._environ(settings),
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        line = self._process.stdout.readline().decode()
        if not line:
            raise RuntimeError(f"robotni did not start: {path.read_text()}")
        self.port = int(line.rsplit(":", 1)[1])
        self.wire = self._connect()
        document = self.wire.json("GET", "/openapi.json")
        self.version = document["info"]["version"]
        if has_uvloop():
            self.version += " with its extra fast"
        self.calls = set(document["paths"])
        self.has_warm = "warm" in document["components"]["schemas"]["JobRequest"]["properties"]

    def _environ(self, settings: dict[str, Any]) -> dict[str, str]:
        env = {n: v for n, v in os.environ.items() if not n.startswith("ROBOTNI_")}
        roots = [str(self.project.folder), str(numpy_venv() or "")]
        given = {
            "port": 0,
            "data_dir": self.data,
            "script_roots": ":".join(filter(None, roots)),
            "max_pending": 1_000_000,
            **settings,
        }
        env.update({f"ROBOTNI_{name.upper()}": str(value) for name, value in given.items()})
        return {**env, "PYTHONUNBUFFERED": "1"}

    def _connect(self) -> Wire:
        give_up = time.monotonic() + 20
        while True:
            try:
                return Wire(self.port)
            except ConnectionRefusedError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def roots(self) -> list[int]:
        return [self.pid]

    def close(self) -> None:
        """As Ctrl-C does: the web process, and the worker with it."""
        started = tree([self.pid])
        self.wire.close()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            end(self._process)
        give_up = time.monotonic() + 10
        while any(map(_lives, started)) and time.monotonic() < give_up:
            time.sleep(0.02)
        self._process.stdout.close()

    def status(self) -> dict[str, Any]:
        return self.wire.json("GET", "/api/worker/status")

    def submit(self, script: str, wire: Wire | None = None, **fields: Any) -> str:
        body = {"script": script, "venv": ".venv", **fields}
        return (wire or self.wire).json("POST", "/api/worker/jobs", body)["jobId"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.wire.json("GET", f"/api/worker/jobs/{job_id}")

    def run(self, script: str, count: int, **fields: Any) -> float:
        """Seconds from the first POST until all `count` jobs are completed."""
        before = self.status()["jobs"]["completed"]
        wires = [Wire(self.port) for _ in range(CLIENTS)]
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:

            def submit_every_fourth(number: int) -> None:
                for _ in range(number, count, CLIENTS):
                    self.submit(script, wires[number], **fields)

            list(pool.map(submit_every_fourth, range(CLIENTS)))
        self._wait(before + count, count, began)
        seconds = time.monotonic() - began
        for wire in wires:
            wire.close()
        return seconds

    def _wait(self, completed: int, count: int, began: float) -> None:
        """Asks again when half of what is left may be done: polling costs the server, too."""
        while True:
            jobs = self.status()["jobs"]
            left = jobs["pending"] + jobs["running"]
            if left == 0:
                break
            pace = (time.monotonic() - began) / max(1, count - left)
            time.sleep(min(0.5, max(0.01, 0.5 * left * pace)))
        if jobs["completed"] != completed:
            raise RuntimeError(f"jobs failed: {jobs}; {self._last_error()}")

    def _last_error(self) -> str:
        jobs = self.wire.json("GET", "/api/worker/jobs?status=failed&limit=1")["jobs"]
        return str(jobs[0]["error"]) if jobs else "none says why"

    def starts(self, count: int, pause: float, **fields: Any) -> list[float]:
        """Milliseconds from each POST to the first line of its script, the worker idle before."""
        found = []
        for _ in range(count):
            time.sleep(pause)
            out = self.project.new_out()
            began = time.monotonic()
            job_id = self.submit("stamp.py", args=[out], **fields)
            found.append(1000 * (stamp(out) - began))
            while self.job(job_id)["finishedAt"] is None:
                time.sleep(0.01)
        return found


def _lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"
