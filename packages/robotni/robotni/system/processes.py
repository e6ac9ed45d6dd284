"""The processes of a run: those whose shim is gone, found and killed; a shim that is stopped. Linux
only.

A shim kills all processes of a run at its end. Only when the shim itself was killed may some be
left, and recovery kills them here. They are known by the mark that the shim gave them, a soft
RLIMIT_RTTIME with a value of its own; a process that has changed it is not found.
"""

import os
import signal
import time
from pathlib import Path
from typing import Iterator, List

EMPTY_SCANS = 5  # in a row; one scan may miss a tree that forks and exits all the time
NEWEST = 64  # pids


class OrphanedProcesses:
    """The processes that carry the mark of a run."""

    def __init__(self, mark: int) -> None:
        self._limit = str(mark).encode()

    def are_there(self) -> bool:
        """Whether one scan finds any; it may miss a tree that forks and exits all the time."""
        return any(self._includes(pid) and not _is_dead(pid) for pid in _pids())

    def kill(self, timeout: float = 10.0) -> bool:
        """Sends SIGKILL to them until none is left; False when some still are after `timeout`."""
        deadline = time.monotonic() + timeout
        empty_scans = 0
        while empty_scans < EMPTY_SCANS and time.monotonic() < deadline:
            empty_scans = 0 if self._kill_found() else empty_scans + 1
            time.sleep(0.002)
        return empty_scans == EMPTY_SCANS

    def _kill_found(self) -> bool:
        """Kills each at once: by the end of the scan it may have forked and exited."""
        found = False
        for pid in _pids():
            if self._includes(pid) and not _is_dead(pid):
                found = True
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):  # gone, or of another user
                    pass
        return found

    def _includes(self, pid: int) -> bool:
        return self._limit in _read(f"/proc/{pid}/limits")


def continue_marked(pid: object, mark: int) -> None:
    """Sends SIGCONT to a process that carries `mark`. A pid that comes from a file proves nothing,
    so that of any other process is left alone."""
    if isinstance(pid, int) and pid > 1 and str(mark).encode() in _read(f"/proc/{pid}/limits"):
        try:
            os.kill(pid, signal.SIGCONT)
        except (ProcessLookupError, PermissionError):  # gone, or of another user
            pass


def _pids() -> Iterator[int]:
    """The newest first, before the time that it takes to list all."""
    try:
        newest = int(Path("/proc/loadavg").read_text().split()[-1])
        yield from range(newest + 2, max(1, newest - NEWEST), -1)
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())
    except FileNotFoundError:  # no /proc on this system
        return


def _is_dead(pid: int) -> bool:
    """Whether it is gone, or a zombie. It also looks like a zombie when only its first thread has
    exited."""
    stat = _read(f"/proc/{pid}/stat")
    looks_dead = not stat or stat[stat.rindex(b")") + 2 :][:1] in (b"Z", b"X")
    return looks_dead and not other_threads(pid)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # gone since the listing, or of another user
        return b""


def other_threads(pid: int) -> List[str]:
    """The folders in /proc of all threads of a process but its first, which may exit before them;
    empty on systems other than Linux."""
    folder = f"/proc/{pid}/task"
    try:
        return [f"{folder}/{thread}" for thread in os.listdir(folder) if thread != str(pid)]
    except OSError:  # gone
        return []
