"""The worker lock: one worker for a data directory, and the version of the one that lives.

The worker that holds the lock has its version in the lock file; what stands there counts only while
the lock is held. A newer worker asks an older one to leave, never the other way round, and one that
was started by hand asks any. Also here: what the worker reports of its standby interpreters.
"""

import json
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from robotni import __version__
from robotni.system.datadir import DataDir
from robotni.system.locks import is_locked, take_lock
from robotni.system.wakeup import notify

NO_INTERPRETERS = {"interpreters": 0, "memoryBytes": 0}
_POLL_SECONDS = 0.05
_MAX_VERSION = 64  # bytes


def take(
    datadir: DataDir, takes_over: bool, timeout: float, take_over_timeout: float
) -> Optional[int]:
    """The descriptor that holds the lock; None when another worker keeps it.

    With `takes_over`, or when it is older, the other worker is asked to leave, and has
    `take_over_timeout` seconds for it. Otherwise the lock is waited for `timeout` seconds, since
    the other worker may be leaving.
    """
    began = time.monotonic()
    while True:
        lock = take_lock(datadir.worker_lock)
        if lock is not None:
            _write_version(lock)
            return lock
        asks = takes_over or has_older_worker(datadir)
        if time.monotonic() - began > (take_over_timeout if asks else timeout):
            return None
        if asks:
            notify(datadir.stop_worker)
        time.sleep(_POLL_SECONDS)


def _write_version(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{__version__}\n".encode(), 0)


def let_go(lock: int) -> None:
    """Releases the lock. The version is erased, so that it is not taken for the next worker's."""
    os.ftruncate(lock, 0)
    os.close(lock)


def holder(datadir: DataDir) -> Optional[str]:
    """The version of the worker that lives, empty until it has written it; None when none lives."""
    if not is_locked(datadir.worker_lock):
        return None
    with open(datadir.worker_lock, "rb") as file:
        return file.read(_MAX_VERSION).decode("ascii", "replace").strip()


def has_older_worker(datadir: DataDir) -> bool:
    """Whether a worker lives whose version is older than this one."""
    version = holder(datadir)
    return bool(version) and age(version or "") < age(__version__)


def age(version: str) -> Tuple[Tuple[int, ...], bool, str, Tuple[int, ...]]:
    """A key to sort versions by, the oldest first: `0.9` < `0.10.0rc1` < `0.10.0`. A text that is
    not a version comes before them all."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)(.*)", version, re.ASCII | re.DOTALL)
    if match is None:
        return (), False, "", ()
    release = [int(number) for number in match[1].split(".")]
    while release and release[-1] == 0:
        release.pop()
    suffix = match[2].split("+")[0]  # what follows a plus is the name of a build
    pre = re.match(r"[._-]?(a|b|c|rc|alpha|beta|pre|dev)", suffix)
    stage = pre[1].replace("dev", "") if pre else ""
    return tuple(release), pre is None, stage, tuple(int(n) for n in re.findall(r"\d+", suffix))


def read_report(path: Path) -> Dict[str, int]:
    """How many standby interpreters the worker has, and their memory, a few seconds ago."""
    try:
        interpreters: List[Dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError):  # there was no worker with any yet
        return dict(NO_INTERPRETERS)
    return {
        "interpreters": len(interpreters),
        "memoryBytes": sum(one["memoryBytes"] for one in interpreters),
    }
