"""Submits that come at once: stored together, each with its own answer."""

from typing import Any, Callable, List

import pytest

from robotni.engine.submit import SubmitRequest, Submitted
from robotni.errors import InvalidRequest, QueueFull, StorageFull
from robotni.tests.conftest import House, statements
from robotni.web.problems import validated

HELLO = {"script": "hello.py", "venv": ".venv"}


def wants(key: Any = None, digest: str = "digest", **fields: Any) -> SubmitRequest:
    return SubmitRequest(lambda: validated({**HELLO, **fields}), key, lambda: digest)


def stored(house: House) -> List[str]:
    return sorted(job_id for (job_id,) in house.store._db.sql("SELECT job_id FROM job").fetchall())


def ids(outcomes: List[Any]) -> List[str]:
    return sorted({o.job.job_id for o in outcomes if isinstance(o, Submitted)})


def test_they_are_stored_in_one_transaction(house: House) -> None:
    said: List[str] = []
    with statements(house, said):
        outcomes = house.engine.submit_all([wants() for _ in range(5)])
    assert sum(s == "COMMIT" for s in said) == 1
    assert len(ids(outcomes)) == 5
    assert ids(outcomes) == stored(house)
    assert [house.store.take_ticket() is not None for _ in range(6)] == [True] * 5 + [False]


def test_each_has_its_own_answer(house: House) -> None:
    good, missing, wrong, late = house.engine.submit_all(
        [wants(), wants(script="gone.py"), wants(timeout="long"), wants(delay=60)]
    )
    assert isinstance(missing, InvalidRequest)
    assert "gone.py does not exist" in str(missing.errors)
    assert isinstance(wrong, InvalidRequest)
    assert "/timeout" in str(wrong.errors)
    assert isinstance(good, Submitted)
    assert isinstance(late, Submitted)
    assert (good.job.status, late.job.status) == ("pending", "scheduled")
    assert stored(house) == ids([good, late])


def test_as_many_as_there_is_room_for_are_taken(make_house: Callable[..., House]) -> None:
    house = make_house(max_pending=3)
    outcomes = house.engine.submit_all([wants() for _ in range(5)])
    assert [isinstance(o, QueueFull) for o in outcomes] == [False] * 3 + [True] * 2
    assert stored(house) == ids(outcomes)


def test_one_key_makes_one_job_also_at_once(house: House) -> None:
    first, again, other, none = house.engine.submit_all(
        [wants("key"), wants("key"), wants("key", "other digest"), wants()]
    )
    assert isinstance(first, Submitted)
    assert isinstance(again, Submitted)
    assert (first.replayed, again.replayed) == (False, True)
    assert isinstance(other, InvalidRequest)
    assert ids([first, again, none]) == stored(house)
    assert len(stored(house)) == 2


def test_an_error_in_one_request_fails_no_other(house: House) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    good, failed, last = house.engine.submit_all([wants(), SubmitRequest(broken), wants()])
    assert isinstance(failed, ZeroDivisionError)
    assert stored(house) == ids([good, last])
    assert len(stored(house)) == 2


def test_on_a_full_disk_nobody_is_told_of_success(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house.store._db.write():
        (pages,) = house.store._db.sql("PRAGMA page_count").fetchone()
        house.store._db.sql(f"PRAGMA max_page_count = {pages}").fetchone()
    outcomes = house.engine.submit_all([wants(args=["x" * 30_000]) for _ in range(9)])
    assert {type(outcome) for outcome in outcomes} == {StorageFull}
    assert stored(house) == []
    monkeypatch.setattr("robotni.engine.submit.DISK_RESERVE", 1 << 62)
    full, wrong = house.engine.submit_all([wants(), wants(script="gone.py")])
    assert isinstance(full, StorageFull)
    assert isinstance(wrong, InvalidRequest)


def test_the_bell_rings_once_and_after_all_are_stored(make_house: Callable[..., House]) -> None:
    house = make_house()
    seen: List[int] = []
    house.engine._submitter._notify = lambda: seen.append(len(stored(house)))
    house.engine.submit_all([wants(), wants(), wants(script="gone.py")])
    assert seen == [2]
    house.engine.submit_all([wants(delay=60), wants(script="gone.py")])
    assert seen == [2]
