"""The record of a job, ids and times."""

import json
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.jobs import models as models_module
from robotni.jobs.models import (
    Attempt,
    Job,
    JobError,
    Progress,
    local_date,
    new_job_id,
    next_midnight,
    rfc3339,
)
from robotni.jobs.states import CANCELLED, PENDING, RUNNING

NOW = 1_790_000_000.0
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
BRAZIL = "<-03>3<-02>,M10.3.0/0,M2.3.0/0"  # the clock goes from midnight to one, and back
TIMES = st.floats(min_value=NOW - 40 * 365 * 86400, max_value=NOW + 100 * 365 * 86400)


def a_job(**fields: Any) -> Job:
    return Job(**{"job_id": new_job_id(NOW), "timestamp": NOW, "script": "/srv/a.py", **fields})


# the record


def test_the_codes_of_errors_are_those_of_the_contract() -> None:
    codes = {"exit_nonzero", "signalled", "timeout", "out_of_memory", "spawn_failed", "lost"}
    assert set(get_args(JobError.model_fields["code"].annotation)) == codes | {
        "expired",
        "result_invalid",
    }


def test_the_record_has_the_fields_of_the_contract_and_no_others() -> None:
    fields = (
        "jobId type project status timestamp output script module venv args params cwd env "
        "warm preload timeout expires attempt maxAttempts retryOf runAt startedAt finishedAt "
        "cancelRequestedAt exitCode signal error progress result outputBytes outputTruncated "
        "attempts"
    )
    shown = json.loads(a_job().model_dump_json(by_alias=True))
    assert " ".join(shown) == fields


def test_the_record_is_written_as_in_the_contract() -> None:
    job = a_job(
        status=RUNNING,
        started_at=NOW,
        run_at=NOW + 0.0004,
        progress=Progress(percent=40, message="half"),
        attempts=[Attempt(attempt=1, started_at=NOW, run=5)],
    )
    shown = json.loads(job.model_dump_json(by_alias=True))
    assert shown["startedAt"] == shown["runAt"] == "2026-09-21T14:13:20.000Z"
    assert shown["progress"] == {"percent": 40.0, "message": "half"}
    assert shown["attempts"] == [
        {
            "attempt": 1,
            "startedAt": "2026-09-21T14:13:20.000Z",
            "finishedAt": None,
            "exitCode": None,
            "signal": None,
            "error": None,
        }
    ]


def test_the_values_of_env_and_stdin_are_not_shown() -> None:
    job = a_job(env={"B": "s3cret", "A": "s3cret"}, stdin="s3cret", idempotency_key="s3cret")
    text = job.model_dump_json(by_alias=True)
    assert "s3cret" not in text
    assert json.loads(text)["env"] == ["A", "B"]


def test_the_run_of_an_attempt_is_found_also_while_it_runs() -> None:
    ended = Attempt(attempt=1, started_at=NOW, run=4)
    job = a_job(status=RUNNING, attempt=2, run=7, attempts=[ended])
    assert [job.run_of(n) for n in (0, 1, 2, 3)] == [None, 4, 7, None]
    assert a_job(status=PENDING, attempt=1, run=4, attempts=[ended]).run_of(1) == 4
    assert a_job(status=CANCELLED).run_of(0) is None


# ids and times


def test_an_id_is_a_uuidv7_with_its_millisecond() -> None:
    job_id = new_job_id(NOW + 0.25)
    as_uuid = uuid.UUID(job_id)
    assert (as_uuid.version, as_uuid.variant, as_uuid.hex) == (7, uuid.RFC_4122, job_id)
    assert int(job_id[:12], 16) == int((NOW + 0.25) * 1000)


@settings(deadline=None)
@given(TIMES, st.floats(min_value=2e-6, max_value=1e9))
def test_ids_sort_by_creation_time(now: float, later: float) -> None:
    assert new_job_id(now) < new_job_id(now + later)


def test_ids_of_the_same_moment_differ() -> None:
    assert len({new_job_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW, "2026-09-21T14:13:20.000Z"),
        (NOW + 0.0124, "2026-09-21T14:13:20.012Z"),
        (NOW + 0.0126, "2026-09-21T14:13:20.013Z"),
        (NOW + 0.9996, "2026-09-21T14:13:21.000Z"),
        (1_798_761_599.9999, "2027-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_rounded_to_milliseconds(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone, as a POSIX rule, which needs no zone files."""

    def set_zone(rule: str) -> None:
        monkeypatch.setenv("TZ", rule)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "rule, now, hours",
    [
        ("UTC0", "2026-03-10 00:00", 24),
        ("UTC0", "2026-12-31 23:00", 1),
        (BERLIN, "2026-03-28 00:00", 24),
        (BERLIN, "2026-03-29 00:00", 23),  # summer time begins
        (BERLIN, "2026-10-25 00:00", 25),  # and ends
        (BERLIN, "2026-10-25 12:00", 12),
        (BRAZIL, "2026-10-17 12:00", 12),  # the next day begins at one
        (BRAZIL, "2026-10-18 01:00", 23),
        (BRAZIL, "2026-02-14 12:00", 13),  # the last hour of the day comes twice
        ("<+1245>-12:45", "2026-06-01 12:30", 11.5),
    ],
)
def test_the_next_midnight_is_local_and_respects_summer_time(
    zone: Callable[[str], None], rule: str, now: str, hours: float
) -> None:
    zone(rule)
    start = time.mktime(time.strptime(now, "%Y-%m-%d %H:%M"))
    assert next_midnight(start) - start == hours * 3600


@pytest.mark.parametrize("rule", ["UTC0", BERLIN, BRAZIL, "<+14>-14", "<-12>12"])
def test_the_local_date_changes_at_the_next_midnight_and_not_before(
    zone: Callable[[str], None], rule: str
) -> None:
    zone(rule)
    for hour in range(0, 400 * 24, 7):
        now = NOW + hour * 3600
        midnight = next_midnight(now)
        assert now < midnight
        assert local_date(midnight - 1) == local_date(now) < local_date(midnight)


def test_the_module_reads_no_clock() -> None:
    source = Path(models_module.__file__).read_text()
    assert "time.time" not in source and ".now(" not in source
