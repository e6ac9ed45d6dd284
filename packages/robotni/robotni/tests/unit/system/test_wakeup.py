"""Wake-up by a FIFO: who is woken, and what a process without a listener learns."""

import os
import select
import subprocess
import threading
from pathlib import Path
from typing import Callable

import pytest

from robotni.system.datadir import DataDir
from robotni.system.wakeup import has_listener, listen, listen_again, make_fifo, notify
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


def sleep_at(fd: int, woken: threading.Event) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
    woken.set()


def put_file(path: Path) -> None:
    path.write_text("mine")


def put_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("mine")


@pytest.mark.parametrize("put", [put_file, put_folder])
def test_what_has_the_name_of_a_fifo_is_no_listener_and_is_moved_aside(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    fifo = tmp_path / "fifo"
    put(fifo)
    assert not notify(fifo)
    assert not has_listener(fifo)
    fd = listen(fifo)
    assert notify(fifo)
    (aside,) = tmp_path.glob("fifo.aside-*")
    assert (aside / "file" if aside.is_dir() else aside).read_text() == "mine"
    assert not listen_again(fd, fifo)
    os.read(fd, 10)
    woken = threading.Event()
    for spoil in (Path.unlink, lambda path: (path.unlink(), put(path))):
        spoil(fifo)  # type: ignore[operator]
        sleeper = threading.Thread(target=sleep_at, args=(fd, woken), daemon=True)
        sleeper.start()
        assert not woken.wait(0.2)
        assert listen_again(fd, fifo)
        assert woken.wait(10)
        woken.clear()
        os.read(fd, 10)
        assert notify(fifo)
        assert os.read(fd, 10) == b"!"
    os.close(fd)
