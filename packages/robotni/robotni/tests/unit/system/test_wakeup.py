"""Wake-up by a FIFO: who is woken, and what a process without a listener learns."""

import os
import select
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from robotni.system.datadir import DataDir
from robotni.system.wakeup import has_listener, listen, make_fifo, notify
from robotni.tests.unit.system.conftest import first_line


def test_notify_without_a_listener_is_false(tmp_path: Path) -> None:
    make_fifo(tmp_path / "fifo")
    assert not notify(tmp_path / "fifo")
    assert not notify(tmp_path / "missing")


def test_notify_wakes_the_listener(tmp_path: Path) -> None:
    make_fifo(tmp_path / "fifo")
    fd = listen(tmp_path / "fifo")
    assert select.select([fd], [], [], 0)[0] == []
    assert notify(tmp_path / "fifo")
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert os.read(fd, 10) == b"!"
    os.close(fd)
    assert not notify(tmp_path / "fifo")


def test_has_listener_does_not_wake_it(tmp_path: Path) -> None:
    make_fifo(tmp_path / "fifo")
    assert not has_listener(tmp_path / "fifo")
    fd = listen(tmp_path / "fifo")
    assert has_listener(tmp_path / "fifo")
    assert select.select([fd], [], [], 0)[0] == []
    os.close(fd)
    assert not has_listener(tmp_path / "fifo")
    assert not has_listener(tmp_path / "missing")


def test_notify_does_not_wait_at_a_full_fifo(tmp_path: Path) -> None:
    make_fifo(tmp_path / "fifo")
    fd = listen(tmp_path / "fifo")
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"!" * 4096)
    assert notify(tmp_path / "fifo")
    os.close(fd)


def test_a_killed_process_is_no_listener_any_more(
    tmp_path: Path, start_holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    fifo = DataDir(tmp_path / "data").open().wakeup
    worker = start_holder(fifo, "listen")
    assert first_line(worker) == "held"
    assert notify(fifo)
    worker.kill()
    worker.wait()
    assert not notify(fifo)


def test_an_existing_fifo_is_kept(tmp_path: Path) -> None:
    make_fifo(tmp_path / "fifo")
    fd = listen(tmp_path / "fifo")
    make_fifo(tmp_path / "fifo")
    assert notify(tmp_path / "fifo")
    os.close(fd)


def test_another_file_in_the_place_of_a_fifo_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "fifo").write_text("mine")
    with pytest.raises(FileExistsError):
        make_fifo(tmp_path / "fifo")
    assert (tmp_path / "fifo").read_text() == "mine"
