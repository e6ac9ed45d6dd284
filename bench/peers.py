"""The peers, each in two ways. README.md says why each is set up as it is.

*Fair*: behind the same FastAPI endpoint as robotni's, durable (`Durable`), driven over HTTP.
*Bare*: its library alone, as its docs start it, driven from its own Python.
The task is `subprocess.run([python, script])` in the same virtual environment, four at once.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import end, free_port
from project import Project
from systems import APPS, Endpoint

HERE = Path(__file__).parent
ANSWER_WITHIN = 300  # seconds


@dataclass(frozen=True)
class Kind:
    """`worker` is a command of the environment's `bin`; `name` is also that of the table."""

    name: str
    packages: tuple[str, ...]
    app: str
    worker: tuple[str, ...]
    needs_redis: bool = True

    @property
    def venv(self) -> str:
        return self.app[len("with_") :]


_HUEY = ("huey_consumer", "-q", "-w", "4", "with_huey.huey")
KINDS = (
    Kind("RQ", ("rq",), "with_rq",
         ("rq", "worker-pool", "-q", "-n", "4", "-u", "{redis}", "default")),
    Kind("Celery", ("celery[redis]",), "with_celery",
         ("celery", "-A", "with_celery", "worker", "-P", "prefork", "-c", "4", "-l", "ERROR")),
    Kind("Dramatiq", ("dramatiq[redis]",), "with_dramatiq",
         ("dramatiq", "-p", "2", "-t", "2", "with_dramatiq")),
    Kind("Huey on Redis", ("huey", "redis"), "with_huey", _HUEY),
    Kind("Huey on SQLite", ("huey", "redis"), "with_huey", _HUEY, needs_redis=False),
)  # fmt: skip


class PeerFailed(Exception):
    """It cannot be installed, or gave up; the run goes on without it and says so."""


def install_redis() -> str:
    """Redis from Debian, where that may be done; else a sentence that says what to do."""
    if shutil.which("redis-server") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["install", "-qq", "--yes", "--no-install-recommends", "redis-server"]
        for words in (["update", "-qq"], install):
            subprocess.run(["apt-get", *words], check=False, env=env, stdout=subprocess.DEVNULL)
    found = shutil.which("redis-server")
    return "" if found else "There is no redis-server; as root: apt install redis-server"


def install_venv(kind: Kind) -> Path:
    """The environment of a peer, with FastAPI for its fair row; made once."""
    folder = HERE / f".venv-{kind.venv}"
    if not (folder / ".ready").exists():
        packages = [*kind.packages, "fastapi", "uvicorn[standard]"]
        print(f"installing {' '.join(packages)} into {folder.name}", file=sys.stderr)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)
        except subprocess.CalledProcessError as error:
            raise PeerFailed(f"{kind.name} cannot be installed: {error}") from None
        (folder / ".ready").touch()
    return folder


def versions() -> dict[str, str]:
    """Of the peers that are installed, by package."""
    found = {}
    for kind in KINDS:
        package = kind.packages[0].partition("[")[0]
        for path in (HERE / f".venv-{kind.venv}").glob(f"lib/python*/site-packages/{package}-*"):
            found[package] = path.name[len(package) + 1 :].replace(".dist-info", "")
    return found


class Worker:
    """The worker of a peer, and its Redis; `durable` as robotni is, else as they come."""

    def __init__(self, kind: Kind, project: Project, durable: bool) -> None:
        self.bin = install_venv(kind) / "bin"
        self._processes: list[subprocess.Popen] = []
        self.log = Path(project.path(f"{kind.name}.log"))
        self.env = {**os.environ, "BENCH_DURABLE": "1" if durable else ""}
        redis = ""
        if kind.needs_redis:
            redis = self.env["BENCH_REDIS"] = self._redis(project, durable)
        else:
            self.env["BENCH_FILE"] = project.new_out()
        program, *options = [word.format(redis=redis) for word in kind.worker]
        self.start(self.bin / program, *options)

    def _redis(self, project: Project, durable: bool) -> str:
        port, folder = free_port(), Path(project.new_out())
        folder.mkdir()
        append = ["yes", "--appendfsync", "always"] if durable else ["no"]
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        self.start("redis-server", *options, "--appendonly", *append)
        return f"redis://127.0.0.1:{port}/0"

    def start(self, *argv: Any) -> None:
        with open(self.log, "ab") as log:
            process = subprocess.Popen(argv, cwd=APPS, env=self.env, stdout=log, stderr=log)
        self._processes.append(process)

    @property
    def roots(self) -> list[int]:
        return [process.pid for process in self._processes]

    def close(self) -> None:
        for process in reversed(self._processes):
            end(process)


class FairPeer(Endpoint):
    """A peer behind the same endpoint as robotni's, durable."""

    def __init__(self, kind: Kind, project: Project) -> None:
        self.name = f"{kind.name} behind FastAPI, durable"
        self._worker = Worker(kind, project, durable=True)
        python = self._worker.bin / "python"
        super().__init__(project, kind.app, python, self._worker.env)
        self.roots += self._worker.roots

    def close(self) -> None:
        super().close()
        self._worker.close()


class BarePeer:
    """A peer's library alone: the client is a process in its own environment."""

    def __init__(self, kind: Kind, project: Project) -> None:
        self.name = f"{kind.name}, its library alone"
        self._project = project
        self._worker = Worker(kind, project, durable=False)
        self.roots = self._worker.roots
        self._client = subprocess.Popen(
            [self._worker.bin / "python", "drive.py", kind.app], cwd=APPS, env=self._worker.env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _ask(self, **request: Any) -> Any:
        try:
            self._client.stdin.write(json.dumps(request) + "\n")
            self._client.stdin.flush()
            ready, _, _ = select.select([self._client.stdout], [], [], ANSWER_WITHIN)
            answer = self._client.stdout.readline() if ready else ""
        except BrokenPipeError:  # it died before this request
            answer = ""
        if not answer:
            raise PeerFailed(f"{self.name} gave up: {self._worker.log.read_text()[-1000:]}")
        return json.loads(answer)

    def run(self, script: str, count: int) -> float:
        argv = [self._project.python, self._project.path(script)]
        return self._ask(do="run", argv=argv, count=count)

    def starts(self, count: int) -> list[float]:
        argv = [self._project.python, self._project.path("stamp.py")]
        return self._ask(do="start", argv=argv, out=self._project.new_out(), count=count)

    def close(self) -> None:
        end(self._client)
        self._worker.close()
        self._client.stdin.close()
        self._client.stdout.close()
