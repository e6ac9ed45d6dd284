"""Submits that arrive together: stored in one transaction, each with its own result."""

from typing import Any, Callable, List

import pytest

from robotni.engine.submit import SubmitRequest, Submitted
from robotni.errors import InvalidRequest, QueueFull, StorageFull
from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House, statements

HELLO = {"script": "hello.py", "venv": ".venv"}


def a_request(key: Any = None, digest: str = "digest", **fields: Any) -> SubmitRequest:
    return SubmitRequest(lambda: JobRequest(**{**HELLO, **fields}), key, lambda: digest)


def stored(house: House) -> List[str]:
    return sorted(job_id for (job_id,) in house.store._db.sql("SELECT job_id FROM job").fetchall())


def ids(results: List[Any]) -> List[str]:
    return sorted({r.job.job_id for r in results if isinstance(r, Submitted)})


def test_submits_that_arrive_together_are_stored_in_one_transaction(house: House) -> None:
    executed: List[str] = []
    with statements(house, executed):
        results = house.engine.submit_all([a_request() for _ in range(5)])
    assert sum(s == "COMMIT" for s in executed) == 1
    assert len(ids(results)) == 5
    assert ids(results) == stored(house)
    assert [house.executor.reserve_next() is not None for _ in range(6)] == [True] * 5 + [False]


def test_each_submit_has_its_own_result(house: House) -> None:
    good, missing, wrong, late = house.engine.submit_all(
        [a_request(), a_request(script="gone.py"), a_request(timeout=1e9), a_request(delay=60)]
    )
    assert isinstance(missing, InvalidRequest)
    assert "gone.py does not exist" in str(missing.errors)
    assert isinstance(wrong, InvalidRequest)
    assert "/timeout" in str(wrong.errors)
    assert isinstance(good, Submitted)
    assert isinstance(late, Submitted)
    assert (good.job.status, late.job.status) == ("pending", "scheduled")
    assert stored(house) == ids([good, late])


def test_as_many_submits_are_accepted_as_there_is_room_for(
    make_house: Callable[..., House],
) -> None:
    house = make_house(max_pending=3)
    results = house.engine.submit_all([a_request() for _ in range(5)])
    assert [isinstance(result, QueueFull) for result in results] == [False] * 3 + [True] * 2
    assert stored(house) == ids(results)


def test_one_key_makes_one_job_also_among_submits_that_arrive_together(house: House) -> None:
    first, again, other, none = house.engine.submit_all(
        [a_request("key"), a_request("key"), a_request("key", "other digest"), a_request()]
    )
    assert isinstance(first, Submitted)
    assert isinstance(again, Submitted)
    assert (first.replayed, again.replayed) == (False, True)
    assert isinstance(other, InvalidRequest)
    assert ids([first, again, none]) == stored(house)
    assert len(stored(house)) == 2


def test_an_unexpected_error_in_one_submit_does_not_affect_the_others(house: House) -> None:
    def broken(*given: Any) -> Job:
        raise ZeroDivisionError

    bad = JobRequest(**HELLO).model_copy(update={"project": "\ud800"})  # SQLite cannot store it
    good, unprepared, unstored, last = house.engine.submit_all(
        [a_request(), SubmitRequest(broken), SubmitRequest(lambda: bad), a_request()]
    )
    assert isinstance(unprepared, ZeroDivisionError)
    assert isinstance(unstored, UnicodeEncodeError)
    assert stored(house) == ids([good, last])
    assert len(stored(house)) == 2


def test_on_a_full_disk_every_submit_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.store._db.write():
        (pages,) = house.store._db.sql("PRAGMA page_count").fetchone()
        house.store._db.sql(f"PRAGMA max_page_count = {pages}").fetchone()
    results = house.engine.submit_all([a_request(args=["x" * 30_000]) for _ in range(9)])
    assert {type(result) for result in results} == {StorageFull}
    assert stored(house) == []
    monkeypatch.setattr("robotni.engine.submit.DISK_RESERVE", 1 << 62)
    full, wrong = house.engine.submit_all([a_request(), a_request(script="gone.py")])
    assert isinstance(full, StorageFull)
    assert isinstance(wrong, InvalidRequest)


def test_the_worker_is_woken_up_once_after_all_jobs_are_stored(
    make_house: Callable[..., House],
) -> None:
    house = make_house()
    stored_at_notify: List[int] = []
    house.engine._submitter._notify = lambda: stored_at_notify.append(len(stored(house)))
    house.engine.submit_all([a_request(), a_request(), a_request(script="gone.py")])
    assert stored_at_notify == [2]
    house.engine.submit_all([a_request(delay=60), a_request(script="gone.py")])
    assert stored_at_notify == [2]
