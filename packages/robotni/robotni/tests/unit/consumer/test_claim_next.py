"""A thread that ends a run claims what waits next in the same transaction, or leaves it alone."""

import itertools
import threading
from typing import Any, List, Tuple

import pytest

from robotni.consumer.in_flight import Minder
from robotni.errors import StorageFull
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House

ENDED = ExitFacts(exit_code=0)


def submit(house: House, **fields: Any) -> Job:
    request = JobRequest.model_validate({"script": "hello.py", "venv": ".venv", **fields})
    return house.engine.submit(request).job


def running(house: House) -> Job:
    job = submit(house)
    house.store.take_ticket()
    claimed = house.executor.claim(job.job_id)
    assert claimed is not None
    return claimed


def states(house: House, *jobs: Job) -> List[str]:
    return [house.engine.get(job.job_id).status for job in jobs]


def tickets(house: House) -> int:
    count: int = house.store._db.sql("SELECT count(*) FROM task").fetchone()[0]
    return count


def ended(house: House, job: Job, minder: Minder) -> "Job | None":
    return house.executor.completer.settle(job, ENDED, minder)


def test_the_oldest_is_claimed_with_the_end(house: House) -> None:
    first, second, third = running(house), submit(house), submit(house)
    with house.executor.in_flight.thread() as minder:
        following = ended(house, first, minder)
        assert following == house.store.get(second.job_id)
        assert not house.executor.in_flight.mind(second.job_id, 1)  # the sweep leaves it alone
    assert states(house, first, second, third) == ["completed", "running", "pending"]
    assert tickets(house) == 1
    assert house.executor.in_flight.mind(second.job_id, 1)
    assert house.store.take_ticket() is not None
    assert house.store.take_ticket() is None


def test_the_next_run_has_a_folder_before_it_is_claimed(house: House) -> None:
    """So where it is gone later, that is no sign that the run never started."""
    first, second = running(house), submit(house)
    folder = house.datadir.jobs / second.job_id
    assert not folder.exists()
    with house.executor.in_flight.thread() as minder:
        ended(house, first, minder)
    assert (folder / "1").is_dir()


def test_what_another_thread_has_is_left_to_it(house: House) -> None:
    first, second, third = running(house), submit(house), submit(house)
    house.store.take_ticket()
    with house.executor.in_flight.thread() as minder:
        following = ended(house, first, minder)
    assert following is not None
    assert following.job_id == third.job_id
    assert house.executor.claim(second.job_id) is not None


def test_a_ticket_of_what_was_cancelled_is_dropped(house: House) -> None:
    first, second = running(house), submit(house)
    house.engine.cancel(second.job_id)
    with house.executor.in_flight.thread() as minder:
        assert ended(house, first, minder) is None
    assert (states(house, first, second), tickets(house)) == (["completed", "cancelled"], 0)


def test_what_waited_too_long_expires_with_the_end(house: House) -> None:
    first, second = running(house), submit(house, expires=60)
    house.clock.now += 61
    with house.executor.in_flight.thread() as minder:
        assert ended(house, first, minder) is None
    late = house.engine.get(second.job_id)
    assert late.error is not None
    assert (late.status, late.error.code, tickets(house)) == ("failed", "expired", 0)


def test_a_late_end_claims_nothing(house: House) -> None:
    first = running(house)
    house.executor.completer.settle(first, ENDED)
    second = submit(house)
    with house.executor.in_flight.thread() as minder:
        assert ended(house, first, minder) is None
    assert states(house, second) == ["pending"]
    assert house.store.take_ticket() is not None


def test_on_a_full_disk_neither_end_nor_claim_is_there_and_nobody_minds(house: House) -> None:
    first, second = running(house), submit(house, stdin="x" * 500_000)
    sql = house.store._db.sql
    (pages,) = sql("PRAGMA page_count").fetchone()
    sql("CREATE TRIGGER fill AFTER UPDATE ON job WHEN NEW.status = 'running' BEGIN "
        "INSERT INTO clean_day VALUES (hex(randomblob(1000000))); END")  # fmt: skip
    with house.store._db.write():
        sql(f"PRAGMA max_page_count = {pages}")
    with house.executor.in_flight.thread() as minder:
        with pytest.raises(StorageFull):
            house.executor.completer._settle_once(first, ENDED, {}, minder)
        assert house.executor.in_flight.mind(second.job_id, 1)
    assert (states(house, first, second), tickets(house)) == (["running", "pending"], 1)
    with house.store._db.write():
        sql(f"PRAGMA max_page_count = {pages + 10_000}")
    sql("DROP TRIGGER fill")
    assert house.store.take_ticket() is not None  # it is handed out again


def test_the_next_run_begins_when_it_is_claimed(house: House) -> None:
    first, _ = running(house), submit(house)
    times = itertools.count(house.clock.now + 1)
    house.executor.completer._clock = lambda: next(times)
    with house.executor.in_flight.thread() as minder:
        following = ended(house, first, minder)
    assert following is not None
    assert following.started_at == house.clock.now + 2  # after the wait for the file


def chain(house: House) -> Tuple[Job, Job]:
    """Two jobs, of which a thread has been given the first, and is done."""
    first, second = submit(house), submit(house)
    house.store.take_ticket()
    thread = threading.Thread(target=house.executor.run, args=(first.job_id,))
    thread.start()
    thread.join()
    return first, second


def test_one_thread_runs_all_that_waits(house: House) -> None:
    jobs = chain(house)
    assert states(house, *jobs) == ["completed", "completed"]
    assert house.executor.in_flight.idle_seconds() > 0


def test_an_orphan_comes_before_what_waits(house: House) -> None:
    house.executor.orphans.append(running(house))
    jobs = chain(house)
    assert states(house, *jobs) == ["completed", "pending"]
