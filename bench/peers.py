"""The peers: what they are, how they are set up and run, and why so.

A peer's task runs the same script with the same interpreter by `subprocess.run`, four at once. Each
lives in a venv of its own, `bench/.venv-NAME`; Redis listens on loopback, on a free port, with its
files in the folder of the run. README.md says why each is configured as it is.
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

from processes import end, free_port
from project import Project

HERE = Path(__file__).parent
APPS = HERE / "peer_apps"
PATIENCE = 300  # seconds for an answer; the longest takes a tenth of that
DEBIAN = {"redis-server": "redis-server", "tsp": "task-spooler"}


@dataclass(frozen=True)
class Kind:
    """`worker` is the command in the venv's `bin`; `database` Redis's, or None for a file."""

    name: str
    venv: str
    packages: tuple[str, ...]
    app: str
    worker: tuple[str, ...]
    database: int | None


_HUEY = ("huey_consumer", "-q", "-w", "4")
KINDS = (
    Kind("RQ", "rq", ("rq",), "with_rq",
         ("rq", "worker-pool", "-q", "-n", "4", "-u", "{redis}", "default"), 0),
    Kind("Celery", "celery", ("celery[redis]",), "with_celery",
         ("celery", "-A", "with_celery", "worker", "-P", "prefork", "-c", "4", "-l", "ERROR"), 1),
    Kind("Dramatiq", "dramatiq", ("dramatiq[redis]",), "with_dramatiq",
         ("dramatiq", "-p", "2", "-t", "2", "with_dramatiq"), 2),
    Kind("Huey on SQLite", "huey", ("huey", "redis"), "with_huey",
         (*_HUEY, "with_huey.huey"), None),
    Kind("Huey on Redis", "huey", ("huey", "redis"), "with_huey",
         (*_HUEY, "with_huey.huey"), 3),
)  # fmt: skip
# What its consumer has come to after 80 s without work: a look every 10 s, the default's longest.
LONG_IDLE = Kind(
    "Huey on SQLite, idle for 80 s", "huey", ("huey", "redis"), "with_huey",
    (*_HUEY, "-d", "10", "-b", "1", "with_huey.huey"), None,
)  # fmt: skip


def missing_programs() -> list[str]:
    return [program for program in DEBIAN if shutil.which(program) is None]


def install_programs() -> str:
    """Redis and task-spooler from Debian, where that may be done; else what to do, a sentence."""
    missing = missing_programs()
    packages = [DEBIAN[program] for program in missing]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": env, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages]
        subprocess.run(install, check=False, **quiet)
        missing = missing_programs()
    if not missing:
        return ""
    return f"{', '.join(missing)} not found; as root: apt install {' '.join(packages)}"


def install_venv(kind: Kind) -> Path:
    """The venv of a peer; made once, `make clean` removes it."""
    folder = HERE / f".venv-{kind.venv}"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"installing {' '.join(kind.packages)} into {folder.name}", file=sys.stderr)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([*pip, "--disable-pip-version-check", *kind.packages], check=True)
        except subprocess.CalledProcessError as error:
            raise PeerFailed(f"{kind.name} cannot be installed: {error}") from None
        ready.touch()
    return folder


class PeerFailed(Exception):
    """It cannot be installed, or gave up; the run goes on without it and says so."""


class Redis:
    """As its docs start it, but without snapshots, which would only cost the peers time."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder,
             "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.pid = self._process.pid

    def url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        end(self._process)


class Peer:
    """A running worker, and the client that submits to it."""

    def __init__(self, kind: Kind, project: Project, redis: Redis | None) -> None:
        self.name = kind.name
        self._project = project
        bin_folder = install_venv(kind) / "bin"
        env = {**os.environ, "BENCH_FILE": project.path(f"{kind.name}.db")}
        url = ""
        if kind.database is not None:
            url = env["BENCH_REDIS"] = redis.url(kind.database)
        program, *options = [word.format(redis=url) for word in kind.worker]
        self._log = Path(project.path(f"{kind.name}.log"))
        with open(self._log, "wb") as log:
            self._worker = subprocess.Popen(
                [bin_folder / program, *options], cwd=APPS, env=env, stdout=log, stderr=log
            )
        self._client = subprocess.Popen(
            [bin_folder / "python", "drive.py", kind.app],
            cwd=APPS, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.roots = [self._worker.pid, *([redis.pid] if kind.database is not None else [])]
        self.version = self._version(bin_folder, kind.venv)

    def _version(self, bin_folder: Path, package: str) -> str:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return subprocess.check_output([bin_folder / "python", "-c", code], text=True).strip()

    def _ask(self, **order: Any) -> Any:
        try:
            self._client.stdin.write(json.dumps(order) + "\n")
            self._client.stdin.flush()
            ready, _, _ = select.select([self._client.stdout], [], [], PATIENCE)
            answer = self._client.stdout.readline() if ready else ""
        except BrokenPipeError:  # it died between two orders
            answer = ""
        if not answer:
            raise PeerFailed(f"{self.name} gave up: {self._log.read_text()[-2000:]}")
        return json.loads(answer)

    def run(self, script: str, count: int) -> float:
        argv = [self._project.python, self._project.path(script)]
        return self._ask(do="run", argv=argv, count=count)

    def starts(self, count: int, pause: float) -> list[float]:
        argv = [self._project.python, self._project.path("stamp.py")]
        out = self._project.new_out()
        return self._ask(do="start", argv=argv, out=out, count=count, pause=pause)

    def close(self) -> None:
        end(self._client)
        end(self._worker)
        self._client.stdin.close()
        self._client.stdout.close()
