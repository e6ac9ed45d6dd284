"""The tables of `robotni.db`, as numbered migrations; `PRAGMA user_version` counts those applied.

While nothing is released there is one, and it may change. A released migration never changes, and a
new one only adds: tables, plain indexes, columns with a default. A process of an older version,
which has the file open while a newer one migrates it, so reads and writes rows safely until it is
replaced; one that is started later refuses the file. The columns of `job` are the fields of `Job`.
"""

from typing import Tuple

from robotni.jobs.models import SHORTEST_ID
from robotni.jobs.states import PENDING, SCHEDULED, STATES, TERMINAL

_TERMINAL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))

# What may be long comes last: SQLite reads a row up to the last column that is asked for.
_JOB = """
CREATE TABLE job (
    job_id TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, project TEXT NOT NULL,
    status TEXT NOT NULL, name TEXT NOT NULL, timestamp REAL NOT NULL,
    run_at REAL, pending_since REAL, started_at REAL, finished_at REAL, cancel_requested_at REAL,
    run INTEGER NOT NULL, attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL,
    retry_delay REAL NOT NULL, timeout REAL NOT NULL, expires REAL, warm INTEGER NOT NULL,
    exit_code INTEGER, signal TEXT, output_bytes INTEGER NOT NULL,
    output_truncated INTEGER NOT NULL, retry_of TEXT, idempotency_key TEXT UNIQUE,
    request_digest TEXT, script TEXT, module TEXT, venv TEXT, cwd TEXT NOT NULL,
    preload TEXT NOT NULL, args TEXT NOT NULL, params TEXT NOT NULL, env TEXT NOT NULL, stdin TEXT,
    error TEXT, progress TEXT, result TEXT, attempts TEXT NOT NULL
) WITHOUT ROWID
"""

_TABLES = (
    _JOB,
    "CREATE INDEX job_by_status ON job (status, job_id)",
    "CREATE INDEX job_by_type ON job (type, status, job_id)",
    "CREATE INDEX job_by_project ON job (project, status, job_id)",
    "CREATE INDEX job_by_project_and_type ON job (project, type, status, job_id)",
    # For ids that are shortened to their end; the begin of an id is its time, which many share.
    f"CREATE INDEX job_by_end_of_id ON job (substr(job_id, -{SHORTEST_ID}))",
    f"CREATE INDEX job_due ON job (run_at) WHERE status = '{SCHEDULED}'",
    f"CREATE INDEX job_expiring ON job (pending_since) WHERE status = '{PENDING}'",
    # All that the statistics of a day read, which may be of 100,000s of jobs, lies in this index.
    """CREATE INDEX job_ended ON job (finished_at, status, started_at)
        WHERE finished_at IS NOT NULL""",
    f"""CREATE TRIGGER terminal_is_final BEFORE UPDATE ON job WHEN OLD.status IN ({_TERMINAL})
        BEGIN SELECT RAISE(ABORT, 'a terminal job never changes'); END""",
    # Jobs in each state now.
    "CREATE TABLE tally (status TEXT NOT NULL PRIMARY KEY, jobs INTEGER NOT NULL)",
    *(f"INSERT INTO tally VALUES ('{state}', 0)" for state in STATES),
    """CREATE TRIGGER tally_insert AFTER INSERT ON job
        BEGIN UPDATE tally SET jobs = jobs + 1 WHERE status = NEW.status; END""",
    """CREATE TRIGGER tally_delete AFTER DELETE ON job
        BEGIN UPDATE tally SET jobs = jobs - 1 WHERE status = OLD.status; END""",
    """CREATE TRIGGER tally_update AFTER UPDATE OF status ON job WHEN OLD.status <> NEW.status
        BEGIN UPDATE tally SET jobs = jobs + (status = NEW.status) - (status = OLD.status)
        WHERE status IN (OLD.status, NEW.status); END""",
    # Counts that deleting jobs does not lower: ended jobs, and attempts of each hour.
    """CREATE TABLE ended_tally (status TEXT NOT NULL, code TEXT NOT NULL, jobs INTEGER NOT NULL,
        PRIMARY KEY (status, code))""",
    """CREATE TABLE attempt_tally (hour INTEGER NOT NULL PRIMARY KEY,
        started INTEGER NOT NULL DEFAULT 0, timed_out INTEGER NOT NULL DEFAULT 0)""",
    # Local dates whose clean-up a worker has taken on.
    "CREATE TABLE clean_day (day TEXT NOT NULL PRIMARY KEY)",
)

MIGRATIONS: Tuple[Tuple[str, ...], ...] = (_TABLES,)
VERSION = len(MIGRATIONS)
