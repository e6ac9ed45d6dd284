"""Who in this worker answers for which run, so that no two threads settle the same one.

A run is minded from before its claim until its row is settled; the sweep leaves minded runs alone.
"""

import threading
import time
from contextlib import contextmanager
from typing import Iterator, Set, Tuple


class InFlight:
    """The runs that threads of this process are responsible for."""

    def __init__(self) -> None:
        self._runs: Set[Tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._last_busy = time.monotonic()

    def __len__(self) -> int:
        with self._lock:
            return len(self._runs)

    def idle_seconds(self) -> float:
        """Seconds since a thread last had a job; 0 while one has."""
        with self._lock:
            if self._runs:
                self._last_busy = time.monotonic()
            return time.monotonic() - self._last_busy

    def mind(self, job_id: str, run: int) -> bool:
        """Takes responsibility for a run; False when another thread has it."""
        with self._lock:
            if (job_id, run) in self._runs:
                return False
            self._runs.add((job_id, run))
            return True

    def unmind(self, job_id: str, run: int) -> None:
        with self._lock:
            self._runs.discard((job_id, run))
            self._last_busy = time.monotonic()

    @contextmanager
    def thread(self) -> "Iterator[Minder]":
        """What one thread minds; nothing of it is left afterwards, whatever happens."""
        minder = Minder(self)
        try:
            yield minder
        finally:
            minder.unmind_all_but()


class Minder:
    """The runs that one thread is responsible for: the one it has, and the next one."""

    def __init__(self, in_flight: InFlight) -> None:
        self._minding = in_flight
        self._runs: Set[Tuple[str, int]] = set()

    def mind(self, job_id: str, run: int) -> bool:
        won = self._minding.mind(job_id, run)
        if won:
            self._runs.add((job_id, run))
        return won

    def unmind(self, job_id: str, run: int) -> None:
        self._runs.discard((job_id, run))
        self._minding.unmind(job_id, run)

    def unmind_all_but(self, *kept: Tuple[str, int]) -> None:
        for key in self._runs.difference(kept):
            self.unmind(*key)
