"""Autostart without notifications: what the thread finds by itself, and how often it looks."""

import time
from pathlib import Path
from typing import Iterator, List

import pytest

import robotni
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House
from robotni.tests.processes import end_all, eventually
from robotni.web import autostart

NEVER = 3600.0


class Web:
    """A web application in this process that has nothing to do, and another process's engine, which
    stores jobs and notifies nobody, like one that was killed in between."""

    def __init__(self, project: Path) -> None:
        self.other = House(project)
        self.other.clock.now = time.time()
        self.other.maintenance.clean()
        self.app = robotni.create_app(project, idle_exit=0.2, kill_grace=1)
        self.autostart = self.app.state.autostart

    def store(self, **fields: float) -> str:
        self.other.clock.now = time.time()
        request = JobRequest(script="hello.py", venv=".venv", **fields)  # type: ignore[arg-type]
        return str(self.other.engine.submit(request).job.job_id)

    def ends(self, job_id: str) -> bool:
        return bool(eventually(lambda: self.app.state.engine.get(job_id).is_terminal))

    def close(self) -> None:
        self.autostart.stop()
        self.other.close()
        end_all(self.other.project)


@pytest.fixture
def web(project: Path) -> Iterator[Web]:
    web = Web(project)
    try:
        yield web
    finally:
        web.close()


def count_checks(web: Web, monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """When the thread asked whether a worker is needed, from now on."""
    checks: List[float] = []
    ask = web.autostart._needs_worker_in

    def ask_and_note() -> float:
        checks.append(time.monotonic())
        return float(ask())

    monkeypatch.setattr(web.autostart, "_needs_worker_in", ask_and_note)
    return checks


def test_a_job_whose_submitter_was_killed_before_it_notified_is_run(web: Web) -> None:
    web.autostart.start()
    time.sleep(0.3)  # the first check has found nothing to do
    began = time.monotonic()
    assert web.ends(web.store())
    assert time.monotonic() - began < 5


def test_a_scheduled_job_is_run_when_it_is_due_and_not_at_the_next_check(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = web.store(delay=1.5)
    monkeypatch.setattr(autostart, "CHECK_INTERVAL", NEVER)
    web.autostart.start()
    assert web.ends(job_id)


def test_while_nothing_is_to_do_it_checks_once_a_second(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.store(delay=86400.0)
    checks = count_checks(web, monkeypatch)
    web.autostart.start()
    time.sleep(3.5)
    assert 3 <= len(checks) <= 4


def test_a_notification_is_checked_at_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostart, "CHECK_INTERVAL", NEVER)
    monkeypatch.setattr(web.autostart, "_needs_worker_in", lambda: NEVER)
    checks = count_checks(web, monkeypatch)
    web.autostart.start()
    eventually(lambda: len(checks) == 1)
    for number in (2, 3, 4):
        web.autostart.notify()
        eventually(lambda number=number: len(checks) == number)


def test_a_notification_during_a_check_leads_to_another_check(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autostart, "CHECK_INTERVAL", NEVER)
    checks = []

    def notify_during_the_first_check() -> float:
        checks.append(len(checks))
        if len(checks) == 1:
            web.autostart.notify()
        return NEVER

    monkeypatch.setattr(web.autostart, "_needs_worker_in", notify_during_the_first_check)
    web.autostart.start()
    eventually(lambda: len(checks) == 2)


def test_it_can_be_stopped_and_started_again(web: Web) -> None:
    for _ in range(3):
        web.autostart.start()
        assert web.autostart._is_checking()
        web.autostart.stop()
        assert not web.autostart._is_checking()


def test_a_failing_check_does_not_end_the_checks(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> float:
        raise OSError("the disk is full")

    monkeypatch.setattr(autostart, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(web.autostart, "_needs_worker_in", fail)
    web.autostart.start()
    eventually(lambda: caplog.text.count("failed start of a worker") >= 2)
