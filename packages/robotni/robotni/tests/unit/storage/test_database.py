"""Writes: one durable transaction each, one after the other, and nothing of one that fails."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Iterator, List

import pytest

from robotni.errors import StorageFull
from robotni.storage.database import Database
from robotni.system.locks import release_lock, take_lock

BIG = "INSERT INTO clean_day VALUES (hex(randomblob(1000000)))"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "robotni.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


def store(db: Database, day: str) -> None:
    with db.write():
        db.sql("INSERT INTO clean_day VALUES (?)", (day,))


def days(db: Database) -> List[str]:
    return [day for (day,) in db.sql("SELECT day FROM clean_day ORDER BY day").fetchall()]


def test_a_write_is_seen_by_others_once_it_is_over(db: Database, path: Path) -> None:
    other = Database(path)
    with db.write():
        db.sql("INSERT INTO clean_day VALUES ('1')")
        assert (days(db), days(other)) == (["1"], [])
    assert days(other) == ["1"]
    other.close()


def test_a_snapshot_does_not_see_what_is_written_meanwhile(db: Database, path: Path) -> None:
    other = Database(path)
    with other.snapshot():
        assert days(other) == []
        store(db, "1")
        assert days(other) == []
    assert days(other) == ["1"]
    other.close()


def test_threads_write_one_after_the_other(db: Database) -> None:
    def write(_: int) -> None:
        with db.write():
            (before,) = db.sql("SELECT count(*) FROM clean_day").fetchone()
            db.sql("INSERT INTO clean_day VALUES (?)", (f"{before:03}",))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(100)))
    assert days(db) == [f"{number:03}" for number in range(100)]


def test_a_write_waits_for_that_of_another_process(db: Database, path: Path) -> None:
    lock = take_lock(path.with_name("write.lock"))  # as the other process holds it
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(store, db, "1")
        wait([written], timeout=0.2)
        assert not written.done()
        release_lock(lock)
        written.result()
    assert days(db) == ["1"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, sqlite3.IntegrityError])
def test_a_write_that_raises_an_error_writes_nothing(db: Database, error: type) -> None:
    with pytest.raises(error), db.write():
        db.sql("INSERT INTO clean_day VALUES ('never')")
        raise error
    store(db, "later")
    assert days(db) == ["later"]


def test_a_write_that_finds_no_room_on_the_disk_writes_nothing(db: Database) -> None:
    with db.write():
        (pages,) = db.sql("PRAGMA page_count").fetchone()
        db.sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull, match="make room and try again"), db.write():
        db.sql("INSERT INTO clean_day VALUES ('never')")
        db.sql(BIG)
    assert days(db) == []
    with db.write():
        db.sql("PRAGMA max_page_count = 1000000")
        db.sql(BIG)
    assert len(days(db)) == 1


def test_a_write_that_cannot_have_the_lock_writes_nothing(db: Database, path: Path) -> None:
    lock = path.with_name("write.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(IsADirectoryError):
        store(db, "never")
    lock.rmdir()
    store(db, "later")
    assert days(db) == ["later"]


def temporary_files() -> List[str]:
    """What SQLite has open outside the data directory; it unlinks such a file once it is open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if "etilqs" in link]


def test_a_large_write_makes_no_file_that_a_kill_would_leave_behind(db: Database) -> None:
    """SQLite keeps what a statement changes, to undo it; beyond 64 KiB in a file of its own."""
    with db.write():
        db.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
            "INSERT INTO clean_day SELECT i || hex(randomblob(400)) FROM n"
        )
        for _ in range(2):
            db.sql("UPDATE clean_day SET day = day || 'x'")
            assert temporary_files() == []


FORKED = """
import os, sqlite3, subprocess, sys, time
from pathlib import Path
from robotni.storage.database import Database

db = Database(Path("robotni.db"))  # as an app is built before a server forks
count = "import sqlite3; print(sqlite3.connect('robotni.db').execute("
count += "'SELECT count(*) FROM clean_day').fetchone()[0])"
count = [sys.executable, "-c", count]
builder = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == builder:
    time.sleep(0.01)
for day in range(3):
    subprocess.run(count, stdout=subprocess.DEVNULL)  # the last to close removes the log
    with db.write():
        db.sql("INSERT INTO clean_day VALUES (?)", (str(day),))
    print(subprocess.run(count, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
"""


def test_nothing_is_lost_in_a_fork_of_the_process_that_opened_the_database(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKED],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["1", "2", "3"]
