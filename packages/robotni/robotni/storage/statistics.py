"""What ended: totals by state and error code, which no clean-up lowers, and figures over time.

The figures of a period read the index `job_ended` from the beginning of the period on and no row,
so the length of the history costs nothing. `count` belongs into the transaction that ends a job.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from robotni.jobs.models import JobError
from robotni.jobs.states import COMPLETED, FAILED
from robotni.storage.database import Database

HOUR = 3600


class Bucket(NamedTuple):
    """What ended in one span of time. `jobs` counts by state; `p50` and `p95` are the seconds that
    completed and failed runs took, None when there were none."""

    number: int
    jobs: Dict[str, int]
    p50: Optional[float]
    p95: Optional[float]


def count_ended(db: Database, state: str, error: Optional[JobError]) -> None:
    """Adds a job that ended to the totals."""
    db.sql(
        "INSERT INTO ended_tally VALUES (?, ?, 1) "
        "ON CONFLICT (status, code) DO UPDATE SET jobs = jobs + 1",
        (state, "" if error is None else error.code),
    )


def totals(db: Database) -> List[Tuple[str, str, int]]:
    """The totals: (state, error code or "", number of jobs)."""
    rows = db.sql("SELECT status, code, jobs FROM ended_tally ORDER BY 1, 2").fetchall()
    return [(state, code, jobs) for state, code, jobs in rows]


def buckets(db: Database, since: float, width: float) -> List[Bucket]:
    """What ended at `since` or later, in spans of `width` seconds that are numbered from there;
    a span in which nothing ended is left out."""
    number = "CAST((finished_at - ?) / ? AS INTEGER)"
    ended = "FROM job WHERE finished_at >= ?"
    counts = db.sql(
        f"SELECT {number}, status, count(*) {ended} GROUP BY 1, 2", (since, width, since)
    ).fetchall()
    ranks = db.sql(
        "SELECT span, seconds, rank, total FROM ("
        "SELECT span, seconds, row_number() OVER (PARTITION BY span ORDER BY seconds) AS rank, "
        "count(*) OVER (PARTITION BY span) AS total FROM ("
        f"SELECT {number} AS span, "
        "CASE WHEN status IN (?, ?) THEN finished_at - started_at END AS seconds "
        f"{ended}) WHERE seconds IS NOT NULL) "
        "WHERE rank IN ((total * 50 + 99) / 100, (total * 95 + 99) / 100)",
        (since, width, COMPLETED, FAILED, since),
    ).fetchall()
    return _buckets(counts, ranks)


def _buckets(counts: Iterable[Any], ranks: Iterable[Any]) -> List[Bucket]:
    """Percentiles are by nearest rank: of n values the p-th is the one at rank ceil(n p / 100)."""
    jobs: Dict[int, Dict[str, int]] = {}
    for number, state, ended in counts:
        jobs.setdefault(number, {})[state] = ended
    percentiles = {
        (number, percent): seconds
        for number, seconds, rank, total in ranks
        for percent in (50, 95)
        if rank == (total * percent + 99) // 100
    }
    return [
        Bucket(number, jobs[number], percentiles.get((number, 50)), percentiles.get((number, 95)))
        for number in sorted(jobs)
    ]
