"""What the daily clean-up asks of the database: whose day it is, what is old, and to forget it.

It promises that one caller has a day, whatever the clock does, and that nothing is deleted that has
not ended. How much goes in one transaction, the caller says: others wait for it.
"""

from typing import Iterable, List

from robotni.storage.database import Database
from robotni.storage.statistics import HOUR


class Retention:
    """A part of the store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def is_clean(self, day: str) -> bool:
        """Whether the clean-up of local date `day` has been taken on."""
        row = self._db.sql("SELECT 1 FROM clean_day WHERE day = ?", (day,)).fetchone()
        return row is not None

    def claim_day(self, day: str) -> bool:
        """Whether the caller is the one who cleans up for local date `day`."""
        with self._db.write():
            cursor = self._db.sql("INSERT OR IGNORE INTO clean_day VALUES (?)", (day,))
            self._db.sql(
                "DELETE FROM clean_day WHERE day NOT IN "
                "(SELECT day FROM clean_day ORDER BY day DESC LIMIT 400)"
            )
            return bool(cursor.rowcount == 1)

    def ended_before(self, moment: float, limit: int) -> List[str]:
        """Ids of terminal jobs that finished before `moment`, oldest first."""
        rows = self._db.sql(
            "SELECT job_id FROM job WHERE finished_at < ? ORDER BY finished_at LIMIT ?",
            (moment, limit),
        )
        return [job_id for (job_id,) in rows.fetchall()]

    def delete(self, job_ids: Iterable[str], moment: float) -> None:
        """Deletes terminal jobs, and the counts of attempts from before `moment`."""
        with self._db.write():
            for job_id in job_ids:
                self._db.sql(
                    "DELETE FROM job WHERE job_id = ? AND finished_at IS NOT NULL", (job_id,)
                )
            self._db.sql("DELETE FROM attempt_tally WHERE hour < ?", (int(moment // HOUR) - 48,))
