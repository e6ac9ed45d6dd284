"""Real servers, workers and scripts. Their processes are found by the data directory they name."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import httpx
import psutil

from robotni.client import Client
from robotni.errors import Unreachable
from robotni.tests.chaos.process_list import processes_of

PROGRAM = str(Path(__file__).parents[1] / "__main__.py")
# `robotni serve` with the extra `fast`, and as if it were not installed.
STACKS = {
    "fast": [sys.executable, PROGRAM, "serve"],
    "plain": [
        sys.executable,
        "-c",
        "import sys; sys.modules['uvloop'] = None; "
        "from robotni.cli.main import main; main(['serve'])",
    ],
}
WITHIN = 20.0
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts us in the background has us ignore Ctrl-C, and our children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_venv(path: Path) -> Path:
    venv.create(path, with_pip=False, symlinks=True)
    return path


def eventually(condition: Callable[[], Any], within: float = WITHIN) -> Any:
    """The first true value of `condition`; fails after `within` seconds without one."""
    deadline = time.monotonic() + within
    pause = 0.01
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            assert value, f"not true within {within:g} s"
            return value
        time.sleep(pause)
        pause = min(0.1, pause * 1.2)  # a search of all processes is expensive


def end_all(folder: Path) -> None:
    """Kills every process whose command line or environment names `folder`."""
    for _ in range(200):
        found = processes_of(folder)
        if not found:
            return
        for process in found:
            try:
                process.kill()
                process.wait(0)
            except (psutil.Error, psutil.TimeoutExpired):
                pass
        time.sleep(0.02)
    raise AssertionError(f"processes are left: {found}")


def _parent(process: psutil.Process) -> int:
    """The parent's pid; 0 when the process has ended."""
    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing: EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ(**settings: Any) -> Dict[str, str]:
    env = {n: v for n, v in os.environ.items() if not n.startswith("ROBOTNI_")}
    env.update({f"ROBOTNI_{name.upper()}": str(value) for name, value in settings.items()})
    return env


class Server:
    """`robotni serve` in a project folder, with helpers to call, kill and restart it."""

    def __init__(
        self, project: Path, prefix: str = "", stack: str = "fast", **settings: Any
    ) -> None:
        self.project = project
        self.stack = stack
        self.port = settings.setdefault("port", free_port())
        self.data = Path(settings.setdefault("data_dir", project / ".robotni"))
        self.settings = settings
        self.environ = clean_environ(**settings)
        self.token: Optional[str] = settings.get("token")
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self.client = Client(self.url, self.token)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self, *command: str, cwd: Optional[Path] = None) -> "Server":
        """Starts `robotni serve`, or another `command` that serves at the same port."""
        with open(self.project / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command or STACKS[self.stack],
                cwd=cwd or self.project,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self.answers)
        return self

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log()
        try:
            self.client.status()
        except Unreachable:
            return False
        return True

    def log(self) -> str:
        return (self.project / "server.log").read_text()

    def worker_log(self) -> str:
        path = self.data / "worker.log"
        return path.read_text() if path.exists() else ""

    def start_worker(self, *options: str) -> "subprocess.Popen[bytes]":
        return self.start_command("worker", *options)

    def start_command(self, *command: str) -> "subprocess.Popen[bytes]":
        """Starts `robotni COMMAND` in the project folder and does not wait for it."""
        with open(self.project / "hand.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, PROGRAM, *command],
                cwd=self.project,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def workers(self) -> List[psutil.Process]:
        """The workers. A child that a worker has just forked still has its command line."""
        found = {p.pid: p for p, words in self._processes() if "worker" in words}
        forked = [pid for pid, p in found.items() if _parent(p) in found]
        return [p for pid, p in found.items() if pid not in forked]

    def shims(self) -> List[psutil.Process]:
        return [p for p, words in self._processes() if any(w.endswith("shim.py") for w in words)]

    def scripts(self, job_id: str) -> List[psutil.Process]:
        """Every process whose command line or environment names the job."""
        return processes_of(Path(job_id))

    def _processes(self) -> List[Tuple[psutil.Process, List[str]]]:
        """Each process of the data directory with its command line."""
        found = []
        for process in processes_of(self.data):
            try:
                found.append((process, process.cmdline()))
            except psutil.Error:
                continue
        return found

    def kill_web(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends the server as Ctrl-C does."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(WITHIN)

    def submit(self, script: str, **fields: Any) -> str:
        """Writes `script` to a file and submits it; returns the job id."""
        path = self.project / f"script-{time.monotonic_ns()}.py"
        path.write_text(script)
        request = {"script": path.name, "venv": ".venv", **fields}
        return str(self.client.submit(request)["jobId"])

    def wait_for(self, job_id: str, *states: str, within: float = WITHIN) -> Dict[str, Any]:
        """The job, as soon as it is in one of `states`, by default a terminal one."""
        wanted = states or ("completed", "failed", "cancelled")

        def job_in_state() -> Any:
            job = self.client.get(job_id)
            return job if job["status"] in wanted else None

        return dict(eventually(job_in_state, within))

    def close(self) -> None:
        self.http.close()
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        end_all(self.data)
