"""The shims of this worker, each the parent of one running script at a time.

The worker's side of a shim is a socket: a launch spec goes in with the lock of the run, an answer
comes back when the run has ended, and end of file means that the shim died. A worker that stops
closes the sockets; the shims finish their runs alone.
"""

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

from robotni.shim import protocol
from robotni.storage.run_files import RunFiles

ENDED, NOT_STARTED, DIED, STOPPING = "ended", "not started", "died", "stopping"
CONTINUE_EVERY = 5.0  # seconds
_PROGRAM = str(Path(__file__).parents[1] / "shim" / "shim.py")


class StopSignal:
    """Says that this worker stops. Every wait ends at once then, also one that polls `fd`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.fd, self._writer = os.pipe()

    def set(self) -> None:
        self._event.set()
        os.write(self._writer, b"!")  # from now on `fd` is readable

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._writer)


class ShimProcess:
    """One shim and the socket to it. `exit_facts` is what its last run's `exit.json` says."""

    def __init__(self, log: Path) -> None:
        self.has_run = self._leaves = False
        self.exit_facts: Optional[Dict[str, Any]] = None
        self._socket, theirs = socket.socketpair()
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with theirs, open(fd, "ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-E", "-S", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it takes another run."""
        return not self._leaves and self._process.poll() is None

    def launch(self, run_files: RunFiles, spec: Dict[str, Any]) -> bool:
        """Hands the run and its lock to the shim; False when the shim is dead already."""
        lock = run_files.lock()
        if lock is None:
            raise RuntimeError(f"the lock of the new run {run_files.folder} is taken")
        self.has_run = True
        try:
            return self._send(spec, lock)
        finally:
            os.close(lock)  # from here on the shim's copy holds it

    def prepare_standby(self, recipe: Dict[str, Any]) -> bool:
        """Has the shim start a standby interpreter; False when the shim is dead."""
        return self._send(recipe)

    def _send(self, message: Dict[str, Any], *fds: int) -> bool:
        body = json.dumps(message).encode()
        data = protocol.HEADER.pack(len(body)) + body
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._socket.sendmsg([data], rights)
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except OSError:  # it died
            return False
        return True

    def wait(self, stop_fd: int) -> str:
        """Waits for the end of the run: ENDED, NOT_STARTED or DIED; STOPPING once `stop_fd` is
        readable."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(stop_fd, select.POLLIN)
        ready: List[int] = []
        while not ready:
            ready = [fd for fd, _ in poll.poll(1000 * CONTINUE_EVERY)]
            if not ready:  # a script may have stopped its shim, which would then miss its deadline
                self._process.send_signal(signal.SIGCONT)
        if self._socket.fileno() not in ready:
            return STOPPING
        try:
            answer = self._socket.recv(protocol.MAX_ANSWER)
        except ConnectionError:
            answer = b""
        self.exit_facts = json.loads(answer[2:]) if answer[2:] else None
        self._leaves = answer[1:2] == protocol.LEAVES
        self.has_run = False
        results = {protocol.ENDED: ENDED, protocol.NOT_STARTED: NOT_STARTED}
        return results.get(answer[:1], DIED)

    def close(self) -> None:
        """Lets the shim end: at once when it has no run, else after its run."""
        self._socket.close()
        if self._process.poll() is None and self.has_run:
            self._process.returncode = 0  # it outlives this worker, so nobody here waits for it

    def reap(self) -> None:
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # it has a run to finish; init will collect it


class ShimPool:
    """Idle shims for the next runs. What a shim writes to stderr, normally nothing, goes to the
    file `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._idle: List[ShimProcess] = []
        self._lock = threading.Lock()

    def take(self) -> ShimProcess:
        """An idle shim, or a new one; OSError when the machine has no room for a process."""
        while True:
            with self._lock:
                shim = self._idle.pop() if self._idle else None
            if shim is None:
                return ShimProcess(self._log)
            if shim.is_alive():
                return shim
            shim.close()

    def give_back(self, shim: ShimProcess) -> None:
        if shim.has_run or not shim.is_alive():
            close_all([shim])
        else:
            with self._lock:
                self._idle.append(shim)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        close_all(idle)


def close_all(shims: List[ShimProcess]) -> None:
    for shim in shims:
        shim.close()
    for shim in shims:
        shim.reap()
