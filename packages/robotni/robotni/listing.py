"""How a list is found: newest first, by keyset, quick however long the history is.

Every filter is served by an index that is in the order of job ids already. The start of a name is
not: all that match would be sorted. So the few names that begin so are looked up first, each is
read in order, and the newest of all of them are taken.
"""

from heapq import nlargest
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from robotni.database import Database
from robotni.job import Job
from robotni.rows import LIST_COLUMNS, to_job

MAX_NAMES = 200  # names that are read one by one; where more match, the jobs are walked through
_END = "\U0010ffff"  # sorts after every other character


class Filters(NamedTuple):
    """What a list is narrowed to; empty means all. `q` is the start of a name or of an id."""

    type: Optional[str] = None
    status: Sequence[str] = ()
    project: Optional[str] = None
    q: Optional[str] = None


def find(db: Database, filters: Filters, before: Optional[str], limit: int) -> List[Job]:
    """Jobs older than job id `before`, newest first, without `attempts` and `stdin`."""
    where, values = _conditions(filters, before)
    if not filters.q:
        return _jobs(db, where, values, limit)
    names = _names_from(db, filters.q)
    if len(names) > MAX_NAMES:
        size = len(filters.q)
        where += [f"(substr(name, 1, {size}) = ? OR substr(job_id, 1, {size}) = ?)"]
        return _jobs(db, where, [*values, filters.q, filters.q], limit)
    end = filters.q + _END
    found = _ids(db, [*where, "job_id >= ?", "job_id < ?"], [*values, filters.q, end], limit)
    for name in names:
        found += _ids(db, [*where, "name = ?"], [*values, name], limit)
    newest = nlargest(limit, set(found))
    return _jobs(db, [f"job_id IN ({', '.join('?' * len(newest))})"], newest, limit)


def _conditions(filters: Filters, before: Optional[str]) -> Tuple[List[str], List[Any]]:
    """What must hold for a job, but for `q`, and the values in it."""
    where: List[str] = []
    values: List[Any] = []
    for column, value in (("type", filters.type), ("project", filters.project)):
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if filters.status:
        where.append(f"status IN ({', '.join('?' * len(filters.status))})")
        values += filters.status
    if before is not None:
        where.append("job_id < ?")
        values.append(before)
    return where, values


def _names_from(db: Database, start: str) -> List[str]:
    """The different names that begin with `start`, each found by one step in the index; at most
    one more than MAX_NAMES."""
    rows = db.sql(
        "WITH RECURSIVE found (name) AS (SELECT min(name) FROM job WHERE name >= ? AND name < ? "
        "UNION ALL SELECT (SELECT min(name) FROM job WHERE name > found.name AND name < ?) "
        "FROM found WHERE found.name IS NOT NULL) "
        "SELECT name FROM found WHERE name IS NOT NULL LIMIT ?",
        (start, start + _END, start + _END, MAX_NAMES + 1),
    )
    return [name for (name,) in rows.fetchall()]


def _jobs(db: Database, where: List[str], values: Sequence[Any], limit: int) -> List[Job]:
    rows = _select(db, ", ".join(LIST_COLUMNS), where, values, limit)
    return [to_job(cells, LIST_COLUMNS) for cells in rows]


def _ids(db: Database, where: List[str], values: Sequence[Any], limit: int) -> List[str]:
    return [job_id for (job_id,) in _select(db, "job_id", where, values, limit)]


def _select(
    db: Database, columns: str, where: List[str], values: Sequence[Any], limit: int
) -> List[Any]:
    condition = f"WHERE {' AND '.join(where)} " if where else ""
    rows: List[Any] = db.sql(
        f"SELECT {columns} FROM job {condition}ORDER BY job_id DESC LIMIT ?", (*values, limit)
    ).fetchall()
    return rows
