"""What ended: counted for ever by state and error code, and by when, for the statistics.

`store.py` calls it within its transactions. It promises to read the index `job_ended` only, from
the asked-for moment on, and no row, so the length of the history costs nothing.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from robotni.jobs.models import JobError
from robotni.jobs.states import COMPLETED, FAILED
from robotni.storage.database import Database

HOUR = 3600


class Span(NamedTuple):
    """What ended within span `number`; the seconds are of completed and failed runs."""

    number: int
    jobs: Dict[str, int]
    p50: Optional[float]
    p95: Optional[float]


def count(db: Database, state: str, error: Optional[JobError]) -> None:
    db.sql(
        "INSERT INTO ended_tally VALUES (?, ?, 1) "
        "ON CONFLICT (status, code) DO UPDATE SET jobs = jobs + 1",
        (state, "" if error is None else error.code),
    )


def ever(db: Database) -> List[Tuple[str, str, int]]:
    """(state, error code or "", jobs)."""
    rows = db.sql("SELECT status, code, jobs FROM ended_tally ORDER BY 1, 2").fetchall()
    return [(state, code, jobs) for state, code, jobs in rows]


def spans(db: Database, since: float, width: float) -> List[Span]:
    number = "CAST((finished_at - ?) / ? AS INTEGER)"
    window = "FROM job WHERE finished_at >= ?"
    counts = db.sql(
        f"SELECT {number}, status, count(*) {window} GROUP BY 1, 2", (since, width, since)
    ).fetchall()
    ranks = db.sql(
        "SELECT span, took, place, total FROM ("
        "SELECT span, took, row_number() OVER (PARTITION BY span ORDER BY took) AS place, "
        "count(*) OVER (PARTITION BY span) AS total FROM ("
        f"SELECT {number} AS span, "
        "CASE WHEN status IN (?, ?) THEN finished_at - started_at END AS took "
        f"{window}) WHERE took IS NOT NULL) "
        "WHERE place IN ((total + 1) / 2, (total * 95 + 99) / 100)",
        (since, width, COMPLETED, FAILED, since),
    ).fetchall()
    return _spans(counts, ranks)


def _spans(counts: Iterable[Any], ranks: Iterable[Any]) -> List[Span]:
    """By nearest rank: the p-th of n is the one at place ceil(p n)."""
    jobs: Dict[int, Dict[str, int]] = {}
    for number, state, how_many in counts:
        jobs.setdefault(number, {})[state] = how_many
    took = {
        (number, share): seconds
        for number, seconds, place, total in ranks
        for share in (50, 95)
        if place == (total * share + 99) // 100
    }
    return [Span(n, jobs[n], took.get((n, 50)), took.get((n, 95))) for n in sorted(jobs)]
