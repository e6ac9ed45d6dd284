"""The processes of a run: those whose shim is gone, found and killed; a shim that is stopped. Linux
only.

A shim kills all processes of a run at its end. Only when the shim itself was killed may some be
left, and recovery kills them here. They are known by the mark that the shim gave them, a soft
RLIMIT_RTTIME with a value of its own, or by the run's result file in their environment; a process
that has changed both is not found.
"""

import os
import signal
import time
from pathlib import Path
from typing import Iterable, Iterator, List

from robotni.shim.processes import LEAST_MARK

EMPTY_SCANS = 5  # in a row; one scan may miss a tree that forks and exits all the time
NEWEST = 64  # pids


class OrphanedProcesses:
    """The processes that carry one of `marks`, or whose ROBOTNI_RESULT is the file `result`.

    Of that path the last three parts count (job id, run, name), as the data directory may have
    several paths. Other variables do not count: another job may be given the file as its input.
    """

    def __init__(self, marks: Iterable[object], result: str) -> None:
        known = [mark for mark in marks if isinstance(mark, int) and mark >= LEAST_MARK]
        self._limits = [str(mark).encode() for mark in known]
        self._file = "/".join(["", *result.split("/")[-3:]]).encode()

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
        limits = _read(f"/proc/{pid}/limits")
        return any(limit in limits for limit in self._limits) or any(
            variable.startswith(b"ROBOTNI_RESULT=") and variable.endswith(self._file)
            for variable in _environ(pid).split(b"\0")
        )


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


def _environ(pid: int) -> bytes:
    """When the first thread has exited, only another thread shows the environment."""
    return _read(f"/proc/{pid}/environ") or next(
        filter(None, (_read(f"{thread}/environ") for thread in other_threads(pid))), b""
    )


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
