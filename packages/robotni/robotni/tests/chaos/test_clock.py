"""Clocks that jump, nights that change the time, machines that sleep."""

import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Iterator

import pytest

from robotni.jobs.request import JobRequest
from robotni.shim.cancel_fifo import CancelFifo
from robotni.shim.run import Run
from robotni.shim.standby import Standby
from robotni.tests.conftest import House
from robotni.tests.processes import eventually

HOUR = 3600.0
NIGHTS = {"summer begins": (2026, 3, 28), "summer ends": (2026, 10, 24)}


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    if time.tzname != ("CET", "CEST"):
        pytest.skip("this machine has no time zones (apt install tzdata)")
    yield
    monkeypatch.undo()
    time.tzset()


def cleanings(house: House) -> int:
    rows = house.store._db.sql("SELECT count(*) FROM clean_day").fetchone()
    return int(rows[0])


@pytest.mark.parametrize("night", NIGHTS)
def test_the_clean_up_runs_once_a_local_date_through_a_night_that_changes_the_time(
    house: House, berlin: None, night: str
) -> None:
    start = datetime(*NIGHTS[night], 12).timestamp()
    days = set()
    claimed = []
    claim_day = house.store.retention.claim_day

    def counting(day: str) -> bool:
        won = claim_day(day)
        claimed.extend([day] if won else [])
        return won

    house.store.retention.claim_day = counting  # type: ignore[method-assign]
    for quarter in range(4 * 48):
        house.clock.now = start + quarter * HOUR / 4
        days.add(datetime.fromtimestamp(house.clock.now).date().isoformat())
        house.maintenance.run()
    assert claimed == sorted(days)
    assert len(days) == 3


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR])
def test_a_clock_that_jumps_cleans_no_date_twice(house: House, berlin: None, jump: float) -> None:
    house.clock.now = datetime(2026, 6, 1, 0, 30).timestamp()
    house.maintenance.run()
    before = cleanings(house)
    house.clock.now += jump
    house.maintenance.run()
    house.clock.now -= jump
    house.maintenance.run()
    assert cleanings(house) - before == (1 if jump < 0 else 0)  # the evening before is a date too


def test_after_three_days_asleep_it_cleans_once_and_starts_what_was_due_once(
    house: House,
) -> None:
    house.maintenance.run()
    request = JobRequest(script="hello.py", venv=".venv", delay=HOUR)
    jobs = [house.engine.submit(request).job for _ in range(3)]
    before = cleanings(house)
    house.clock.now += 72 * HOUR
    for _ in range(5):
        house.maintenance.run()
    assert cleanings(house) - before == 1
    reserved = [house.executor.reserve_next() for _ in range(4)]
    assert sum(job is not None for job in reserved) == 3
    assert {house.engine.get(job.job_id).status for job in jobs} == {"pending"}


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR])
def test_a_clock_that_jumps_neither_loses_nor_doubles_what_is_scheduled(
    house: House, jump: float
) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv", delay=HOUR)).job
    house.clock.now += jump
    house.maintenance.run()
    assert house.engine.get(job.job_id).status == ("pending" if jump > 0 else "scheduled")
    house.clock.now -= jump
    house.maintenance.run()
    house.clock.now += 1.1 * HOUR
    house.maintenance.run()
    assert house.executor.reserve_next() is not None
    assert house.executor.reserve_next() is None


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR])
def test_a_timeout_does_not_look_at_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    folder = tmp_path / "jobs" / "job" / "1"
    folder.mkdir(parents=True)
    spec = {
        "folder": str(folder),
        "jobs": str(tmp_path / "jobs"),
        "argv": [os.path.realpath("/proc/self/exe"), "-S", "-c", "import time; time.sleep(60)"],
        "cwd": str(tmp_path),
        "env": {},
        "timeout": 1.0,
        "grace": 1,
        "maxOutput": 1000,
        "mark": 1 << 61,
    }
    wall, asked = time.time, []

    def jumping() -> float:
        asked.append(1)
        return wall() + (jump if len(asked) > 1 else 0)

    wake, writer = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(writer, False)
    died = signal.signal(signal.SIGCHLD, lambda number, frame: None)  # as a shim does
    signal.set_wakeup_fd(writer)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr("robotni.shim.run.time.time", jumping)
        run = Run(spec, wake, CancelFifo(), None, Standby())
        assert run.start()
        run.end()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, died)
    os.close(wake)
    os.close(writer)
    assert run.stopped_by == "timeout"
    assert 1.0 <= time.monotonic() - began < 3.0  # the grace is in it: nobody wakes this run
    eventually((folder / "exit.json").exists)
