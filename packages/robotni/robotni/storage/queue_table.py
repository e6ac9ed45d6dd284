"""The table of tickets, which is Huey's: what says that a pending job waits for a thread.

A ticket handed to a thread stays in the table until the job's claim, which takes it along in the
same transaction; so a crash in between loses nothing. It must not know what a ticket looks like;
Huey's side (`tickets.py`) says that.
"""

import threading
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, TypeVar

from robotni.jobs.states import PENDING
from robotni.storage.database import Database

QUEUE = "robotni"
Result = TypeVar("Result")


class Tickets:
    """How a ticket looks; here only its bytes are kept."""

    def encode(self, job_id: str) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Optional[str]:
        """The job id in a ticket; None for anything else that lies in the table."""
        raise NotImplementedError


class TicketTable:
    """The tickets in the table, and which of them threads of this process have."""

    def __init__(self, db: Database, tickets: Tickets) -> None:
        self._db = db
        self._tickets = tickets
        self._handed: Dict[int, Tuple[str, Any]] = {}  # ticket id: (job id, what lies there)
        self._lock = threading.Lock()

    def add(self, job_id: str) -> None:
        """Within a transaction of the caller's."""
        data = self._tickets.encode(job_id)
        self._db.sql("INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)", (QUEUE, data))

    def take(self) -> Optional[bytes]:
        """The oldest ticket that no thread of this process has. What is no ticket of a job's is
        removed at once."""
        with self._lock:
            ticket, job_id, data = self._oldest()
        if ticket is None:
            return None
        if job_id is None:
            with self._db.write():
                self._delete(ticket, data)
        return _bytes(data)

    def _oldest(self) -> Tuple[Optional[int], Optional[str], Any]:
        """(its id, the id of its job, what lies there) of the oldest free ticket, which is handed
        out."""
        handed = list(self._handed)
        row = self._db.sql(
            "SELECT id, data FROM task WHERE queue = ? "
            f"AND id NOT IN ({', '.join('?' * len(handed))}) "
            "ORDER BY priority DESC, id LIMIT 1",
            (QUEUE, *handed),
        ).fetchone()
        if row is None:
            return None, None, None
        ticket, data = row
        job_id = self._tickets.decode(_bytes(data))
        if job_id is not None:
            self._handed[ticket] = (job_id, data)
        return ticket, job_id, data

    def _delete(self, ticket: int, data: Any) -> None:
        """This one; once it is gone, a later one may have its number."""
        self._db.sql("DELETE FROM task WHERE id = ? AND data IS ?", (ticket, data))

    def spend(self, job_id: str, work: Callable[[], Result]) -> Result:
        """Does `work` in a transaction that takes along the tickets handed out for a job. When it
        fails, they are handed out again."""
        with self._lock:
            tickets = {
                ticket: data for ticket, (owner, data) in self._handed.items() if owner == job_id
            }

        try:
            with self._db.write():
                for ticket, data in tickets.items():
                    self._delete(ticket, data)
                return work()
        finally:
            self._take_back(tickets)

    def spend_oldest(self, work: Callable[[Callable[[], Optional[str]]], Result]) -> Result:
        """Does `work` in a transaction; it is given a call that spends the oldest free ticket, for
        the id of its job, or None when there is none. When it fails, that is handed out again."""
        spent: List[int] = []

        def spend() -> "Optional[str]":
            with self._lock:
                ticket, job_id, data = self._oldest()
            if ticket is not None and job_id is not None:
                spent.append(ticket)
                self._delete(ticket, data)
            return job_id

        try:
            with self._db.write():
                return work(spend)
        finally:
            self._take_back(spent)

    def _take_back(self, tickets: Iterable[int]) -> None:
        with self._lock:
            for ticket in tickets:
                self._handed.pop(ticket, None)

    def drop_stale(self, most: int) -> None:
        """Within a transaction of the caller's: those of jobs that are not pending, among the
        oldest `most`; what a thread has, it spends itself."""
        rows = self._db.sql(
            "SELECT id, data FROM task WHERE queue = ? ORDER BY priority DESC, id LIMIT ?",
            (QUEUE, most),
        ).fetchall()
        with self._lock:
            free = {ticket: data for ticket, data in rows if ticket not in self._handed}
        owners = {ticket: self._tickets.decode(_bytes(data)) for ticket, data in free.items()}
        rows = self._db.sql(
            f"SELECT job_id FROM job WHERE job_id IN ({', '.join('?' * len(owners))}) "
            "AND status = ?",
            (*owners.values(), PENDING),
        ).fetchall()
        pending = {job_id for (job_id,) in rows}
        for ticket, job_id in owners.items():
            if job_id is not None and job_id not in pending:
                self._delete(ticket, free[ticket])

    def mend(self) -> int:
        """Writes a ticket for each pending job that has none; how many. Writers wait only where
        one is missing."""
        with self._db.snapshot():
            if not self._missing():
                return 0
        with self._db.write():
            missing = self._missing()
            for job_id in missing:
                self.add(job_id)
        return len(missing)

    def _missing(self) -> List[str]:
        rows = self._db.sql("SELECT data FROM task WHERE queue = ?", (QUEUE,))
        ticketed = {self._tickets.decode(_bytes(data)) for (data,) in rows.fetchall()}
        pending = self._db.sql(
            "SELECT job_id FROM job WHERE status = ? ORDER BY job_id", (PENDING,)
        )
        return [job_id for (job_id,) in pending.fetchall() if job_id not in ticketed]


def _bytes(data: Any) -> bytes:
    """What lies in Huey's column, which SQLite does not keep anybody from filling otherwise."""
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "replace")
