"""The worker lock: the version of its holder, and which worker makes way for which."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest

from robotni import __version__
from robotni.system import worker_lock
from robotni.system.datadir import DataDir
from robotni.system.locks import take_lock
from robotni.system.wakeup import listen

OLDEST_FIRST = [
    "", "nonsense", "0.0.9", "0.1.dev3", "0.1a1", "0.1.0rc1", "0.1rc2", "0.1.0", "0.1.0.post1",
    "0.1.1", "0.9", "0.10", "1.0", "99.0",
]  # fmt: skip


def test_versions_are_sorted_by_age() -> None:
    shuffled = random.sample(OLDEST_FIRST, len(OLDEST_FIRST))
    assert sorted(shuffled, key=worker_lock.age)[2:] == OLDEST_FIRST[2:]
    assert worker_lock.age("") == worker_lock.age("nonsense") < worker_lock.age("0")
    assert worker_lock.age("0.1") == worker_lock.age("0.1.0") == worker_lock.age("0.1.0+debian1")


@pytest.fixture
def datadir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data").open()


@pytest.fixture
def stop_worker(datadir: DataDir) -> Iterator[int]:
    """The descriptor at which a worker is asked to leave."""
    fd = listen(datadir.stop_worker)
    yield fd
    os.close(fd)


def is_notified(fd: int) -> bool:
    try:
        return bool(os.read(fd, 100))
    except BlockingIOError:
        return False


def lock_as(datadir: DataDir, version: str) -> int:
    """Takes the worker lock as a worker of another version does."""
    lock = take_lock(datadir.worker_lock)
    assert lock is not None
    os.ftruncate(lock, 0)
    os.pwrite(lock, version.encode(), 0)
    return lock


def test_the_version_in_the_file_counts_only_while_the_lock_is_held(datadir: DataDir) -> None:
    assert worker_lock.holder(datadir) is None
    lock = worker_lock.take(datadir, False, 0, 0)
    assert lock is not None
    assert worker_lock.holder(datadir) == __version__
    assert not worker_lock.has_older_worker(datadir)
    worker_lock.let_go(lock)
    assert worker_lock.holder(datadir) is None
    older = lock_as(datadir, "0.0.1")
    assert worker_lock.has_older_worker(datadir)
    os.close(older)
    assert not worker_lock.has_older_worker(datadir)


@pytest.mark.parametrize(
    ("version", "takes_over", "asks_it_to_leave"),
    [
        ("0.0.1\n", False, True),
        (f"{__version__}\n", False, False),
        ("99.0\n", False, False),
        ("99.0\n", True, True),  # as a worker started by hand does
    ],
)
def test_a_newer_worker_asks_an_older_one_to_leave_and_never_the_other_way_round(
    datadir: DataDir, stop_worker: int, version: str, takes_over: bool, asks_it_to_leave: bool
) -> None:
    lock = lock_as(datadir, version)
    assert worker_lock.take(datadir, takes_over, 0.2, 0.2) is None
    assert is_notified(stop_worker) is asks_it_to_leave
    os.close(lock)
    mine = worker_lock.take(datadir, takes_over, 0.2, 0.2)
    assert mine is not None
    assert worker_lock.holder(datadir) == __version__
    os.close(mine)


def test_a_worker_that_has_not_written_its_version_yet_is_not_asked_to_leave(
    datadir: DataDir, stop_worker: int
) -> None:
    for _ in range(5):
        lock = lock_as(datadir, "")
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(worker_lock.take, datadir, False, 0.15, 0.15)
            time.sleep(0.02)
            worker_lock._write_version(lock)
            assert other.result() is None
        assert not is_notified(stop_worker)
        os.close(lock)
