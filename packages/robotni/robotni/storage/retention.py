"""The rows that the daily clean-up reads and deletes; a part of the store.

It promises that of several callers one may clean up for a date, and that only jobs that have ended
are deleted. It must not know how long jobs are kept, nor of their files. Other writers wait while
`delete` runs, so the caller passes it few jobs at a time.
"""

from typing import Iterable, List

from robotni.storage.database import Database
from robotni.storage.statistics import HOUR

KEPT_DAYS = 400  # dates whose claim is remembered
KEPT_HOURS = 48  # counts of attempts are kept this much longer than jobs: the status covers 24


class Retention:
    """Dates are local, as `2026-11-22`; moments are seconds since the epoch."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def is_day_claimed(self, day: str) -> bool:
        """Whether the clean-up for the date `day` has been claimed."""
        row = self._db.sql("SELECT 1 FROM clean_day WHERE day = ?", (day,)).fetchone()
        return row is not None

    def claim_day(self, day: str) -> bool:
        """Claims the clean-up for the date `day`; whether the caller is the first to do so."""
        with self._db.write():
            cursor = self._db.sql("INSERT OR IGNORE INTO clean_day VALUES (?)", (day,))
            self._db.sql(
                "DELETE FROM clean_day WHERE day NOT IN "
                f"(SELECT day FROM clean_day ORDER BY day DESC LIMIT {KEPT_DAYS})"
            )
            return bool(cursor.rowcount == 1)

    def ended_before(self, moment: float, limit: int, skip: int = 0) -> List[str]:
        """Ids of jobs that ended before `moment`, oldest end first, less the first `skip`."""
        rows = self._db.sql(
            "SELECT job_id FROM job WHERE finished_at < ? ORDER BY finished_at LIMIT ? OFFSET ?",
            (moment, limit, skip),
        )
        return [job_id for (job_id,) in rows.fetchall()]

    def delete_ended(self, job_ids: Iterable[str], moment: float) -> None:
        """Deletes jobs that have ended, and the counts of attempts well before `moment`."""
        with self._db.write():
            for job_id in job_ids:
                self._db.sql(
                    "DELETE FROM job WHERE job_id = ? AND finished_at IS NOT NULL", (job_id,)
                )
            oldest_hour = int(moment // HOUR) - KEPT_HOURS
            self._db.sql("DELETE FROM attempt_tally WHERE hour < ?", (oldest_hour,))
