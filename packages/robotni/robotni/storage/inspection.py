"""What `robotni doctor` asks of the database file.

The file is opened for reading only: nothing is created, migrated or locked for writers. It must not
know which answer is good or bad; the doctor judges.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional
from urllib.parse import quote

from robotni.errors import DataDirError
from robotni.jobs.states import RUNNING, STATES
from robotni.storage.migrations import VERSION

SQLITE_VERSION = sqlite3.sqlite_version_info
_TIMEOUT = 5.0  # seconds to wait for a lock
_RECENT = 200  # jobs


class Inspection(NamedTuple):
    """`version` is the number of migrations the file has, `journal` its journal mode, `damage` the
    first error that SQLite's check found, empty when it found none.

    The rest says of the jobs: how many are in each state, when the newest was submitted, the venvs
    of recent ones, and the last start of one that is running. It is empty when the file is damaged
    or of a newer version.
    """

    version: int
    journal: str
    damage: str
    counts: Dict[str, int]
    newest: Optional[float]
    venvs: List[str]
    last_start: Optional[float] = None


def examine(path: Path, since: float) -> Inspection:
    """The state of the file at `path`; `venvs` are those of jobs submitted at `since` or later, as
    far as they are among the newest 200. DataDirError when the file cannot be read."""
    uri = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            journal = db.execute("PRAGMA journal_mode").fetchone()[0]
            check = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            found = Inspection(version, journal, "" if check == "ok" else check, {}, None, [])
            if found.damage or not 0 < version <= VERSION:
                return found
            return _with_jobs(db, found, since)
    except sqlite3.DatabaseError as error:
        raise DataDirError(f"{path} cannot be read ({error})") from None


def _with_jobs(db: sqlite3.Connection, found: Inspection, since: float) -> Inspection:
    counts = dict(db.execute("SELECT status, jobs FROM tally"))
    rows = db.execute(
        f"SELECT timestamp, venv FROM job ORDER BY job_id DESC LIMIT {_RECENT}"
    ).fetchall()
    (last_start,) = db.execute(
        "SELECT max(started_at) FROM job WHERE status = ?", (RUNNING,)
    ).fetchone()
    return found._replace(
        last_start=last_start,
        counts={state: counts.get(state, 0) for state in STATES},
        newest=rows[0][0] if rows else None,
        venvs=sorted({venv for at, venv in rows if venv is not None and at >= since}),
    )
