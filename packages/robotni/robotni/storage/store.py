"""The store: the job rows, which are the truth, in one SQLite file.

It promises that a job it has accepted is durable, that every change of state is one guarded UPDATE
whose caller is told whether it won, and that a row that has ended never changes (a trigger holds
it). The queue is not stored a second time: it is the pending rows, the longest waiting first.
A job costs three durable transactions: submit, claim, complete; two where the next job is claimed
in the transaction that completes the one before. The store does not know how a run works.
"""

from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple, Union

from robotni.errors import QueueFull
from robotni.jobs.models import SHORTEST_ID, Job
from robotni.jobs.outcome import expiry, is_expired
from robotni.jobs.states import (
    PENDING,
    RUNNING,
    SCHEDULED,
    STATES,
    TERMINAL,
    TRANSITIONS,
    WAITING,
)
from robotni.storage import statistics
from robotni.storage.database import Database
from robotni.storage.queries import Filters, find
from robotni.storage.retention import Retention
from robotni.storage.rows import INSERT, SELECT, cells_of, to_cells, to_job
from robotni.storage.run_files import RunFiles
from robotni.system.datadir import DataDir

# The index is named, or SQLite would read all jobs that wait; and the state is written out, since
# a partial index does not serve a parameter.
_SCHEDULED = f"job INDEXED BY job_due WHERE status = '{SCHEDULED}'"
_PENDING = f"job INDEXED BY job_expiring WHERE status = '{PENDING}'"
IDS_ENDING_IN = (
    f"SELECT job_id FROM job WHERE substr(job_id, -{SHORTEST_ID}) = substr(?1, -{SHORTEST_ID}) "
    "AND substr(job_id, -length(?1)) = ?1 ORDER BY job_id DESC LIMIT ?2"
)
BATCH = 100  # rows changed in one transaction, at most: some milliseconds


