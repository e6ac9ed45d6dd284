"""The times of this process's answers, counted in buckets until somebody asks for the metrics.

Here, and not where Prometheus's text is made (`metrics.py`), since most servers are never asked.
"""

from bisect import bisect_left
from typing import Dict, Iterator, List, Tuple

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "DELETE", "OPTIONS"))


class Answers:
    """By method and class of status, such as 2xx: how many took at most so long, and the sum."""

    def __init__(self) -> None:
        self._found: Dict[Tuple[str, str], Tuple[List[int], List[float]]] = {}

    def observe(self, method: str, status: int, seconds: float) -> None:
        method = method if method in _METHODS else "other"
        key = (method, f"{status // 100}xx")
        counts, total = self._found.setdefault(key, ([0] * (len(SECONDS) + 1), [0.0]))
        counts[bisect_left(SECONDS, seconds)] += 1
        total[0] += seconds

    def __iter__(self) -> Iterator[Tuple[Tuple[str, str], List[int], float]]:
        """((method, class of status), answers in each bucket and beyond the last, the seconds)."""
        for key, (counts, total) in list(self._found.items()):
            yield key, list(counts), total[0]
