"""The storm: a real server under load, whose processes are killed by SIGKILL at any moment.

It submits over HTTP, remembers what was acknowledged and how what ended looked, kills, and starts
the web process again; all else has to come back by itself. It kills only processes that name its
own folder. What it saw is judged in `audit.py`. With strace it also kills at named points: as a
process makes its n-th call of a kind (fsync, rename, vfork ...).
"""

import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import psutil

from robotni.client import Client
from robotni.errors import RobotniError, Unreachable
from robotni.system.datadir import DataDir
from robotni.system.wakeup import has_listener
from robotni.tests.chaos import process_list as census
from robotni.tests.chaos import witness

_WEIGHTS = {"web": 2, "worker": 5, "shim": 30, "script": 30, "all": 2, "point": 1}
KINDS = tuple(_WEIGHTS)
POINTS = {
    "fdatasync": 9, "fsync": 7, "pwrite64": 40, "rename": 2, "sendmsg": 3, "sendto": 3,
    "fork,vfork,clone,clone3": 6, "mkdir": 4, "flock": 12, "unlink": 2,
}  # fmt: skip
BACKLOG = 12  # jobs under way at once, at most
START_WITHIN = 30.0
POINT_WITHIN = 4.0
TARGET_WITHIN = 10.0
PAUSE = 0.15  # seconds between two kills, at most
_PROGRAM = str(Path(__file__).parents[2] / "__main__.py")


