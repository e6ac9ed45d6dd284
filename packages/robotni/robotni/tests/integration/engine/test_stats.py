"""The statistics: which bucket a job is counted in, and what counting may cost."""

import math
from typing import Any, Callable

import pytest

from robotni.engine.stats import Stats
from robotni.jobs.models import Job, JobError, new_job_id
from robotni.tests.calls import problem
from robotni.tests.conftest import House
from robotni.tests.processes import Server


def end(house: House, at: float, took: float = 1.0, verb: str = "complete") -> None:
    """Stores a job that started `took` seconds before `at` and ended then by `verb`."""
    job_id = new_job_id(at - took)
    waiting = Job(job_id=job_id, type="add", timestamp=at - took)
    house.store.insert_all([waiting], 10**6)
    if verb == "cancel":
        house.store.transition("cancel", job_id, finished_at=at)
        return
    job = house.store.claim(waiting, at - took)
    assert job is not None
    error = JobError(code="timeout", message="it took too long") if verb == "fail" else None
    columns = {"finished_at": at, "error": error}
    assert house.store.complete(verb, job, columns, False, None, at)[0]


def buckets(house: House, window: str = "1h") -> Any:
    return Stats(house.store, house.clock).buckets(window)


def test_an_hour_has_a_bucket_a_minute_and_a_day_one_each_half_hour(
    house: House,
) -> None:
    house.clock.now = 1_790_000_000.0  # 14:13:20
    hour, day = buckets(house), buckets(house, "24h")
    assert (len(hour), len(day)) == (60, 48)
    assert hour[-1] == {
        "start": "2026-09-21T14:13:00.000Z",
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "p50Seconds": None,
        "p95Seconds": None,
    }
    assert hour[0]["start"] == "2026-09-21T13:14:00.000Z"
    assert day[-1]["start"] == "2026-09-21T14:00:00.000Z"
    assert day[0]["start"] == "2026-09-20T14:30:00.000Z"


def test_a_job_is_counted_in_the_bucket_of_its_end_and_by_its_state(house: House) -> None:
    now = house.clock.now = 1_790_000_000.0
    minute = now // 60 * 60
    for at in (minute, minute + 0.001, now):
        end(house, at)
    end(house, minute - 0.001, verb="fail")
    end(house, minute - 60, verb="cancel")
    end(house, minute - 59 * 60)
    end(house, minute - 59 * 60 - 0.001)  # the minute before the first
    found = [(b["completed"], b["failed"], b["cancelled"]) for b in buckets(house)]
    assert found == [(1, 0, 0), *[(0, 0, 0)] * 57, (0, 1, 1), (3, 0, 0)]
    assert sum(b["completed"] for b in buckets(house, "24h")) == 5


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100])
def test_percentiles_are_those_of_completed_and_failed_runs(house: House, count: int) -> None:
    now = house.clock.now
    for seconds in range(1, count + 1):
        end(house, now, float(seconds), verb="fail" if seconds % 3 == 0 else "complete")
    end(house, now, 1000.0, verb="cancel")
    last = buckets(house)[-1]
    assert last["p50Seconds"] == math.ceil(0.5 * count)
    assert last["p95Seconds"] == math.ceil(0.95 * count)


def test_a_job_that_never_started_has_no_duration(house: House) -> None:
    end(house, house.clock.now, verb="cancel")
    last = buckets(house)[-1]
    assert (last["cancelled"], last["p50Seconds"]) == (1, None)


def test_counting_reads_only_the_index_and_only_the_part_of_the_window(house: House) -> None:
    executed = []
    original = house.store._db.sql

    def record(statement: str, values: Any = ()) -> Any:
        executed.append((statement, values))
        return original(statement, values)

    house.store._db.sql = record  # type: ignore[method-assign]
    house.store.ended_buckets(0, 60)
    assert len(executed) == 2
    for statement, values in executed:
        plan = original(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        uses = [row[-1] for row in plan if " job" in row[-1]]
        assert len(uses) == 1, plan
        assert "USING COVERING INDEX job_ended (finished_at>?)" in uses[0]


def test_a_result_is_cached_for_each_window(house: House) -> None:
    stats = Stats(house.store, house.clock)
    first = stats.buckets("1h")
    end(house, house.clock.now)
    assert stats.buckets("1h") is first
    assert stats.buckets("24h")[-1]["completed"] == 1


def test_the_counts_of_all_that_ever_ended_survive_the_clean_up(house: House) -> None:
    now = house.clock.now
    end(house, now)
    end(house, now)
    end(house, now, verb="fail")
    end(house, now, verb="cancel")
    ended = [("cancelled", "", 1), ("completed", "", 2), ("failed", "timeout", 1)]
    assert house.store.ended_totals() == ended
    house.store.retention.delete_ended(house.store.retention.ended_before(now + 1, 10), now)
    assert sum(house.store.counts().values()) == 0
    assert house.store.ended_totals() == ended


def test_the_statistics_over_http(make_server: Callable[..., Server]) -> None:
    server = make_server()
    job_id = server.client.submit({"type": "add", "params": {"x": 1, "y": 2}})["jobId"]
    server.wait_for(job_id)
    for window, count in (("1h", 60), ("24h", 48)):
        found = server.http.get("/api/worker/stats", params={"window": window}).json()["buckets"]
        assert len(found) == count
        assert sum(bucket["completed"] for bucket in found) == 1
        assert max(bucket["p95Seconds"] or 0 for bucket in found) > 0
    answer = server.http.get("/api/worker/stats", params={"window": "1w"})
    assert problem(answer, 422)["errors"][0]["pointer"] == "/window"
