"""The store: the rows that are the truth, in one SQLite file. SQL is spoken here and in what lies
below: `listing.py`, `tickettable.py`, `cleanup.py`, `ended.py`, `rows.py`, `schema.py`,
`database.py`.

It promises that a job and its ticket are written in one durable transaction, that every change
of state is one guarded UPDATE whose caller is told whether it won, and that a terminal row never
changes (a trigger holds it). Cost of a job: submit, claim (its ticket goes with it) and finish, a
transaction and an fsync each; the claim goes with the finish before it where jobs wait. It must not
know how a run works, nor who calls.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from robotni.errors import QueueFull
from robotni.jobs.models import Job
from robotni.jobs.outcome import expiry, is_expired
from robotni.jobs.states import PENDING, RUNNING, SCHEDULED, STATES, TERMINAL, TRANSITIONS, WAITING
from robotni.storage import statistics as ended
from robotni.storage.database import Database
from robotni.storage.queries import Filters, find
from robotni.storage.queue_table import Tickets, TicketTable
from robotni.storage.retention import Retention
from robotni.storage.rows import INSERT, SELECT, cells_of, to_cells, to_job

# By their own order. Left alone, SQLite walks through all that wait; and a partial index serves no
# parameter, so the state is written out.
_SCHEDULED = f"job INDEXED BY job_due WHERE status = '{SCHEDULED}'"
_PENDING = f"job INDEXED BY job_expiring WHERE status = '{PENDING}'"
BATCH = 100  # rows changed in one transaction, at most: some milliseconds


class Store:
    """One database file, usable from every thread of a process."""

    def __init__(self, path: Path, tickets: Tickets) -> None:
        self._db = Database(path)
        self._tickets = TicketTable(self._db, tickets)
        self.cleanup = Retention(self._db)

    def close(self) -> None:
        """Closes the connection of the calling thread; others close theirs when they end."""
        self._db.close()

    # submit

    def insert_all(
        self, jobs: Sequence[Job], max_pending: int
    ) -> List[Union[Job, QueueFull, None]]:
        """Stores jobs (and tickets of those that are pending) in one durable transaction.

        Returns for each job, in order: None when it is stored, the earlier job that has the same
        idempotency key, or QueueFull when `max_pending` jobs wait.
        """
        with self._db.write():
            return [self._insert(job, max_pending) for job in jobs]

    def _insert(self, job: Job, max_pending: int) -> Union[Job, QueueFull, None]:
        if job.idempotency_key is not None:
            earlier = self.by_key(job.idempotency_key)
            if earlier is not None:
                return earlier
        if self._waiting() >= max_pending:
            return QueueFull(
                f"{max_pending} jobs wait already; try again later, or raise ROBOTNI_MAX_PENDING"
            )
        self._db.sql(INSERT, cells_of(job))
        if job.status == PENDING:
            self._tickets.add(job.job_id)
        return None

    # read

    def get(self, job_id: str) -> Optional[Job]:
        return self._one("job_id", job_id)

    def by_key(self, key: str) -> Optional[Job]:
        return self._one("idempotency_key", key)

    def _one(self, column: str, value: str) -> Optional[Job]:
        cells = self._db.sql(f"{SELECT} WHERE {column} = ?", (value,)).fetchone()
        return None if cells is None else to_job(cells)

    def list(
        self, filters: Filters, before: Optional[str], limit: int
    ) -> Tuple[List[Job], Optional[str]]:
        """The jobs older than job id `before`, newest first, and the cursor of the next page; see
        `queries.find`."""
        return find(self._db, filters, before, limit)

    def running(self) -> List[Job]:
        rows = self._db.sql(f"{SELECT} WHERE status = ? ORDER BY job_id", (RUNNING,))
        return [to_job(cells) for cells in rows.fetchall()]

    def _waiting(self) -> int:
        row = self._db.sql("SELECT sum(jobs) FROM tally WHERE status IN (?, ?)", tuple(WAITING))
        waiting: int = row.fetchone()[0]
        return waiting

    def counts(self) -> Dict[str, int]:
        """Number of jobs in each state."""
        rows = dict(self._db.sql("SELECT status, jobs FROM tally").fetchall())
        return {state: rows[state] for state in STATES}

    def attempts_since(self, since: float) -> Tuple[int, int]:
        """(attempts started, of these timed out) since the hour of `since`."""
        row = self._db.sql(
            "SELECT coalesce(sum(started), 0), coalesce(sum(timed_out), 0) FROM attempt_tally "
            "WHERE hour >= ?",
            (int(since // ended.HOUR),),
        ).fetchone()
        return row[0], row[1]

    def ended_since(self, since: float, width: float) -> List[ended.Span]:
        """What ended from `since` on, by spans of `width` seconds; empty ones are left out."""
        return ended.spans(self._db, since, width)

    def ended_ever(self) -> List[Tuple[str, str, int]]:
        """(state, error code or "", jobs) of all that ever ended; the clean-up lowers nothing."""
        return ended.ever(self._db)

    def next_due(self) -> Optional[float]:
        """When the next scheduled job is due, seconds since the epoch."""
        return self._least("run_at", _SCHEDULED)

    def oldest_pending(self) -> Optional[float]:
        return self._least("pending_since", _PENDING)

    def _least(self, column: str, waiting: str) -> Optional[float]:
        row = self._db.sql(f"SELECT min({column}) FROM {waiting}").fetchone()
        least: Optional[float] = row[0]
        return least

    # change

    def transition(self, verb: str, job_id: str, run: Optional[int] = None, **columns: Any) -> bool:
        """Moves a job by `verb` of TRANSITIONS and sets `columns`; whether it was in a state
        (and, where given, in the run) that allows it. With it, atomically, goes its ticket."""
        with self._db.write():
            return self._move(verb, job_id, run, columns)

    def _move(
        self, verb: str, job_id: str, run: Optional[int], values: Dict[str, Any], fence: str = ""
    ) -> bool:
        allowed, to = TRANSITIONS[verb]
        cells = to_cells({"status": to, **values})
        guards: Dict[str, Any] = {"job_id": job_id}
        if run is not None:
            guards["run"] = run
        cursor = self._db.sql(
            f"UPDATE job SET {', '.join(f'{name} = ?' for name in cells)} "
            f"WHERE {' AND '.join(f'{name} = ?' for name in guards)} "
            f"AND status IN ({', '.join('?' * len(allowed))}) {fence}",
            [*cells.values(), *guards.values(), *allowed],
        )
        won: bool = cursor.rowcount == 1
        if won and to == PENDING:
            self._tickets.add(job_id)
        if won and to in TERMINAL:
            ended.count(self._db, to, values.get("error"))
        return won

    def claim(self, job_id: str, now: float, run: Optional[int] = None) -> Optional[Job]:
        """Starts the next run and attempt of a job; None when it is not pending, or when that is
        not number `run`; and when it is too late, which fails it. Its ticket is gone either way."""

        def claim() -> "Optional[Job]":
            job = self.get(job_id)
            return None if job is None or run not in (None, job.run + 1) else self._claim(job, now)

        return self._tickets.spend(job_id, claim)

    def _claim(self, job: Job, now: float) -> Optional[Job]:
        if is_expired(job, now):
            late = {"error": expiry(job.expires or 0), "finished_at": now}
            self._move("expire", job.job_id, job.run, late)
            return None
        if job.cancel_requested_at is not None:  # of a run that was released, as it never started
            self._move("cancel", job.job_id, job.run, {"finished_at": now})
            return None
        changes = {
            "run": job.run + 1,
            "attempt": job.attempt + 1,
            "started_at": now,
            "run_at": None,
        }
        if not self._move("claim", job.job_id, job.run, changes):
            return None
        self._count_attempt(now, started=1)
        return job.model_copy(update={**changes, "status": RUNNING})

    def release(self, job: Job, now: float) -> bool:
        """Back to pending a run that provably never started, its attempt given back."""
        with self._db.write():
            columns = {"attempt": job.attempt - 1, "started_at": None, "pending_since": now}
            if not self._move("release", job.job_id, job.run, columns):
                return False
            self._count_attempt(job.started_at or now, started=-1)
            return True

    def settle(self, verb: str, job: Job, timed_out: bool, **columns: Any) -> bool:
        """Ends a run: `verb` fenced by the run and by the cancel that `job` shows or does not;
        and the count of attempts that timed out."""
        with self._db.write():
            return self._settle(verb, job, timed_out, columns)

    def complete_and_claim(
        self,
        verb: str,
        job: Job,
        timed_out: bool,
        clock: Callable[[], float],
        mind: Callable[[str, int], bool],
        **columns: Any,
    ) -> Tuple[bool, Optional[Job]]:
        """`settle` and, when that won, the claim of what waits longest, in one transaction. Nothing
        is claimed when `mind`, called with the job's id and its next run, says no."""

        # In quotes, as annotations of an inner function are made at each call.
        def complete_and_claim(
            spend: "Callable[[], Optional[str]]",
        ) -> "Tuple[bool, Optional[Job]]":
            if not self._settle(verb, job, timed_out, columns):
                return False, None
            oldest = spend()
            waiting = None if oldest is None else self.get(oldest)
            if waiting is None or waiting.status != PENDING:
                return True, None
            if not mind(waiting.job_id, waiting.run + 1):
                return True, None
            return True, self._claim(waiting, clock())  # it may have come while this one waited

        return self._tickets.spend_oldest(complete_and_claim)

    def _settle(self, verb: str, job: Job, timed_out: bool, columns: Dict[str, Any]) -> bool:
        asked = job.cancel_requested_at is not None
        fence = f"AND cancel_requested_at IS {'NOT' if asked else ''} NULL"
        if not self._move(verb, job.job_id, job.run, columns, fence):
            return False
        if timed_out:
            self._count_attempt(job.started_at or job.timestamp, timed_out=1)
        return True

    def due(self, now: float) -> int:
        """Makes pending what is scheduled for now or earlier; how many, at most BATCH."""
        due = (
            f"SELECT job_id, run_at FROM {_SCHEDULED} AND run_at <= ? ORDER BY run_at LIMIT {BATCH}"
        )
        if self._db.sql(due, (now,)).fetchone() is None:
            return 0
        with self._db.write():
            rows = self._db.sql(due, (now,)).fetchall()
            return sum(self._move("due", i, None, {"pending_since": at}) for i, at in rows)

    def expire(self, now: float) -> int:
        """Fails pending jobs that waited longer than they were willing to; how many, at most
        BATCH."""
        late = (
            f"SELECT job_id, expires FROM {_PENDING} AND expires IS NOT NULL "
            f"AND pending_since + expires < ? LIMIT {BATCH}"
        )
        if self._db.sql(late, (now,)).fetchone() is None:
            return 0
        with self._db.write():
            return sum(
                self._move("expire", job_id, None, {"error": expiry(expires), "finished_at": now})
                for job_id, expires in self._db.sql(late, (now,)).fetchall()
            )

    def flush(self, now: float) -> Dict[str, int]:
        """Cancels what waits at this moment; how many were in each state. BATCH in a transaction,
        so that other writers get their turn."""
        counts = {SCHEDULED: 0, PENDING: 0}
        waiting = self._db.sql(
            "SELECT job_id, status FROM job WHERE status IN (?, ?)", (SCHEDULED, PENDING)
        ).fetchall()
        for first in range(0, len(waiting), BATCH):
            with self._db.write():
                for job_id, status in waiting[first : first + BATCH]:
                    counts[status] += self._move("cancel", job_id, None, {"finished_at": now})
        return counts

    def _count_attempt(self, at: float, started: int = 0, timed_out: int = 0) -> None:
        hour = int(at // ended.HOUR)
        self._db.sql(
            "INSERT INTO attempt_tally (hour, started, timed_out) VALUES (?1, ?2, ?3) ON CONFLICT "
            "(hour) DO UPDATE SET started = started + ?2, timed_out = timed_out + ?3",
            (hour, started, timed_out),
        )

    # tickets

    def take_ticket(self) -> Optional[bytes]:
        """The oldest ticket that no thread of this process has; its claim removes it."""
        return self._tickets.take()

    def drop_ticket(self, job_id: str) -> None:
        """Removes the tickets handed out for a job that is not to be claimed, and of others that
        are not pending any more; BATCH at most."""
        self._tickets.spend(job_id, lambda: self._tickets.drop_stale(BATCH))

    def add_ticket(self, job_id: str) -> None:
        """Writes a ticket for a job, in the place of one handed out."""
        self._tickets.spend(job_id, lambda: self._tickets.add(job_id))

    def mend_tickets(self) -> int:
        """Writes a ticket for each pending job that has none; how many."""
        return self._tickets.mend()

    def faults(self) -> List[str]:
        """What SQLite finds wrong with the file; reads all of it."""
        rows = self._db.sql("PRAGMA integrity_check").fetchall()
        return [text for (text,) in rows if text != "ok"]

    def shrink_log(self) -> None:
        """Empties the write-ahead log where steady readers let it grow."""
        self._db.shrink_log()
