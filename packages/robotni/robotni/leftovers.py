"""Leftovers: the processes of a run whose shim is gone, and their end. Linux only.

They are found by the mark that the shim gave them, or by the run's own name in their environment;
who has shaken off both is not found.
"""

import os
import signal
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

from robotni.census import other_threads

QUIET_LOOKS = 5  # one look may miss what ends and forks anew every moment
YOUNG = 64


def kill_left(mark: Optional[int], result: str, patience: float = 10.0) -> bool:
    """Kills what carries the `mark` of a run, where that is known, or was told to write its result
    to the file `result`; whether nothing is left. Of the file its own name, its run and its job
    count, as the folder of all jobs may be known by several names. No other variable counts:
    another job may have been told of the file by name."""
    limit = b"" if mark is None else str(mark).encode()
    name = "/".join(["", *result.split("/")[-3:]]).encode()

    def is_of_it(pid: int) -> bool:
        return bool(limit and limit in _read(f"/proc/{pid}/limits")) or any(
            variable.startswith(b"ROBOTNI_RESULT=") and variable.endswith(name)
            for variable in _environ(pid).split(b"\0")
        )

    give_up = time.monotonic() + patience
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() < give_up:
        quiet = 0 if _kill_seen(is_of_it) else quiet + 1
        time.sleep(0.002)
    return quiet == QUIET_LOOKS


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
