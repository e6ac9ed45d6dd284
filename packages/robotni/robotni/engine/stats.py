"""The statistics: what ended in the last hour or day, in spans that charts can draw.

Counted from the rows by when they finished, so a restart forgets nothing. An answer is kept for
five seconds, or for twenty times as long as it took to count: however many pages look and however
much ended, counting takes a twentieth of the time at most.
"""

import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple

from robotni.jobs.models import rfc3339
from robotni.jobs.states import CANCELLED, COMPLETED, FAILED
from robotni.storage.statistics import Bucket
from robotni.storage.store import Store

FRESH = 5.0
SHARE = 20
# window -> (seconds of a bucket, how many)
WINDOWS = {"1h": (60, 60), "24h": (1800, 48)}


class _Counted(NamedTuple):
    buckets: List[Dict[str, Any]]
    until: float  # of the monotonic clock


class Stats:
    """Both windows over one store. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._counted: Dict[str, _Counted] = {}

    def buckets(self, window: str) -> List[Dict[str, Any]]:
        """Oldest first, the last one still filling; those in which nothing ended are there too.

        While one thread counts, the others take what was counted before, where there is any."""
        counted = self._counted.get(window)
        if counted is not None and time.monotonic() < counted.until:
            return counted.buckets
        if not self._lock.acquire(blocking=counted is None) and counted is not None:
            return counted.buckets
        try:
            counted = self._counted.get(window)
            if counted is None or time.monotonic() >= counted.until:
                counted = self._counted[window] = self._count(*WINDOWS[window])
            return counted.buckets
        finally:
            self._lock.release()

    def _count(self, width: int, how_many: int) -> _Counted:
        began = time.monotonic()
        first = (int(self._clock() // width) - how_many + 1) * width
        ended = {s.number: s for s in self._store.ended_buckets(first, width)}
        buckets = [
            _bucket(first + n * width, ended.get(n, Bucket(n, {}, None, None)))
            for n in range(how_many)
        ]
        ready = time.monotonic()
        return _Counted(buckets, ready + max(FRESH, SHARE * (ready - began)))


def _bucket(start: float, ended: Bucket) -> Dict[str, Any]:
    return {
        "start": rfc3339(start),
        **{state: ended.jobs.get(state, 0) for state in (COMPLETED, FAILED, CANCELLED)},
        "p50Seconds": None if ended.p50 is None else round(ended.p50, 3),
        "p95Seconds": None if ended.p95 is None else round(ended.p95, 3),
    }
