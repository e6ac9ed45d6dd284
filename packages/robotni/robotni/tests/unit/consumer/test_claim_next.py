"""A thread that ends a run claims the next job in the same transaction."""

import threading
from typing import Any, List, Optional

import pytest

from robotni.errors import StorageFull
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House

ENDED = ExitFacts(exit_code=0)


def submit(house: House, **fields: Any) -> Job:
    house.clock.now += 1  # jobs of one moment have no order
    request = JobRequest.model_validate({"script": "hello.py", "venv": ".venv", **fields})
    return house.engine.submit(request).job


def running(house: House) -> Job:
    claimed = house.claim(submit(house).job_id)
    assert claimed is not None
    return claimed


def states(house: House, *jobs: Job) -> List[str]:
    return [house.engine.get(job.job_id).status for job in jobs]


def complete(house: House, job: Job) -> Optional[Job]:
    """Ends a run as a thread does: reserves the next job, and claims it with the end."""
    waiting = house.executor.reserve_next()
    return house.executor.completer._complete(job, ENDED, {}, waiting)


def test_the_job_that_waits_longest_is_claimed_with_the_end(house: House) -> None:
    first, second, third = running(house), submit(house), submit(house)
    claimed = complete(house, first)
    assert claimed == house.store.get(second.job_id)
    assert states(house, first, second, third) == ["completed", "running", "pending"]


def test_a_job_is_reserved_once(house: House) -> None:
    jobs = [submit(house) for _ in range(2)]
    reserved = [house.executor.reserve_next() for _ in range(3)]
    assert [job.job_id if job else None for job in reserved] == [*(j.job_id for j in jobs), None]
    house.executor.in_flight.remove(jobs[0].job_id)
    assert house.executor.reserve_next() == house.store.get(jobs[0].job_id)


def test_a_job_that_another_thread_has_is_not_run(house: House) -> None:
    job = submit(house)
    thread = threading.Thread(target=house.executor.in_flight.add, args=(job.job_id,))
    thread.start()
    thread.join()
    house.executor.run(job.job_id)
    assert states(house, job) == ["pending"]
    assert house.executor.in_flight.ids() == [job.job_id]


def test_a_job_that_was_cancelled_meanwhile_is_not_claimed(house: House) -> None:
    first, second = running(house), submit(house)
    waiting = house.executor.reserve_next()
    house.engine.cancel(second.job_id)
    assert house.executor.completer._complete(first, ENDED, {}, waiting) is None
    assert states(house, first, second) == ["completed", "cancelled"]


def test_a_job_that_waited_too_long_expires_with_the_end(house: House) -> None:
    first, second = running(house), submit(house, expires=60)
    house.clock.now += 61
    assert complete(house, first) is None
    late = house.engine.get(second.job_id)
    assert late.error is not None
    assert (late.status, late.error.code) == ("failed", "expired")


def test_a_late_end_claims_nothing(house: House) -> None:
    first = running(house)
    house.executor.completer.complete(first, ENDED)
    second = submit(house)
    assert complete(house, first) is None
    assert states(house, second) == ["pending"]


def test_on_a_full_disk_neither_the_end_nor_the_claim_is_stored(house: House) -> None:
    first, second = running(house), submit(house, stdin="x" * 500_000)
    sql = house.store._db.sql
    (pages,) = sql("PRAGMA page_count").fetchone()
    sql("CREATE TRIGGER fill AFTER UPDATE ON job WHEN NEW.status = 'running' BEGIN "
        "INSERT INTO clean_day VALUES (hex(randomblob(1000000))); END")  # fmt: skip
    with house.store._db.write():
        sql(f"PRAGMA max_page_count = {pages}")
    waiting = house.executor.reserve_next()
    with pytest.raises(StorageFull):
        house.executor.completer._complete_once(first, ENDED, {}, waiting)
    assert states(house, first, second) == ["running", "pending"]


def test_one_thread_runs_all_that_waits(house: House) -> None:
    first, second = submit(house), submit(house)
    house.executor.run(first.job_id)
    assert states(house, first, second) == ["completed", "completed"]
    assert len(house.executor.in_flight) == 0
    assert house.executor.in_flight.idle_seconds() > 0


def test_a_run_to_adopt_comes_before_the_jobs_that_wait(house: House) -> None:
    house.executor.recovery._to_adopt.append(running(house))
    first, second = submit(house), submit(house)
    house.executor.run(first.job_id)
    assert states(house, first, second) == ["completed", "pending"]
    assert len(house.executor.in_flight) == 0
