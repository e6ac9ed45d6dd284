"""The worker lock: who may be the one worker of a data directory, and which version holds it.

Whoever holds the lock has written its version into the locked file; a version in a file that
nobody holds says nothing. A newer worker sends an older one away, never the other way round; a
worker of the first release wrote no version and counts as older than any.
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
_LOOK_EVERY = 0.05
_LONGEST = 64  # bytes of a version


def take(
    datadir: DataDir, takes_over: bool, patience: float, take_over_within: float
) -> Optional[int]:
    """The descriptor that holds the lock, signed; None while another worker stays.

    A worker that `takes_over`, or is newer than the one there, asks it to leave. Whoever has only
    just taken the lock has not signed yet: it is older when it looks so twice.
    """
    began = time.monotonic()
    older = False
    while True:
        lock = take_lock(datadir.worker_lock)
        if lock is not None:
            _sign(lock)
            return lock
        before, older = older, has_older_worker(datadir)
        sends_away = takes_over or (before and older)
        if time.monotonic() - began > (take_over_within if sends_away else patience):
            return None
        if sends_away:
            notify(datadir.stop_worker)
        time.sleep(_LOOK_EVERY)


def let_go(lock: int) -> None:
    """Frees the lock; the version goes with it, lest a worker that writes none is taken for us."""
    os.ftruncate(lock, 0)
    os.close(lock)


def holder(datadir: DataDir) -> Optional[str]:
    """The version of the worker that lives, empty when it wrote none; None when none lives."""
    if not is_locked(datadir.worker_lock):
        return None
    with open(datadir.worker_lock, "rb") as file:
        return file.read(_LONGEST).decode("ascii", "replace").strip()


def has_older_worker(datadir: DataDir) -> bool:
    """Whether a worker lives that is older than this robotni."""
    version = holder(datadir)
    return version is not None and age(version) < age(__version__)


def _sign(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{__version__}\n".encode(), 0)


def age(version: str) -> Tuple[Tuple[int, ...], bool, str, Tuple[int, ...]]:
    """Sorts versions: `0.9` < `0.10.0rc1` < `0.10.0`; what is no version is older than any."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)(.*)", version, re.ASCII | re.DOTALL)
    if match is None:
        return (), False, "", ()
    release = [int(number) for number in match[1].split(".")]
    while release and release[-1] == 0:
        release.pop()
    rest = match[2].split("+")[0]  # what follows a plus names a build, not an age
    before = re.match(r"[._-]?(a|b|c|rc|alpha|beta|pre|dev)", rest)
    stage = before[1].replace("dev", "") if before else ""
    return tuple(release), before is None, stage, tuple(int(n) for n in re.findall(r"\d+", rest))


def read_report(path: Path) -> Dict[str, int]:
    """How many warm interpreters the worker has, and their memory; a few seconds old."""
    try:
        figures: List[Dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError):  # it has none yet
        return dict(NO_INTERPRETERS)
    return {
        "interpreters": len(figures),
        "memoryBytes": sum(figure["memoryBytes"] for figure in figures),
    }