class Storm:
    """One server in `folder`, and all that is done to it. `with` starts and ends it."""

    def __init__(
        self, folder: Path, seed: int, environ: Mapping[str, str], workers: int = 3
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._wakeup = DataDir(self.data).wakeup
        self.workers = workers
        self.kills: Counter[str] = Counter()
        self.acknowledged: List[str] = []
        self.ended: Dict[str, Dict[str, Any]] = {}
        self._environ = environ
        self._random = random.Random(seed)
        self._port = _free_port()
        self._web: Optional[subprocess.Popen[bytes]] = None
        self._served = threading.Event()
        self._calm = threading.Event()
        self._threads = [threading.Thread(target=self._submit), threading.Thread(target=self._look)]

    def __enter__(self) -> "Storm":
        venv = [sys.executable, "-m", "venv", "--without-pip", str(self.folder / ".venv")]
        subprocess.run(venv, check=True)
        (self.folder / "witness.py").write_text(witness.SCRIPT)
        self.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._calm.set()
        for thread in self._threads:
            thread.join()
        for _try in range(50):
            if not [census.kill(process) for process in census.processes_of(self.folder)]:
                break
            time.sleep(0.05)
        if self._web is not None:
            self._web.wait()

    def start(self) -> None:
        """The web process, where there is none."""
        self._start_web()
        self._await_web()

    # kill

    def rage(self, seconds: float, kills: int, kinds: "tuple[str, ...]" = KINDS) -> None:
        """Kills until `seconds` have passed or `kills` were done."""
        end = time.monotonic() + seconds
        weights = [_WEIGHTS[kind] for kind in kinds]
        while time.monotonic() < end and sum(self.kills.values()) < kills:
            (kind,) = self._random.choices(kinds, weights)
            targets = self._await_target(kind, min(end, time.monotonic() + TARGET_WITHIN))
            if targets is not None:
                self.kills[kind] += self._strike(kind, targets)
                time.sleep(self._random.random() * PAUSE)

    def _await_target(self, kind: str, give_up: float) -> Optional[List[psutil.Process]]:
        """What there is of `kind` as soon as there is some; None when it does not come in time."""
        while time.monotonic() < give_up:
            self._start_web()
            targets = self._targets()
            if kind in targets:
                return targets[kind]
            time.sleep(0.02)
        return None

    def _targets(self) -> Dict[str, List[psutil.Process]]:
        """What could be killed now, by kind. Web process and worker mostly may get up before: one
        that dies at once is started again only after growing pauses."""
        found = census.processes_of(self.data)
        targets: Dict[str, List[psutil.Process]] = {}
        for process in found:
            targets.setdefault(census.role_of(process), []).append(process)
        targets.pop("", None)
        up = self._served.is_set() or self._random.random() < 0.05
        if up:
            targets["all"] = found
        else:
            targets.pop("web", None)
        if not has_listener(self._wakeup) and self._random.random() > 0.01:
            targets.pop("worker", None)
        if up and census.can_trace():
            targets["point"] = []
        return targets

    def _strike(self, kind: str, targets: List[psutil.Process]) -> int:
        """Kills them all or, of shims and scripts, one; 1 when there was something to be killed."""
        if kind == "point":
            return int(self._strike_at_a_point())
        if kind in ("shim", "script"):
            targets = [self._random.choice(targets)]
        killed = [census.kill(target) for target in targets]
        return int(any(killed))

    def _strike_at_a_point(self) -> bool:
        """A worker that strace kills, or a shim below it, at its n-th call of a kind."""
        calls = self._random.choice(sorted(POINTS))
        number = self._random.randint(1, POINTS[calls])
        inject = f"inject={calls}:signal=KILL:when={number}"
        told = self.folder / "strace.log"
        command = ["strace", "-f", "-qq", "-o", str(told), "-e", f"trace={calls}", "-e", inject]
        tracer = self._spawn([*command, sys.executable, _PROGRAM, "worker"], "worker.log")
        give_up = time.monotonic() + POINT_WITHIN
        killed = False
        while not killed and tracer.poll() is None and time.monotonic() < give_up:
            time.sleep(0.02)
            killed = told.exists() and "killed by SIGKILL" in told.read_text()
        time.sleep(self._random.random() * 0.1)
        for process in census.processes_of(self.data):
            if census.role_of(process) == "worker":
                census.kill(process)
        if told.exists():
            told.unlink()
        return killed

    def _start_web(self) -> None:
        if self._web is None or self._web.poll() is not None:
            self._served.clear()
            self._web = self._spawn([sys.executable, _PROGRAM, "serve"], "web.log")

    def _await_web(self) -> None:
        give_up = time.monotonic() + START_WITHIN
        with self._client() as client:
            while time.monotonic() < give_up:
                self._start_web()  # again where the one before was about to die
                try:
                    client.status()
                    return
                except Unreachable:
                    time.sleep(0.02)
        raise RobotniError(f"the server did not start:\n{(self.folder / 'web.log').read_text()}")

    def _spawn(self, command: List[str], log: str) -> "subprocess.Popen[bytes]":
        with open(self.folder / log, "ab") as out:
            return subprocess.Popen(
                command,
                cwd=str(self.folder),
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def environ(self) -> Dict[str, str]:
        env = {n: v for n, v in self._environ.items() if not n.startswith("ROBOTNI_")}
        return {
            **env,
            "ROBOTNI_DATA_DIR": str(self.data),
            "ROBOTNI_SCRIPT_ROOTS": str(self.folder),
            "ROBOTNI_PORT": str(self._port),
            "ROBOTNI_WORKERS": str(self.workers),
            "ROBOTNI_IDLE_EXIT": "1",
            "ROBOTNI_KILL_GRACE": "1",
        }

    # load

    def _client(self) -> Client:
        """It does not retry: the storm tries again at once, and sees all that gets lost."""
        return Client(f"http://127.0.0.1:{self._port}", retry_timeout=0)

    def _submit(self) -> None:
        """Keeps jobs under way; each is submitted, under its key, until it is acknowledged."""
        number = 0
        dice = random.Random(self._random.random())
        with self._client() as client:
            while not self._calm.is_set():
                if len(self.acknowledged) - len(self.ended) >= BACKLOG:
                    time.sleep(0.02)
                    continue
                number += 1
                request = self._request(dice)
                while not self._calm.is_set() and not self._acknowledge(client, request, number):
                    time.sleep(0.02)

    def _request(self, dice: random.Random) -> Dict[str, Any]:
        seconds = f"{dice.random():.3f}"
        return {
            "script": "witness.py",
            "venv": ".venv",
            "args": [str(self.folder), seconds, dice.choice(witness.LEAVES)],
            "retries": dice.choice((0, 0, 1)),
            "delay": dice.choice((0, 0, 0, 0.2)),
            "warm": dice.choice((True, False, False)),
        }

    def _acknowledge(self, client: Client, request: Dict[str, Any], number: int) -> bool:
        try:
            self.acknowledged.append(client.submit(request, key=f"job-{number}").id)
            self._served.set()
        except Unreachable:
            return False
        return True

    def _look(self) -> None:
        with self._client() as client:
            while not self._calm.is_set():
                self._look_once(client)
                time.sleep(0.05)

    def _look_once(self, client: Client) -> None:
        """Remembers how each job looked when it was first seen ended."""
        for job_id in [i for i in self.acknowledged if i not in self.ended]:
            try:
                job = client.get(job_id)
            except Unreachable:
                return
            except RobotniError:  # no such job: the audit will say
                continue
            self._served.set()
            if job.is_terminal:
                self.ended[job_id] = dict(job)

    # calm

    def settle(self, within: float) -> int:
        """No kills any more: waits until all that was acknowledged has ended; how many have not."""
        give_up = time.monotonic() + within
        self._calm.set()
        for thread in self._threads:
            thread.join()
        self.start()
        with self._client() as client:
            while len(self.ended) < len(self.acknowledged) and time.monotonic() < give_up:
                self._look_once(client)
                time.sleep(0.05)
        return len(self.acknowledged) - len(self.ended)

    def changed(self) -> int:
        """How many jobs do not look any more as they did when they were first seen ended."""
        with self._client() as client:
            return sum(dict(client.get(job_id)) != seen for job_id, seen in self.ended.items())

    def leave(self) -> int:
        """Stops server and worker in order; how many processes are left all the same."""
        stop = self._spawn([sys.executable, _PROGRAM, "stop"], "web.log")
        stop.wait()
        give_up = time.monotonic() + 10
        while census.processes_of(self.folder) and time.monotonic() < give_up:
            time.sleep(0.05)
        return len(census.processes_of(self.folder))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
