"""Writes of several threads in one transaction: stored together, failing apart."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, List

import pytest

from robotni.errors import StorageFull
from robotni.system.locks import release_lock, take_lock
from robotni.tests.conftest import House
from robotni.tests.processes import eventually

BIG = "INSERT INTO clean_day VALUES (hex(randomblob(1000000)))"


class Crowd:
    """Threads that all wait for the file, which somebody else has."""

    def __init__(self, house: House) -> None:
        self.db = house.store._db
        self._pool = ThreadPoolExecutor(8)
        self._turn = take_lock(house.datadir.path / "write.lock")

    def wants(self, work: Callable[[], Any]) -> "Future[Any]":
        before = len(self.db._shares)
        future = self._pool.submit(self.db.together, work)
        eventually(lambda: len(self.db._shares) == before + 1)
        return future

    def go(self) -> None:
        release_lock(self._turn)
        self._pool.shutdown()


@pytest.fixture
def crowd(house: House) -> Crowd:
    return Crowd(house)


def days(crowd: Crowd) -> List[str]:
    return [day for (day,) in crowd.db.sql("SELECT day FROM clean_day ORDER BY day").fetchall()]


def storing(crowd: Crowd, day: str) -> Callable[[], Any]:
    def store() -> Any:
        crowd.db.sql("INSERT INTO clean_day VALUES (?)", (day,))
        return day, threading.get_ident(), crowd.db.sql("SELECT total_changes()").fetchone()

    return store


def test_all_that_wait_are_stored_by_one_of_them_and_each_has_its_own_result(crowd: Crowd) -> None:
    futures = [crowd.wants(storing(crowd, str(number))) for number in range(5)]
    crowd.go()
    results = [future.result() for future in futures]
    assert [day for day, _, _ in results] == days(crowd) == list("01234")
    assert len({thread for _, thread, _ in results}) == 1
    assert len({changes for _, _, changes in results}) == 5


def test_what_one_raises_undoes_its_own_part_alone(crowd: Crowd) -> None:
    def fail() -> None:
        storing(crowd, "never")()
        raise ValueError("its own")

    first = crowd.wants(storing(crowd, "1"))
    failing, twice = crowd.wants(fail), crowd.wants(storing(crowd, "1"))
    last = crowd.wants(storing(crowd, "2"))
    crowd.go()
    assert (first.result()[0], last.result()[0]) == ("1", "2")
    with pytest.raises(ValueError, match="its own"):
        failing.result()
    with pytest.raises(Exception, match="UNIQUE"):
        twice.result()
    assert days(crowd) == ["1", "2"]


def test_what_one_raises_alone_undoes_it(house: House) -> None:
    def fail() -> None:
        house.store._db.sql("INSERT INTO clean_day VALUES ('never')")
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        house.store._db.together(fail)
    assert house.store.retention.claim_day("later")
    assert not house.store.retention.is_clean("never")


def test_on_a_full_disk_nobody_is_told_of_success(crowd: Crowd) -> None:
    def fill() -> None:
        (pages,) = crowd.db.sql("PRAGMA page_count").fetchone()
        crowd.db.sql(f"PRAGMA max_page_count = {pages}")
        crowd.db.sql(BIG)

    futures = [crowd.wants(work) for work in (storing(crowd, "1"), fill, storing(crowd, "2"))]
    crowd.go()
    for future in futures:
        with pytest.raises(StorageFull):
            future.result()
    assert days(crowd) == []


def test_who_is_interrupted_takes_nobody_for_stored(crowd: Crowd) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    one = crowd.wants(storing(crowd, "1"))
    two = crowd.wants(interrupt)
    crowd.go()
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        one.result()
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        two.result()
    assert days(crowd) == []


def test_a_turn_that_cannot_be_had_leaves_nothing_to_the_next_one(house: House) -> None:
    db, turn = house.store._db, house.datadir.path / "write.lock"
    turn.unlink()
    turn.mkdir()
    with pytest.raises(IsADirectoryError):
        db.together(lambda: db.sql("INSERT INTO clean_day VALUES ('never')"))
    turn.rmdir()
    assert house.store.retention.claim_day("later")
    assert db.together(lambda: house.store.retention.is_clean("later"))
    assert not house.store.retention.is_clean("never")


def files_elsewhere() -> List[str]:
    """What SQLite has open outside the data directory; it unlinks such a file once it is open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if "etilqs" in link]


def test_a_large_write_makes_no_file_that_a_kill_would_leave_behind(crowd: Crowd) -> None:
    """SQLite keeps what a statement changes, to undo it; beyond 64 KiB in a file of its own."""

    def fill() -> None:
        crowd.db.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
            "INSERT INTO clean_day SELECT i || hex(randomblob(400)) FROM n"
        )

    def change() -> List[str]:
        crowd.db.sql("UPDATE clean_day SET day = day || 'x'")
        return files_elsewhere()

    futures = [crowd.wants(work) for work in (fill, change, change)]
    crowd.go()
    assert [future.result() for future in futures[1:]] == [[], []]


FORKED = """
import os, sqlite3, subprocess, sys, time
from pathlib import Path
from robotni.tests.conftest import House
from robotni.jobs.request import JobRequest

house = House(Path(sys.argv[1]))  # as an app is built before a server forks
look = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("
look += "'SELECT count(*) FROM job').fetchone()[0])"
look = [sys.executable, "-c", look, str(house.datadir.database)]
builder = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == builder:
    time.sleep(0.01)
for _ in range(3):
    subprocess.run(look, stdout=subprocess.DEVNULL)  # the last to close takes the log away
    house.engine.submit(JobRequest(script="hello.py", venv=".venv"))
    print(subprocess.run(look, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
"""


def test_nothing_is_lost_in_a_fork_of_the_process_that_built_it(project: Path) -> None:
    (project / "forked.py").write_text(FORKED)
    command = [sys.executable, "forked.py", str(project)]
    run = subprocess.run(
        command,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["1", "2", "3"]