class Store:
    """One database file and the files of its runs, usable from every thread of a process."""

    def __init__(self, datadir: DataDir) -> None:
        self._jobs_folder = datadir.jobs
        self._db = Database(datadir.database)
        self.retention = Retention(self._db)

    def close(self) -> None:
        """Closes the connection of the calling thread; other threads close theirs when they end."""
        self._db.close()

    def run_files(self, job: Job, run: Optional[int] = None) -> RunFiles:
        """The files of a run of `job`, by default of its last one."""
        return RunFiles(self._jobs_folder, job.job_id, job.run if run is None else run)

    # submit

    def insert_all(
        self, jobs: Sequence[Job], max_pending: int
    ) -> List[Union[Job, Exception, None]]:
        """Stores jobs in one durable transaction; StorageFull when the disk is full.

        For each job, in their order: None when it was stored; the earlier job that has the same
        idempotency key; or the exception that concerns this job alone, such as QueueFull when
        `max_pending` jobs wait already.
        """
        results: List[Union[Job, Exception, None]] = []
        with self._db.write():
            for job in jobs:
                try:
                    results.append(self._insert(job, max_pending))
                except (
                    QueueFull,
                    ValueError,
                    OverflowError,
                ) as error:  # or a value SQLite cannot store
                    results.append(error)
        return results

    def _insert(self, job: Job, max_pending: int) -> Optional[Job]:
        if job.idempotency_key is not None:
            earlier = self.by_key(job.idempotency_key)
            if earlier is not None:
                return earlier
        if self._waiting() >= max_pending:
            raise QueueFull(
                f"{max_pending} jobs wait already; try again later, or raise ROBOTNI_MAX_PENDING"
            )
        self._db.sql(INSERT, cells_of(job))
        return None

    # read

    def get(self, job_id: str) -> Optional[Job]:
        return self._one("WHERE job_id = ?", job_id)

    def ids_ending_in(self, end: str, limit: int) -> List[str]:
        """The ids of jobs that end in `end`, at least SHORTEST_ID digits; the newest first."""
        rows = self._db.sql(IDS_ENDING_IN, (end, limit))
        return [job_id for (job_id,) in rows.fetchall()]

    def by_key(self, key: str) -> Optional[Job]:
        return self._one("WHERE idempotency_key = ?", key)

    def next_pending(self, excluded: Collection[str]) -> Optional[Job]:
        """The job that has been pending longest, less those whose ids are `excluded`."""
        return self._one(
            f"INDEXED BY job_expiring WHERE status = '{PENDING}' "
            f"AND job_id NOT IN ({', '.join('?' * len(excluded))}) "
            "ORDER BY pending_since, job_id LIMIT 1",
            *excluded,
        )

    def _one(self, where: str, *values: str) -> Optional[Job]:
        cells = self._db.sql(f"{SELECT} {where}", values).fetchone()
        return None if cells is None else to_job(cells)

    def list(
        self, filters: Filters, before: Optional[str], limit: int
    ) -> Tuple[List[Job], Optional[str]]:
        """See `queries.find`."""
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
            (int(since // statistics.HOUR),),
        ).fetchone()
        return row[0], row[1]

    def ended_buckets(self, since: float, width: float) -> List[statistics.Bucket]:
        """What ended from `since` on, by spans of `width` seconds; empty ones are left out."""
        return statistics.buckets(self._db, since, width)

    def ended_totals(self) -> List[Tuple[str, str, int]]:
        """(state, error code or "", jobs) of all that ever ended; the clean-up lowers nothing."""
        return statistics.totals(self._db)

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
        (and, where given, in the run) that allows it."""
        with self._db.write():
            return self._transition(verb, job_id, run, columns)

    def _transition(
        self, verb: str, job_id: str, run: Optional[int], values: Dict[str, Any], guard: str = ""
    ) -> bool:
        allowed, to = TRANSITIONS[verb]
        cells = to_cells({"status": to, **values})
        guards: Dict[str, Any] = {"job_id": job_id}
        if run is not None:
            guards["run"] = run
        cursor = self._db.sql(
            f"UPDATE job SET {', '.join(f'{name} = ?' for name in cells)} "
            f"WHERE {' AND '.join(f'{name} = ?' for name in guards)} "
            f"AND status IN ({', '.join('?' * len(allowed))}) {guard}",
            [*cells.values(), *guards.values(), *allowed],
        )
        won: bool = cursor.rowcount == 1
        if won and to in TERMINAL:
            statistics.count_ended(self._db, to, values.get("error"))
        return won

    def claim(self, waiting: Job, now: float) -> Optional[Job]:
        """Starts the next run and attempt of a job that was read as pending; None when it is
        pending no more. One that waited longer than its `expires` is failed instead."""
        with self._db.write():
            return self._claim(waiting, now)

    def _claim(self, waiting: Job, now: float) -> Optional[Job]:
        if is_expired(waiting, now):
            columns = {"error": expiry(waiting.expires or 0), "finished_at": now}
            self._transition("expire", waiting.job_id, waiting.run, columns)
            return None
        if waiting.cancel_requested_at is not None:  # its run was released, as it never started
            self._transition("cancel", waiting.job_id, waiting.run, {"finished_at": now})
            return None
        changes = {
            "run": waiting.run + 1,
            "attempt": waiting.attempt + 1,
            "started_at": now,
            "run_at": None,
        }
        if not self._transition("claim", waiting.job_id, waiting.run, changes):
            return None
        self._count_attempt(now, started=1)
        return waiting.model_copy(update={**changes, "status": RUNNING})

    def release(self, job: Job, now: float) -> bool:
        """Puts back to pending a run that never started, and gives its attempt back."""
        with self._db.write():
            columns = {"attempt": job.attempt - 1, "started_at": None, "pending_since": now}
            if not self._transition("release", job.job_id, job.run, columns):
                return False
            self._count_attempt(job.started_at or now, started=-1)
            return True

    def complete(
        self,
        verb: str,
        job: Job,
        columns: Dict[str, Any],
        timed_out: bool,
        waiting: Optional[Job],
        now: float,
    ) -> Tuple[bool, Optional[Job]]:
        """Ends a run and, in the same transaction, claims the job `waiting`, if one is given.

        (whether the run ended by this; the claimed job). The end is guarded by the number of the
        run, and by whether a cancel has been requested, as `job` was read.
        """
        requested = job.cancel_requested_at is not None
        guard = f"AND cancel_requested_at IS {'NOT' if requested else ''} NULL"
        with self._db.write():
            if not self._transition(verb, job.job_id, job.run, columns, guard):
                return False, None
            if timed_out:
                self._count_attempt(job.started_at or job.timestamp, timed_out=1)
            return True, None if waiting is None else self._claim(waiting, now)

    def due(self, now: float) -> int:
        """Makes pending what is scheduled for now or earlier; how many, at most BATCH."""
        due = (
            f"SELECT job_id, run_at FROM {_SCHEDULED} AND run_at <= ? ORDER BY run_at LIMIT {BATCH}"
        )
        if self._db.sql(due, (now,)).fetchone() is None:
            return 0
        with self._db.write():
            rows = self._db.sql(due, (now,)).fetchall()
            return sum(self._transition("due", i, None, {"pending_since": at}) for i, at in rows)

    def expire(self, now: float) -> int:
        """Fails pending jobs that waited longer than their `expires`; how many, at most BATCH."""
        late = (
            f"SELECT job_id, expires FROM {_PENDING} AND expires IS NOT NULL "
            f"AND pending_since + expires < ? LIMIT {BATCH}"
        )
        if self._db.sql(late, (now,)).fetchone() is None:
            return 0
        with self._db.write():
            return sum(
                self._transition(
                    "expire", job_id, None, {"error": expiry(expires), "finished_at": now}
                )
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
                    columns = {"finished_at": now}
                    counts[status] += self._transition("cancel", job_id, None, columns)
        return counts

    def _count_attempt(self, at: float, started: int = 0, timed_out: int = 0) -> None:
        hour = int(at // statistics.HOUR)
        self._db.sql(
            "INSERT INTO attempt_tally (hour, started, timed_out) VALUES (?1, ?2, ?3) ON CONFLICT "
            "(hour) DO UPDATE SET started = started + ?2, timed_out = timed_out + ?3",
            (hour, started, timed_out),
        )

    def integrity_errors(self) -> List[str]:
        """What SQLite finds wrong with the file; reads all of it."""
        rows = self._db.sql("PRAGMA integrity_check").fetchall()
        return [text for (text,) in rows if text != "ok"]

    def shrink_log(self) -> None:
        """Empties the write-ahead log where steady readers let it grow."""
        self._db.shrink_log()
