"""The condition of the database file, for `robotni doctor`: looked at, never changed.

Opened for reading only: no file is made, no migration run, nobody is kept waiting. It must not
know what is good or bad; `doctor.py` judges.
"""

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional
from urllib.parse import quote

from robotni.errors import DataDirError
from robotni.jobs.states import STATES
from robotni.storage.migrations import VERSION

SQLITE_VERSION = sqlite3.sqlite_version_info
_PATIENCE = 5.0
_RECENT = 200  # jobs


class Inspection(NamedTuple):
    """`version` is the format's; `fault` what SQLite's own check found, empty when nothing.

    The rest is of the jobs, and empty where the format is newer than this robotni.
    """

    version: int
    journal: str
    fault: str
    counts: Dict[str, int]
    newest: Optional[float]
    venvs: List[str]


def examine(path: Path, since: float) -> Inspection:
    """The condition of the file at `path`; `venvs` are those of jobs submitted after `since`."""
    try:
        with _reading(path) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            journal = db.execute("PRAGMA journal_mode").fetchone()[0]
            fault = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            facts = Inspection(version, journal, "" if fault == "ok" else fault, {}, None, [])
            known = fault == "ok" and 0 < version <= VERSION
            return _with_jobs(db, facts, since) if known else facts
    except sqlite3.DatabaseError as error:
        raise DataDirError(f"{path} cannot be read ({error})") from None


def _with_jobs(db: Any, facts: Inspection, since: float) -> Inspection:
    counts = dict(db.execute("SELECT status, jobs FROM tally"))
    recent = f"SELECT timestamp, venv FROM job ORDER BY job_id DESC LIMIT {_RECENT}"
    rows = db.execute(recent).fetchall()
    venvs = sorted({venv for at, venv in rows if venv is not None and at >= since})
    newest = rows[0][0] if rows else None
    known = {state: counts.get(state, 0) for state in STATES}
    return facts._replace(counts=known, newest=newest, venvs=venvs)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    uri = f"file:{quote(str(path))}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=_PATIENCE)
    try:
        yield db
    finally:
        db.close()
