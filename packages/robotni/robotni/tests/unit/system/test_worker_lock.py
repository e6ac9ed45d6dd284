"""Who holds the worker lock, of which version, and who gives way to whom."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest

from robotni import __version__
from robotni.system import worker_lock as workerlock
from robotni.system.datadir import DataDir
from robotni.system.locks import take_lock
from robotni.system.wakeup import listen

OLDEST_FIRST = [
    "", "nonsense", "0.0.9", "0.1.dev3", "0.1a1", "0.1.0rc1", "0.1rc2", "0.1.0", "0.1.0.post1",
    "0.1.1", "0.9", "0.10", "1.0", "99.0",
]  # fmt: skip


def test_versions_sort_by_age() -> None:
    shuffled = random.sample(OLDEST_FIRST, len(OLDEST_FIRST))
    assert sorted(shuffled, key=workerlock.age)[2:] == OLDEST_FIRST[2:]
    assert workerlock.age("") == workerlock.age("nonsense") < workerlock.age("0")
    assert workerlock.age("0.1") == workerlock.age("0.1.0") == workerlock.age("0.1.0+debian1")


@pytest.fixture
def datadir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data").open()


@pytest.fixture
def leave(datadir: DataDir) -> Iterator[int]:
    """The bell that a worker hears when it shall leave."""
    fd = listen(datadir.stop_worker)
    yield fd
    os.close(fd)


def is_rung(bell: int) -> bool:
    try:
        return bool(os.read(bell, 100))
    except BlockingIOError:
        return False


def lock_as(datadir: DataDir, version: str) -> int:
    lock = take_lock(datadir.worker_lock)
    assert lock is not None
    os.ftruncate(lock, 0)
    os.pwrite(lock, version.encode(), 0)
    return lock


def test_the_version_counts_only_while_the_lock_is_held(datadir: DataDir) -> None:
    assert workerlock.holder(datadir) is None
    lock = workerlock.take(datadir, False, 0, 0)
    assert lock is not None
    assert workerlock.holder(datadir) == __version__
    assert not workerlock.has_older_worker(datadir)
    workerlock.let_go(lock)
    assert workerlock.holder(datadir) is None
    unsigned = take_lock(datadir.worker_lock)  # as the first release does
    assert unsigned is not None
    assert workerlock.has_older_worker(datadir)
    os.close(unsigned)
    os.close(lock_as(datadir, "0.0.1"))
    assert not workerlock.has_older_worker(datadir)


@pytest.mark.parametrize(
    ("version", "takes_over", "sends_away"),
    [
        ("", False, True),  # of the first release
        ("0.0.1\n", False, True),
        (f"{__version__}\n", False, False),
        ("99.0\n", False, False),
        ("99.0\n", True, True),  # by hand
    ],
)
def test_a_newer_worker_sends_an_older_one_away_and_never_the_other_way_round(
    datadir: DataDir, leave: int, version: str, takes_over: bool, sends_away: bool
) -> None:
    lock = lock_as(datadir, version)
    assert workerlock.take(datadir, takes_over, 0.2, 0.2) is None
    assert is_rung(leave) is sends_away
    os.close(lock)
    mine = workerlock.take(datadir, takes_over, 0.2, 0.2)
    assert mine is not None
    assert workerlock.holder(datadir) == __version__
    os.close(mine)


def test_a_worker_that_has_not_signed_yet_is_not_taken_for_an_older_one(
    datadir: DataDir, leave: int
) -> None:
    for _ in range(5):
        lock = lock_as(datadir, "")
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(workerlock.take, datadir, False, 0.15, 0.15)
            time.sleep(0.02)
            workerlock._sign(lock)
            assert other.result() is None
        assert not is_rung(leave)
        os.close(lock)
