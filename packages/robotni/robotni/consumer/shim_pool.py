"""ShimPool: the shims of this worker, each the parent of one script at a time.

A pool hands out at most `size` slots and starts a shim only when none is idle. The worker's side
of a shim is a socket: a run goes in with its lock, a byte comes back when all is over, EOF means
the shim died. A worker that leaves closes the sockets; the shims finish their runs alone.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from robotni.shim import protocol as wire
from robotni.storage.run_files import RunFiles

ENDED, NOT_BEGUN, DIED, LEFT = "ended", "not begun", "died", "left"
GO_ON_EVERY = 5.0  # seconds
_SHIM = str(Path(__file__).parents[1] / "shim" / "shim.py")


class StopSignal:
    """The word that this worker leaves; waits end at once when it is said."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.fd, self._writer = os.pipe()

    def set(self) -> None:
        """From now on `fd` is readable, for every poll, for ever."""
        self._event.set()
        os.write(self._writer, b"!")

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._writer)


class Slot:
    """One shim and the socket to it; by default in robotni's own interpreter, and cold."""

    def __init__(
        self,
        log: Path,
        python: Sequence[str] = (),
        arguments: Sequence[str] = (),
        environ: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.has_run = False
        self.facts: Optional[Dict[str, Any]] = None
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs, open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as err:
            self._process = subprocess.Popen(
                [
                    *(python or (sys.executable, "-E", "-S")),
                    _SHIM,
                    str(theirs.fileno()),
                    *arguments,
                ],
                env=environ,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def launch(self, run_files: RunFiles, order: Dict[str, Any]) -> bool:
        """Hands the run and its lock to the shim; False when the shim is dead already."""
        lock = run_files.take()
        if lock is None:
            raise RuntimeError(f"the lock of the new run {run_files.folder} is taken")
        self.has_run = True
        body = json.dumps(order).encode()
        message = wire.HEADER.pack(len(body)) + body
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lock]))
        try:
            sent = self._socket.sendmsg([message], [rights])
            if sent < len(message):  # once it has all, its death is no failure to tell it
                self._socket.sendall(message[sent:])
        except OSError:  # it died between two runs
            return False
        finally:
            os.close(lock)  # from here on the shim's copy holds it
        return True

    def wait(self, leave: int) -> str:
        """Until the run is over: ENDED, NOT_BEGUN or DIED; LEFT once `leave` is readable. What its
        `exit.json` says is then in `facts`, so that nobody needs to read it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(leave, select.POLLIN)
        ready: List[int] = []
        while not ready:
            ready = [fd for fd, _ in poll.poll(1000 * GO_ON_EVERY)]
            if not ready:  # a script may have stopped its shim, which then heeds no timeout
                self._process.send_signal(signal.SIGCONT)
        if self._socket.fileno() not in ready:
            return LEFT
        try:
            answer = self._socket.recv(wire.ANSWER)
        except ConnectionError:
            answer = b""
        self.facts = json.loads(answer[1:]) if answer[1:] else None
        self.has_run = False
        return {wire.ENDED: ENDED, wire.NOT_BEGUN: NOT_BEGUN}.get(answer[:1], DIED)

    def kill(self) -> None:
        """Ends a shim that has no run, and what it may have started."""
        self._socket.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it was quicker
            pass
        self._process.wait()

    def close(self) -> None:
        """Lets the shim go: it leaves at once when idle, else after its run."""
        self._socket.close()
        if self._process.poll() is None and self.has_run:
            self._process.returncode = 0  # no child of ours any more: it outlives us

    def reap(self) -> None:
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # it has a run to finish; init will collect it


class ShimPool:
    """Room for `size` runs at once, and cold shims; a used one is used again before a new one.

    What a shim itself has to say, which is nothing on a good day, goes to the file `log`.
    """

    def __init__(self, size: int, log: Path) -> None:
        self.size = size
        self._log = log
        self._idle: List[Slot] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(size)

    @contextmanager
    def room(self) -> Iterator[None]:
        """Waits for a place; whoever has one may take a slot, this pool's or a warm one."""
        with self._free:
            yield

    @contextmanager
    def take(self) -> Iterator[Slot]:
        slot = self._pop() or Slot(self._log)
        try:
            yield slot
        finally:
            if slot.has_run or not slot.is_alive():
                slot.close()
            else:
                self._push(slot)

    def _pop(self) -> Optional[Slot]:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                slot = self._idle.pop()
            if slot.is_alive():
                return slot
            slot.close()

    def _push(self, slot: Slot) -> None:
        with self._lock:
            self._idle.append(slot)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for slot in idle:
            slot.close()
        for slot in idle:
            slot.reap()
