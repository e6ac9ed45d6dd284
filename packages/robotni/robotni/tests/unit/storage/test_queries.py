"""Lists: newest first, every filter, and no sorting however long the history is."""

import itertools
import json
import random
from typing import List, Optional

import pytest

from robotni.jobs.models import Job, new_job_id
from robotni.jobs.states import STATES, TERMINAL
from robotni.storage.queries import PAGE, Filters, Walk, walks_of
from robotni.tests.conftest import House
from robotni.tests.unit.engine.test_engine import submit


def test_a_search_finds_names_and_ids_newest_first_whatever_their_number(house: House) -> None:
    jobs = []
    for number in range(3):
        house.clock.now += 1
        job = submit(house)
        jobs.append(job)
        house.store._db.sql(
            "UPDATE job SET name = ? WHERE job_id = ?", (f"n{number % 2}", job.job_id)
        )
    ids = [job.job_id for job in jobs]

    def found(q: str, before: Optional[str] = None, limit: int = 50) -> List[str]:
        return [job.job_id for job in house.store.list(Filters(q=q), before, limit)[0]]

    def check() -> None:
        assert found("n") == ids[::-1]
        assert found("n0") == [ids[2], ids[0]]
        assert found("n", limit=2) == [ids[2], ids[1]]
        assert found("n", before=ids[1]) == [ids[0]]
        assert found(ids[1]) == [ids[1]]
        assert found("n%") == found("N") == []

    check()
    with pytest.MonkeyPatch.context() as few:
        few.setattr("robotni.storage.queries.MAX_WALKS", 1)  # the other way gives the same answer
        check()


def test_every_filter_and_any_of_them_together_finds_what_fits(house: House) -> None:
    draw = random.Random(7)
    jobs = []
    for number in range(200):
        state = draw.choice(STATES)
        jobs.append(
            Job(
                job_id=new_job_id(1e9 + number),
                timestamp=1e9 + number,
                type=draw.choice(["add", "python-script"]),
                project=draw.choice(["web", "nightly"]),
                name=draw.choice(["report.py", "repair.py", "x.py"]),
                status=state,
                finished_at=1e9 if state in TERMINAL else None,
            )
        )
        house.store.insert_all([jobs[-1]], 10**6)
    some = jobs[120].job_id
    many = ["failed", "running", "cancelled"]
    for type_, status, project, q, before in itertools.product(
        [None, "add", "none"],
        [[], ["failed"], ["pending"], many, list(STATES), ["failed", "failed"]],
        [None, "web", "none"],
        [None, "rep", "report.py", some[:6], some, "none"],
        [None, some],
    ):
        filters = Filters(type_, status, project, q)
        fit = [
            job.job_id
            for job in reversed(jobs)
            if type_ in (None, job.type)
            and (not status or job.status in status)
            and project in (None, job.project)
            and (q is None or job.name.startswith(q) or job.job_id.startswith(q))
            and (before is None or job.job_id < before)
        ]
        page, more = house.store.list(filters, before, 20)
        assert [job.job_id for job in page] == fit[:20], filters
        assert more == (len(fit) > 20), filters


@pytest.mark.parametrize("filters", [Filters(), Filters(status=["completed", "failed"])])
def test_a_page_of_large_jobs_is_short_and_the_next_goes_on_from_it(
    house: House, filters: Filters
) -> None:
    """200 results of 1 MiB in one answer took a gigabyte of memory."""
    ids = sorted(submit(house).job_id for _ in range(5))
    for job_id, size in zip(ids, [PAGE * 5 // 9] * 3 + [PAGE] * 2):
        house.store._db.sql(
            "UPDATE job SET status = 'completed', finished_at = 1, result = ? WHERE job_id = ?",
            (json.dumps("x" * size), job_id),
        )
    sizes, found, cursor = [], [], None
    while cursor is not None or not found:
        page, cursor = house.engine.list(filters, cursor, 200)
        sizes.append(len(page))
        found += [job.job_id for job in page]
    assert found == ids[::-1]
    assert sizes == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), "PRIMARY KEY (job_id<?)"),
        (Filters(type="add"), "job_by_type (type=? AND job_id<?)"),
        (Filters(project="web"), "job_by_project (project=? AND job_id<?)"),
        (Filters(q="x"), "job_by_name (name=? AND job_id<?)"),
        (Filters(status=["failed"]), "job_by_status (status=? AND job_id<?)"),
        (Filters("add", ["failed"]), "job_ended_by_type (type=? AND status=? AND job_id<?)"),
        (
            Filters(None, ["failed"], "web"),
            "job_ended_by_project (project=? AND status=? AND job_id<?)",
        ),
        (
            Filters(None, ["completed"], None, "x"),
            "job_ended_by_name (name=? AND status=? AND job_id<?)",
        ),
        (Filters("add", ["pending"], "web", "x"), "job_by_status (status=? AND job_id<?)"),
    ],
)
def test_a_list_reads_an_index_in_order_and_sorts_nothing(
    house: House, filters: Filters, index: str
) -> None:
    walk = walks_of(filters, Walk().that("job_id < ?", "f" * 32), ["x"])[-1]
    statement = f"SELECT * FROM job WHERE {' AND '.join(walk.where)} ORDER BY job_id DESC LIMIT 50"
    plan = house.store._db.sql(f"EXPLAIN QUERY PLAN {statement}", walk.values).fetchall()
    assert len(plan) == 1, plan
    assert plan[0][-1].endswith(index), plan
