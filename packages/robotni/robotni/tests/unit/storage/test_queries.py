"""Lists: newest first, by every filter, in pages of bounded size, and without sorting anything."""

import itertools
import json
import random
import re
from typing import List, Optional

import pytest

from robotni.jobs.models import Job, new_job_id
from robotni.jobs.states import STATES, TERMINAL
from robotni.storage.queries import PAGE_SIZE, Filters, select
from robotni.storage.store import IDS_ENDING_IN
from robotni.tests.conftest import House
from robotni.tests.unit.engine.test_engine import submit


def random_jobs(house: House, count: int) -> List[Job]:
    """Jobs of all states, two types and two projects, stored; oldest first."""
    draw = random.Random(7)
    jobs = []
    for number in range(count):
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
    house.store.insert_all(jobs, 10**6)
    return jobs


def test_every_combination_of_filters_finds_the_jobs_that_fit_newest_first(house: House) -> None:
    jobs = random_jobs(house, 200)
    some = jobs[120].job_id
    three = ["failed", "running", "cancelled"]
    for type_, status, project, q, before in itertools.product(
        [None, "add", "none"],
        [[], ["failed"], ["pending"], three, list(STATES), ["failed", "failed"]],
        [None, "web", "none"],
        [None, "", "rep", "report.py", some[:6], some, "none"],
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
        page, cursor = house.store.list(filters, before, 20)
        assert [job.job_id for job in page] == fit[:20], filters
        assert cursor == (fit[19] if len(fit) > 20 else None), filters


@pytest.mark.parametrize("q", ["%", "_", "REP", "rep%", "\0", "\ud800"])
def test_a_search_takes_every_character_as_it_is(house: House, q: str) -> None:
    random_jobs(house, 20)
    assert house.store.list(Filters(q=q), None, 50) == ([], None)


def test_a_search_looks_through_a_bounded_number_of_jobs_for_a_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotni.storage.queries.MAX_SEARCHED", 5)
    jobs = [Job(job_id=new_job_id(1e9 + n), timestamp=1e9, name=f"{n}.py") for n in range(12)]
    house.store.insert_all(jobs, 10**6)
    filters = Filters(q="3", status=["completed", "pending"])
    pages: List[List[str]] = []
    cursor: Optional[str] = None
    while cursor is not None or not pages:
        page, cursor = house.engine.list(filters, cursor, 50)
        pages.append([job.name for job in page])
    assert pages == [[], ["3.py"], []]


@pytest.mark.parametrize("filters", [Filters(), Filters(status=["completed", "failed"])])
def test_a_page_of_large_jobs_is_short_and_the_next_one_continues_after_it(
    house: House, filters: Filters
) -> None:
    """200 results of 1 MiB in one answer took a gigabyte of memory."""
    ids = sorted(submit(house).job_id for _ in range(5))
    for job_id, size in zip(ids, [PAGE_SIZE * 5 // 9] * 3 + [PAGE_SIZE] * 2):
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
        (Filters(status=["failed"]), "job_by_status (status=? AND job_id<?)"),
        (Filters(status=["failed", "running"]), "job_by_status (status=? AND job_id<?)"),
        (Filters(type="add"), "job_by_type (type=? AND status=? AND job_id<?)"),
        (Filters(project="web"), "job_by_project (project=? AND status=? AND job_id<?)"),
        (
            Filters("add", ["completed", "failed", "cancelled"], "web"),
            "job_by_project_and_type (project=? AND type=? AND status=? AND job_id<?)",
        ),
    ],
)
def test_a_list_reads_an_index_in_order_and_sorts_nothing(
    house: House, filters: Filters, index: str
) -> None:
    query, values = select(filters, None)
    plan = house.store._db.sql(f"EXPLAIN QUERY PLAN {query} LIMIT 50", values).fetchall()
    steps = {text for *_, text in plan} - {"MERGE (UNION ALL)", "LEFT", "RIGHT"}
    assert len(steps) == 1, steps
    assert steps.pop().endswith(index), plan


def test_the_jobs_of_a_page_are_read_in_order_without_sorting_them(house: House) -> None:
    """To sort them, SQLite would hold all of them in memory."""
    query = "SELECT * FROM job WHERE job_id IN (?, ?) ORDER BY job_id DESC"
    plan = house.store._db.sql(f"EXPLAIN QUERY PLAN {query}", ("a", "b")).fetchall()
    assert [text for *_, text in plan] == ["SEARCH job USING PRIMARY KEY (job_id=?)"]


def test_a_shortened_id_is_looked_up_in_an_index(house: House) -> None:
    plan = house.store._db.sql(f"EXPLAIN QUERY PLAN {IDS_ENDING_IN}", ("5a6d7e8f90", 6)).fetchall()
    (step,) = [text for *_, text in plan]
    assert re.fullmatch(r"SEARCH (TABLE )?job USING (COVERING )?INDEX job_by_end_of_id .*", step)


def test_a_shortened_id_finds_the_ids_that_end_so_newest_first(house: House) -> None:
    ids = sorted(submit(house).job_id for _ in range(20))
    assert all(house.store.ids_ending_in(i[-length:], 6) == [i] for i in ids for length in (12, 31))
    assert house.store.ids_ending_in("0" * 12, 6) == []
