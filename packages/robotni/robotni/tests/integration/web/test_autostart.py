"""The starter: what it finds though nobody rang, and how often it looks where nothing is to do."""

import os
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

import robotni
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House
from robotni.tests.processes import end_all, eventually
from robotni.web import autostart as starter
from robotni.web.inotify import Changes

with closing(Changes(Path("/"))) as root:
    needs_changes = pytest.mark.skipif(
        root.fd is None, reason="this system tells nobody of changes"
    )
NEVER = 3600.0


class Web:
    """A web application in this process that has nothing to do, and a stranger who stores jobs
    for it and notifies nobody, as one who was killed in between."""

    def __init__(self, project: Path) -> None:
        self.stranger = House(project)
        self.stranger.clock.now = time.time()
        self.stranger.maintenance.clean()
        self.app = robotni.create_app(project, idle_exit=0.2, kill_grace=1)
        self.app.state.autostart.watch()

    def rest(self) -> None:
        """Until the starter has seen that nothing is to do, also of a write."""
        self.store(delay=86400.0)
        assert self.app.state.engine.needs_worker_in() > 0
        time.sleep(2 * starter.LOOK_EVERY)

    def store(self, **fields: float) -> str:
        self.stranger.clock.now = time.time()
        request = JobRequest(script="hello.py", venv=".venv", **fields)  # type: ignore[arg-type]
        return str(self.stranger.engine.submit(request).job.job_id)

    def ends(self, job_id: str) -> bool:
        return bool(eventually(lambda: self.app.state.engine.get(job_id).is_terminal))

    def switches(self) -> int:
        """How often the starter's thread has waited so far."""
        (thread,) = [t for t in threading.enumerate() if t.name == "starter"]
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def close(self) -> None:
        self.app.state.autostart.stop()
        self.stranger.close()
        end_all(self.stranger.project)


def web_of(project: Path, monkeypatch: pytest.MonkeyPatch, looks: float) -> Iterator[Web]:
    monkeypatch.setattr(starter, "LOOK_AT_LEAST_EVERY", looks)
    web = Web(project)
    try:
        web.rest()
        yield web
    finally:
        web.close()


@pytest.fixture
def web(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """One that looks only when it has a reason."""
    yield from web_of(project, monkeypatch, NEVER)


@needs_changes
def test_a_job_whose_submitter_was_killed_before_he_rang_is_run(web: Web) -> None:
    assert web.ends(web.store())


@needs_changes
def test_a_job_of_which_nobody_told_is_run_when_it_is_due(web: Web) -> None:
    job_id = web.store(delay=2.5)
    time.sleep(1.5)  # the write has been seen by now
    assert web.ends(job_id)


@needs_changes
def test_a_write_shortly_before_a_job_is_due_does_not_make_it_late(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = web.store(delay=3.0)
    time.sleep(1.5)  # that write has been seen by now
    monkeypatch.setattr(starter, "LOOK_EVERY", NEVER)
    web.store(delay=86400.0)
    assert web.ends(job_id)


@needs_changes
def test_where_nothing_is_to_do_the_starter_sleeps(web: Web) -> None:
    before = web.switches()
    time.sleep(4 * starter.LOOK_EVERY)
    assert web.switches() - before <= 1


@needs_changes
def test_who_stores_much_for_tomorrow_has_it_look_twice_a_second(web: Web) -> None:
    before, began, stored = web.switches(), time.monotonic(), 0
    while time.monotonic() - began < 2 or stored < 50:
        web.store(delay=86400.0)
        stored += 1
        time.sleep(0.005)
    looks = (time.monotonic() - began) / starter.LOOK_EVERY
    assert web.switches() - before < 5 * looks + 10 < 5 * stored


@pytest.mark.parametrize("told", [True, False])
def test_it_looks_now_and_then_though_nothing_was_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """A clock that is set forward makes a job due; and not every kernel tells of changes."""

    def deaf(folder: Path) -> Changes:
        return Changes(project / ".venv" if told else project / "missing")

    monkeypatch.setattr(starter, "Changes", deaf)
    for web in web_of(project, monkeypatch, 1.0 if told else NEVER):
        assert web.ends(web.store())


def test_changes_are_told_until_they_are_forgotten(tmp_path: Path) -> None:
    def is_told() -> bool:
        return changes.fd in starter._ready(0, changes.fd or -1)

    changes: Changes = Changes(tmp_path)
    if changes.fd is None:
        pytest.skip("this system tells nobody of changes")
    assert not is_told()
    (tmp_path / "file").write_text("text")
    assert is_told() and is_told()
    changes.forget()
    assert not is_told()
    (tmp_path / "file").read_text()
    assert not is_told()
    changes.close()
    changes.close()
    changes.forget()


def test_of_a_folder_that_is_not_there_nothing_is_told(tmp_path: Path) -> None:
    fd: Optional[int] = Changes(tmp_path / "missing").fd
    assert fd is None


@needs_changes
def test_who_stops_it_leaves_nothing_open(web: Web) -> None:
    web.app.state.autostart.stop()
    before = len(ears())
    for _ in range(3):
        web.app.state.autostart.watch()
        eventually(lambda: len(ears()) == before + 3)
        web.app.state.autostart.stop()
        assert len(ears()) == before


def ears() -> List[str]:
    """What this process has open to hear by: a pair of sockets, and the kernel's word."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.append(os.readlink(path))
    return [what for what in found if what.startswith(("socket:", "anon_inode:inotify"))]
