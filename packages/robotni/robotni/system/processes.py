"""OrphanedProcesses: the processes of a run whose shim is gone, and their end. Linux only.

They are found by the mark that the shim gave them, or by the run's own file in their environment;
who has shaken off both is not found.
"""

import os
import signal
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator, List

from robotni.shim.processes import LEAST_MARK

QUIET_LOOKS = 5  # one look may miss what ends and forks anew every moment
YOUNG = 64


class OrphanedProcesses:
    """What carries one of `marks`, or was told to write its result to the file `result`.

    Of the file its own name, its run and its job count, as the folder of all jobs may be known by
    several names. No other variable counts: another job may have been told of the file by name.
    """

    def __init__(self, marks: Iterable[object], result: str) -> None:
        known = [mark for mark in marks if isinstance(mark, int) and mark >= LEAST_MARK]
        self._limits = [str(mark).encode() for mark in known]
        self._file = "/".join(["", *result.split("/")[-3:]]).encode()

    def are_there(self) -> bool:
        """Whether there is any; one look, which may miss what ends and forks anew."""
        return any(self._has(pid) and not _is_dead(pid) for pid in _pids())

    def kill(self, patience: float = 10.0) -> bool:
        """Ends them; whether none is left."""
        give_up = time.monotonic() + patience
        quiet = 0
        while quiet < QUIET_LOOKS and time.monotonic() < give_up:
            quiet = 0 if _kill_seen(self._has) else quiet + 1
            time.sleep(0.002)
        return quiet == QUIET_LOOKS

    def _has(self, pid: int) -> bool:
        limits = _read(f"/proc/{pid}/limits")
        return any(limit in limits for limit in self._limits) or any(
            variable.startswith(b"ROBOTNI_RESULT=") and variable.endswith(self._file)
            for variable in _environ(pid).split(b"\0")
        )


def _kill_seen(is_of_it: Callable[[int], bool]) -> bool:
    """Kills as it looks: what ends and forks anew every moment is gone after the look."""
    seen = False
    for pid in _pids():
        if is_of_it(pid) and not _is_dead(pid):
            seen = True
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # gone, or of another user
                pass
    return seen


def _pids() -> Iterator[int]:
    """The youngest first, without the time that listing all of them takes."""
    try:
        youngest = int(Path("/proc/loadavg").read_text().split()[-1])
        yield from range(youngest + 2, max(1, youngest - YOUNG), -1)
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())
    except FileNotFoundError:  # no /proc on this system
        return


def _environ(pid: int) -> bytes:
    """Of a process whose first thread has ended, another one has it still."""
    return _read(f"/proc/{pid}/environ") or next(
        filter(None, (_read(f"{thread}/environ") for thread in other_threads(pid))), b""
    )


def _is_dead(pid: int) -> bool:
    """Whether it waits to be collected; not if only its first thread has ended."""
    stat = _read(f"/proc/{pid}/stat")
    is_zombie = not stat or stat[stat.rindex(b")") + 2 :][:1] in (b"Z", b"X")
    return is_zombie and not other_threads(pid)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # gone since the listing, or of another user
        return b""


def other_threads(pid: int) -> List[str]:
    """The folders in /proc of all threads of a process but its first, with which it need not end;
    none on other systems than Linux."""
    folder = f"/proc/{pid}/task"
    try:
        return [f"{folder}/{thread}" for thread in os.listdir(folder) if thread != str(pid)]
    except OSError:  # gone
        return []
