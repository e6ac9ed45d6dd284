"""The jobs of a list: newest first, by page, quick however many jobs there are.

Every filter is an equality on the first columns of an index that ends with the job id. So a page is
read in order from one place of that index, and nothing is sorted. Several states are one SELECT
each, which SQLite merges by job id; a filter by type or project alone asks for all six states.
A page is bounded in bytes as well as in jobs: a job may have a result of 1 MiB, and 200 of those
would take a gigabyte of memory for each client that asks.
"""

from contextlib import closing
from operator import itemgetter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from robotni.jobs.models import Job
from robotni.jobs.states import STATES
from robotni.storage.database import Database
from robotni.storage.rows import LIST_COLUMNS, to_job

PAGE_SIZE = 1 << 20  # characters of the columns that clients and scripts may make long
MAX_SEARCHED = 20_000  # jobs that a search looks through for a page
_long_texts = itemgetter(
    *map(LIST_COLUMNS.index, ("args", "params", "env", "error", "result", "progress", "preload"))
)
_AFTER_ALL_IDS = "g"  # they are hex digits


class Filters(NamedTuple):
    """What a list is narrowed to; empty means all. `q` is the start of a name or of an id."""

    type: Optional[str] = None
    status: Sequence[str] = ()
    project: Optional[str] = None
    q: Optional[str] = None

    @property
    def is_search(self) -> bool:
        """Whether jobs that do not fit are read too, which may take 0.1 s."""
        return bool(self.q)


def find(
    db: Database, filters: Filters, before: Optional[str], limit: int
) -> Tuple[List[Job], Optional[str]]:
    """The jobs older than job id `before`, newest first, without `attempts` and `stdin`; and the
    job id to continue before, None when there are no more.

    They are at most `limit`; fewer after PAGE_SIZE and one job more, and where a search has looked
    through MAX_SEARCHED jobs.
    """
    with db.snapshot():
        job_ids, cursor = _find_ids(db, filters, before, limit)
        jobs = _load(db, job_ids)
    if len(jobs) < len(job_ids):
        cursor = jobs[-1].job_id
    return jobs, cursor


def _find_ids(
    db: Database, filters: Filters, before: Optional[str], limit: int
) -> Tuple[List[str], Optional[str]]:
    """The ids of the page, and the one to continue before."""
    query, values = select(filters, before)
    start = filters.q or ""
    found: List[str] = []
    last: Optional[str] = None
    with closing(db.sql(query, values)) as rows:
        for searched, (job_id, name) in enumerate(rows):
            if searched == MAX_SEARCHED:
                return found, last
            last = job_id
            if name.startswith(start) or job_id.startswith(start):
                if len(found) == limit:
                    return found, found[-1]
                found.append(job_id)
    return found, None


def select(filters: Filters, before: Optional[str]) -> Tuple[str, List[Any]]:
    """The query for id and name of the jobs that fit, newest first, without `q`; and its values."""
    given = {"type": filters.type, "project": filters.project}
    fixed: Dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    states = dict.fromkeys(filters.status) or (STATES if fixed else ())
    selects, values = [], []
    for equal in [{**fixed, "status": state} for state in states] or [fixed]:
        conditions = [*(f"{name} = ?" for name in equal), "job_id < ?"]
        selects.append(f"SELECT job_id, name FROM job WHERE {' AND '.join(conditions)}")
        values += [*equal.values(), before or _AFTER_ALL_IDS]
    return f"{' UNION ALL '.join(selects)} ORDER BY job_id DESC", values


def _load(db: Database, job_ids: Sequence[str]) -> List[Job]:
    """The jobs with these ids, newest first, up to the one that passes PAGE_SIZE."""
    jobs: List[Job] = []
    room = PAGE_SIZE
    query = (
        f"SELECT {', '.join(LIST_COLUMNS)} FROM job "
        f"WHERE job_id IN ({', '.join('?' * len(job_ids))}) ORDER BY job_id DESC"
    )
    with closing(db.sql(query, job_ids)) as rows:
        for cells in rows:
            jobs.append(to_job(cells, LIST_COLUMNS))
            room -= sum(map(len, filter(None, _long_texts(cells))))
            if room < 0:
                break
    return jobs
