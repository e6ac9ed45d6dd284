"""How a list is found: newest first, by keyset, quick however long the history is.

An index is in the order of job ids where all before the id is fixed. So what is asked for is taken
apart into *walks*, each of one name and one state where those are asked for: each is read in order
from the index that fits, and the newest of all of them are taken. What waits or runs is bounded by
MAX_PENDING and WORKERS, so its own index is enough; of what has ended there may be millions.
A page is bounded in what it holds as well: a job may have a result of 1 MiB, and 200 of those would
take a gigabyte of memory, for each who asks.
"""

from contextlib import closing
from heapq import nlargest
from itertools import product
from operator import itemgetter
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from robotni.jobs.models import Job
from robotni.jobs.states import STATES, TERMINAL
from robotni.storage.database import Database
from robotni.storage.rows import LIST_COLUMNS, to_job

MAX_WALKS = 200  # more of them are no gain: then the jobs are walked through as they are
PAGE = 1 << 20  # characters of what clients and scripts may make long
_LONG = ("args", "params", "env", "error", "result", "progress", "preload")
_texts = itemgetter(*map(LIST_COLUMNS.index, _LONG))
_END = "\U0010ffff"  # sorts after every other character


class Filters(NamedTuple):
    """What a list is narrowed to; empty means all. `q` is the start of a name or of an id."""

    type: Optional[str] = None
    status: Sequence[str] = ()
    project: Optional[str] = None
    q: Optional[str] = None

    @property
    def is_search(self) -> bool:
        """Whether no index alone may find it, so that it may take a second in a long history."""
        return self.q is not None or (self.type is not None and self.project is not None)


class Walk(NamedTuple):
    """Conditions that all hold, and the values in them, in order."""

    where: Tuple[str, ...] = ()
    values: Tuple[Any, ...] = ()

    def that(self, condition: str, *values: Any) -> "Walk":
        return Walk((*self.where, condition), (*self.values, *values))


def find(
    db: Database, filters: Filters, before: Optional[str], limit: int
) -> Tuple[List[Job], bool]:
    """(jobs older than job id `before`, newest first, without `attempts` and `stdin`; whether there
    are more). At most `limit`, and none after what is over PAGE in all."""
    all_ = Walk() if before is None else Walk().that("job_id < ?", before)
    walks = walks_of(filters, all_, _names_from(db, filters.q) if filters.q else None)
    if len(walks) == 1:
        return _jobs(db, walks[0], limit)
    ids = {job_id for walk in walks for (job_id,) in _select(db, "job_id", walk, limit + 1)}
    newest = nlargest(limit + 1, ids)
    return _jobs(db, Walk().that(f"job_id IN ({_marks(newest)})", *newest), limit)


def walks_of(filters: Filters, all_: Walk, names: Optional[Sequence[str]]) -> List[Walk]:
    """What to read, within `all_`; `names` are those that begin with `q`."""
    states = dict.fromkeys(filters.status)
    if len(states) == len(STATES):
        states = {}
    if not states:
        return _found(filters, [all_], names)
    few = [all_.that("status = ?", state) for state in states if state not in TERMINAL]
    many = [
        all_.that("status = ?", state).that("finished_at IS NOT NULL")
        for state in states
        if state in TERMINAL
    ]
    return [_looked_through(filters, walk) for walk in few] + _found(filters, many, names)


def _found(filters: Filters, walks: Sequence[Walk], names: Optional[Sequence[str]]) -> List[Walk]:
    """`walks`, each in an index of what is asked for."""
    walks = [_narrowed(filters, walk, "{} = ?") for walk in walks]
    if filters.q is None or names is None:
        return walks
    if len(names) * len(walks) > MAX_WALKS:
        return [_beginning(walk, filters.q) for walk in walks]
    end = filters.q + _END
    ids = [walk.that("job_id >= ?", filters.q).that("job_id < ?", end) for walk in walks]
    return ids + [walk.that("name = ?", name) for walk, name in product(walks, names)]


def _looked_through(filters: Filters, walk: Walk) -> Walk:
    """`walk` in its own index, and in no other, which may hold millions."""
    walk = _narrowed(filters, walk, "{} || '' = ?")
    return _beginning(walk, filters.q) if filters.q else walk


def _narrowed(filters: Filters, walk: Walk, condition: str) -> Walk:
    for column, value in (("type", filters.type), ("project", filters.project)):
        if value is not None:
            walk = walk.that(condition.format(column), value)
    return walk


def _beginning(walk: Walk, q: str) -> Walk:
    either = f"(substr(name, 1, {len(q)}) = ? OR substr(job_id, 1, {len(q)}) = ?)"
    return walk.that(either, q, q)


def _names_from(db: Database, start: str) -> List[str]:
    """The different names that begin with `start`, each found by one step in the index; at most
    one more than MAX_WALKS."""
    rows = db.sql(
        "WITH RECURSIVE found (name) AS (SELECT min(name) FROM job WHERE name >= ? AND name < ? "
        "UNION ALL SELECT (SELECT min(name) FROM job WHERE name > found.name AND name < ?) "
        "FROM found WHERE found.name IS NOT NULL) "
        "SELECT name FROM found WHERE name IS NOT NULL LIMIT ?",
        (start, start + _END, start + _END, MAX_WALKS + 1),
    )
    return [name for (name,) in rows.fetchall()]


def _jobs(db: Database, walk: Walk, limit: int) -> Tuple[List[Job], bool]:
    found: List[Job] = []
    room = PAGE
    with closing(_select(db, ", ".join(LIST_COLUMNS), walk, limit + 1)) as rows:
        for cells in rows:
            if len(found) == limit or room < 0:
                return found, True
            room -= sum(map(len, filter(None, _texts(cells))))
            found.append(to_job(cells, LIST_COLUMNS))
    return found, False


def _select(db: Database, columns: str, walk: Walk, limit: int) -> Any:
    condition = f"WHERE {' AND '.join(walk.where)} " if walk.where else ""
    return db.sql(
        f"SELECT {columns} FROM job {condition}ORDER BY job_id DESC LIMIT ?", (*walk.values, limit)
    )


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
