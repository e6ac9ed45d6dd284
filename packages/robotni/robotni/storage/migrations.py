"""The tables of `robotni.db`, as numbered steps from nothing to now (`PRAGMA user_version`).

A step, once released, never changes; a change is a new step. And a new step only adds: tables,
plain indexes (which may go, too), columns that may be left out. So a process of an older release
that has the file open, while a newer one migrates it, goes on reading and writing rows in safety
until it is sent away; one that is started later refuses the file. The column types and the
triggers are SQLite's; the queries over them, in `store.py`, are not. The table `task` is Huey's;
it is made here too, so that a job and its ticket can be written in one transaction.
"""

from typing import Tuple

from robotni.jobs.states import PENDING, SCHEDULED, STATES, TERMINAL

_TERMINAL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))

_JOB = """
CREATE TABLE job (
    job_id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL, project TEXT NOT NULL, status TEXT NOT NULL, timestamp REAL NOT NULL,
    script TEXT, module TEXT, venv TEXT, args TEXT NOT NULL, params TEXT NOT NULL,
    cwd TEXT NOT NULL, env TEXT NOT NULL, timeout REAL NOT NULL, expires REAL,
    attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL, retry_of TEXT, run_at REAL,
    started_at REAL, finished_at REAL, cancel_requested_at REAL, exit_code INTEGER, signal TEXT,
    error TEXT, progress TEXT, result TEXT, output_bytes INTEGER NOT NULL,
    output_truncated INTEGER NOT NULL, attempts TEXT NOT NULL, name TEXT NOT NULL, stdin TEXT,
    retry_delay REAL NOT NULL, run INTEGER NOT NULL, pending_since REAL,
    idempotency_key TEXT UNIQUE, request_digest TEXT
) WITHOUT ROWID
"""

_FIRST = (
    _JOB,
    "CREATE INDEX job_by_status ON job (status, job_id)",
    "CREATE INDEX job_by_type ON job (type, job_id)",
    "CREATE INDEX job_by_project ON job (project, job_id)",
    "CREATE INDEX job_by_name ON job (name, job_id)",
    f"CREATE INDEX job_due ON job (run_at) WHERE status = '{SCHEDULED}'",
    f"CREATE INDEX job_expiring ON job (pending_since) WHERE status = '{PENDING}'",
    "CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL",
    f"""CREATE TRIGGER terminal_is_final BEFORE UPDATE ON job WHEN OLD.status IN ({_TERMINAL})
        BEGIN SELECT RAISE(ABORT, 'a terminal job never changes'); END""",
    "CREATE TABLE tally (status TEXT NOT NULL PRIMARY KEY, jobs INTEGER NOT NULL)",
    *(f"INSERT INTO tally VALUES ('{state}', 0)" for state in STATES),
    """CREATE TRIGGER tally_insert AFTER INSERT ON job
        BEGIN UPDATE tally SET jobs = jobs + 1 WHERE status = NEW.status; END""",
    """CREATE TRIGGER tally_delete AFTER DELETE ON job
        BEGIN UPDATE tally SET jobs = jobs - 1 WHERE status = OLD.status; END""",
    """CREATE TRIGGER tally_update AFTER UPDATE OF status ON job WHEN OLD.status <> NEW.status
        BEGIN UPDATE tally SET jobs = jobs + (status = NEW.status) - (status = OLD.status)
        WHERE status IN (OLD.status, NEW.status); END""",
    """CREATE TABLE attempt_tally (hour INTEGER NOT NULL PRIMARY KEY,
        started INTEGER NOT NULL DEFAULT 0, timed_out INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE IF NOT EXISTS task (id INTEGER NOT NULL PRIMARY KEY, queue TEXT NOT NULL,
        data BLOB NOT NULL, priority REAL NOT NULL DEFAULT 0.0)""",
    """CREATE INDEX IF NOT EXISTS task_queue_priority_id
        ON task (queue, priority DESC, id)""",
    "CREATE TABLE clean_day (day TEXT NOT NULL PRIMARY KEY)",
)

# What the statistics read lies in the index, so that a day of 100,000s of jobs is no search for
# rows; and counts of ended jobs that no clean-up lowers.
_STATISTICS = (
    """CREATE INDEX job_ended ON job (finished_at, status, started_at)
        WHERE finished_at IS NOT NULL""",
    "DROP INDEX job_finished",
    """CREATE TABLE ended_tally (status TEXT NOT NULL, code TEXT NOT NULL, jobs INTEGER NOT NULL,
        PRIMARY KEY (status, code))""",
)
_WARM = (  # with defaults, so that an older worker at its work may go on
    "ALTER TABLE job ADD COLUMN warm INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE job ADD COLUMN preload TEXT NOT NULL DEFAULT '[]'",
)

# What has ended, by state within a project, a type, a name: an entry is written once, at the end.
_LISTS = tuple(
    f"CREATE INDEX job_ended_by_{column} ON job ({column}, status, job_id) "
    "WHERE finished_at IS NOT NULL"
    for column in ("project", "type", "name")
)

MIGRATIONS: Tuple[Tuple[str, ...], ...] = (_FIRST, _STATISTICS, _LISTS, _WARM)
VERSION = len(MIGRATIONS)
