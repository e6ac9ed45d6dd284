"""Locks between real processes, and between threads."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, List

from robotni.system.locks import is_locked, take_lock
from robotni.tests.unit.system.conftest import first_line


def test_one_process_holds_a_lock_and_all_see_it(
    tmp_path: Path, start_holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    lock = tmp_path / "worker.lock"
    assert not is_locked(lock)
    first = start_holder(lock)
    assert first_line(first) == "held"
    assert is_locked(lock)
    assert take_lock(lock) is None
    assert first_line(start_holder(lock)) == "none"


def test_a_lock_is_dropped_at_once_when_its_holder_is_killed(
    tmp_path: Path, start_holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    lock = tmp_path / "worker.lock"
    first = start_holder(lock)
    assert first_line(first) == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not is_locked(lock)
    assert lock.exists()  # it is never deleted, or two processes could hold it
    assert first_line(start_holder(lock)) == "held"


def test_a_waiting_process_gets_the_lock_when_the_holder_is_killed(
    tmp_path: Path, start_holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    first = start_holder(tmp_path / "lock")
    assert first_line(first) == "held"
    killer = threading.Timer(0.1, first.kill)
    killer.start()
    begin = time.monotonic()
    fd = take_lock(tmp_path / "lock", wait=True)
    assert fd is not None and 0.05 < time.monotonic() - begin < 5
    os.close(fd)
    killer.join()


def test_is_locked_neither_creates_nor_takes_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_locked(lock) and not lock.exists()
    fd = take_lock(lock)
    assert fd is not None
    assert is_locked(lock)
    os.close(fd)
    assert not is_locked(lock)
    again = take_lock(lock)
    assert again is not None
    os.close(again)


def test_threads_of_a_process_exclude_each_other(tmp_path: Path) -> None:
    taken: List[object] = []
    threads = [
        threading.Thread(target=lambda: taken.append(take_lock(tmp_path / "lock")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (fd,) = [fd for fd in taken if isinstance(fd, int)]
    os.close(fd)


def test_a_child_does_not_inherit_a_lock(tmp_path: Path) -> None:
    fd = take_lock(tmp_path / "lock")
    assert fd is not None
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    os.close(fd)
    try:
        assert not is_locked(tmp_path / "lock")
    finally:
        child.kill()
        child.wait()
