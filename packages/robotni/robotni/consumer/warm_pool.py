"""The warm pool: shims that have a standby interpreter ready for the next run of its recipe.

A standby interpreter is started ahead by the venv's own Python, has imported the modules to
preload, and becomes one run: nothing is shared between runs. A run never depends on one: where none
is ready it runs cold, at once. The pool holds at most `limit`; the least recently used goes first.
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from robotni.consumer.launch import Recipe
from robotni.consumer.shim_pool import ShimProcess, close_all

REPORT_EVERY = 5.0  # seconds

# What a script can notice of a warm run, for the docs and for `robotni doctor`.
DIFFERENCES: Tuple[str, ...] = (
    "preloaded modules are imported before the run: what they read at import (the time, sys.argv, "
    "ROBOTNI_ variables) is of that moment, and what they print comes first in the output",
    "ps, /proc/self/cmdline and /proc/self/environ show how the standby interpreter was started",
    "peak memory (ru_maxrss) and gc.get_freeze_count() include the preloaded modules",
)


class Standby(NamedTuple):
    recipe: Recipe
    shim: ShimProcess
    since: float  # of the monotonic clock


class WarmPool:
    """The standby interpreters of one worker. Their number and memory go to the file `report`."""

    def __init__(self, limit: int, idle_exit: float, report: Path) -> None:
        self._limit = limit
        self._idle_exit = idle_exit
        self._report = report
        self._idle: List[Standby] = []  # the most recently used is last
        self._lock = threading.Lock()
        self._reported: Tuple[List[int], float] = ([], 0.0)

    def take(self, recipe: Optional[Recipe]) -> Optional[ShimProcess]:
        """A shim with a standby interpreter of this recipe; None where there is none."""
        with self._lock:
            for standby in reversed(self._idle):
                if standby.recipe == recipe:
                    self._idle.remove(standby)
                    if standby.shim.is_alive():
                        return standby.shim
                    standby.shim.close()
        return None

    def keep(self, recipe: Recipe, shim: ShimProcess) -> bool:
        """Has an idle shim prepare a standby interpreter and keeps it; False when it cannot."""
        if self._limit == 0 or shim.has_run or not shim.is_alive():
            return False
        if not shim.prepare_standby(recipe.message()):
            return False
        with self._lock:
            self._idle.append(Standby(recipe, shim, time.monotonic()))
            surplus = self._idle[: -self._limit]
            del self._idle[: -self._limit]
        close_all([standby.shim for standby in surplus])
        return True

    def prune(self) -> None:
        """Ends standby interpreters that were idle for IDLE_EXIT seconds, and writes the report."""
        now = time.monotonic()
        with self._lock:
            old = [s for s in self._idle if 0 < self._idle_exit < now - s.since]
            self._idle = [s for s in self._idle if s not in old]
            pids = [standby.shim.pid for standby in self._idle]
        close_all([standby.shim for standby in old])
        reported, at = self._reported
        if pids != reported or (pids and now - at > REPORT_EVERY):
            self._write_report(pids)
            self._reported = (pids, now)

    def _write_report(self, shim_pids: List[int]) -> None:
        """By renaming, so that the web process reads the old figures or the new."""
        figures = [{"pid": pid, "memoryBytes": _memory_with_children(pid)} for pid in shim_pids]
        draft = self._report.with_suffix(".tmp")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(figures, file)
            draft.replace(self._report)
        except OSError:  # a full disk; the figures are of no importance
            pass

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        close_all([standby.shim for standby in idle])
        self._write_report([])


def _memory_with_children(pid: int) -> int:
    """Bytes (PSS, in which a page of several processes counts in part) of a shim and its standby
    interpreter; 0 where the system does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended, or this is not Linux
        return 0
    return _memory(pid) + sum(_memory(int(child)) for child in children)


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended
        return 0
    figures: Dict[str, Any] = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    return int(figures.get("Pss", "0 kB").split()[0]) * 1024
