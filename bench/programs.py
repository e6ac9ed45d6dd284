"""The programs that are measured against: `xargs -P4`, task-spooler, the interpreter alone."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from peer_apps.drive import stamp
from project import Project


class Xargs:
    """Four scripts at once, and nothing else: no queue, no record. It is the 1.0."""

    name, version = "xargs -P4", ""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.cpu_seconds = 0.0  # of the last run, the scripts included

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


class Interpreter:
    """The venv's interpreter started by this process: what nobody's cold start can be under."""

    name, version = "interpreter alone", ""

    def __init__(self, project: Project) -> None:
        self._project = project

    def starts(self, count: int, pause: float) -> list[float]:
        found = []
        for _ in range(count):
            time.sleep(pause)
            out = self._project.new_out()
            began = time.monotonic()
            argv = [self._project.python, self._project.path("stamp.py"), out]
            with subprocess.Popen(argv):
                found.append(1000 * (stamp(out) - began))
        return found


class Spooler:
    """task-spooler with four slots; its client is a process for each job, as a shell would."""

    name = "task-spooler"

    def __init__(self, project: Project) -> None:
        self._project = project
        self._folder = tempfile.TemporaryDirectory()  # a socket's path must be short
        socket = Path(self._folder.name) / "socket"
        self._env = {
            **os.environ,
            "TS_SOCKET": str(socket),
            "TS_MAXFINISHED": "100000",
            "TMPDIR": self._folder.name,  # it keeps the output of each job there, as robotni does
        }
        self._tsp("-S", "4")
        self.version = self._tsp("-V").split("v", 1)[1].split()[0]

    def _tsp(self, *words: str) -> str:
        argv = ["tsp", *words]
        return subprocess.check_output(argv, env=self._env, cwd=self._project.folder, text=True)

    def run(self, script: str, count: int) -> float:
        began = time.monotonic()
        lines = subprocess.check_output(
            ["xargs", "-n1", "tsp", self._project.python],
            input=f"{script}\n" * count, env=self._env, cwd=self._project.folder, text=True,
        )  # fmt: skip
        job_ids = lines.split()
        if len(job_ids) != count:
            raise RuntimeError(f"task-spooler took {len(job_ids)} jobs of {count}")
        for job_id in job_ids[-8:]:  # four at once: the others ended before
            self._tsp("-w", job_id)
        seconds = time.monotonic() - began
        self._tsp("-C")
        return seconds

    def starts(self, count: int, pause: float) -> list[float]:
        found = []
        for _ in range(count):
            time.sleep(pause)
            out = self._project.new_out()
            began = time.monotonic()
            self._tsp(self._project.python, "stamp.py", out)
            found.append(1000 * (stamp(out) - began))
        return found

    def close(self) -> None:
        self._tsp("-K")
        self._folder.cleanup()
