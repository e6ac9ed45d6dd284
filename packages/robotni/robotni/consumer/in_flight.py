"""The jobs in flight: those that threads of this worker run, adopt or recover right now.

A job is in flight from before its claim until its row is written, so no two threads handle one,
and recovery leaves it alone.
"""

import threading
import time
from typing import Dict, List


class InFlight:
    """Job ids, each with the thread that added it."""

    def __init__(self) -> None:
        self._threads: Dict[str, int] = {}
        self._lock = threading.Lock()
        self._last_busy = time.monotonic()

    def __len__(self) -> int:
        with self._lock:
            return len(self._threads)

    def ids(self) -> List[str]:
        with self._lock:
            return list(self._threads)

    def add(self, job_id: str) -> bool:
        """Whether the job is the calling thread's now; False while another thread has it."""
        with self._lock:
            return self._threads.setdefault(job_id, threading.get_ident()) == threading.get_ident()

    def remove(self, job_id: str) -> None:
        with self._lock:
            self._threads.pop(job_id, None)
            self._last_busy = time.monotonic()

    def idle_seconds(self) -> float:
        """Seconds since a job was last in flight; 0 while one is."""
        with self._lock:
            if self._threads:
                self._last_busy = time.monotonic()
            return time.monotonic() - self._last_busy
