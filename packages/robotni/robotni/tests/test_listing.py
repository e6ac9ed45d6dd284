"""Lists: newest first, every filter, and no sorting however long the history is."""

from typing import List, Optional

import pytest

from robotni.listing import Filters, _conditions
from robotni.tests.conftest import House
from robotni.tests.test_engine import submit


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
        return [job.job_id for job in house.store.list(Filters(q=q), before, limit)]

    def check() -> None:
        assert found("n") == ids[::-1]
        assert found("n0") == [ids[2], ids[0]]
        assert found("n", limit=2) == [ids[2], ids[1]]
        assert found("n", before=ids[1]) == [ids[0]]
        assert found(ids[1]) == [ids[1]]
        assert found("n%") == found("N") == []

    check()
    with pytest.MonkeyPatch.context() as few:
        few.setattr("robotni.listing.MAX_NAMES", 1)  # the other way gives the same answer
        check()


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(type="add"),
        Filters(project="web"),
        Filters(status=["failed"]),
        Filters(status=["failed"], project="web"),
    ],
)
def test_a_list_reads_an_index_in_order_and_sorts_nothing(house: House, filters: Filters) -> None:
    where, values = _conditions(filters, "f" * 32)
    statement = f"SELECT job_id FROM job WHERE {' AND '.join(where)} ORDER BY job_id DESC LIMIT 50"
    plan = house.store._db.sql(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert not any("TEMP B-TREE" in row[-1] for row in plan), plan
    assert any("SEARCH" in row[-1] for row in plan), plan
