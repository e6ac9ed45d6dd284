"""Statistics for charts: how many jobs ended, and how long they took, in the last hour or day.

They are counted from the rows, so a restart loses nothing. A result is cached for MIN_CACHE
seconds, or for CACHE_FACTOR times as long as it took to count: however many clients ask, and
however long the history is, counting takes at most a twentieth of the time.
"""

import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple

from robotni.jobs.models import rfc3339
from robotni.jobs.states import CANCELLED, COMPLETED, FAILED
from robotni.storage.statistics import Bucket
from robotni.storage.store import Store

MIN_CACHE = 5.0  # seconds
CACHE_FACTOR = 20


class Window(NamedTuple):
    bucket_seconds: int
    bucket_count: int


WINDOWS = {"1h": Window(60, 60), "24h": Window(1800, 48)}


class _Cached(NamedTuple):
    buckets: List[Dict[str, Any]]
    expires_at: float  # of the monotonic clock


class Stats:
    """The statistics of one database. `clock` returns the time in seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: Dict[str, _Cached] = {}

    def buckets(self, window: str) -> List[Dict[str, Any]]:
        """The buckets of a window (`1h`, `24h`), empty ones included, the oldest first; the last
        one is not over yet. While one thread counts, the others get the expired result, if there
        is one."""
        cached = self._cache.get(window)
        if cached is not None and time.monotonic() < cached.expires_at:
            return cached.buckets
        if not self._lock.acquire(blocking=cached is None) and cached is not None:
            return cached.buckets
        try:
            cached = self._cache.get(window)
            if cached is None or time.monotonic() >= cached.expires_at:
                cached = self._cache[window] = self._count(WINDOWS[window])
            return cached.buckets
        finally:
            self._lock.release()

    def _count(self, window: Window) -> _Cached:
        began = time.monotonic()
        seconds, count = window
        first = (int(self._clock() // seconds) - count + 1) * seconds
        ended = {bucket.number: bucket for bucket in self._store.ended_buckets(first, seconds)}
        buckets = [
            _bucket(first + n * seconds, ended.get(n, Bucket(n, {}, None, None)))
            for n in range(count)
        ]
        done = time.monotonic()
        return _Cached(buckets, done + max(MIN_CACHE, CACHE_FACTOR * (done - began)))


def _bucket(start: float, ended: Bucket) -> Dict[str, Any]:
    return {
        "start": rfc3339(start),
        **{state: ended.jobs.get(state, 0) for state in (COMPLETED, FAILED, CANCELLED)},
        "p50Seconds": None if ended.p50 is None else round(ended.p50, 3),
        "p95Seconds": None if ended.p95 is None else round(ended.p95, 3),
    }
