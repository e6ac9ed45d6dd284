"""The data directory: modes, locks between real processes, the bell."""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from robotni.errors import DataDirError
from robotni.jobs.models import Job, new_job_id
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir, file_system
from robotni.system.locks import is_locked, take_lock
from robotni.system.wakeup import listen, make_fifo, notify

HOLDER = """
import os, sys
from pathlib import Path
from robotni.system.wakeup import listen
from robotni.system.locks import take_lock
fd = {call}(Path(sys.argv[1]))
print("none" if fd is None else "held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def umask_000() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def holder() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a process that takes a lock, or holds a bell, and says whether it got it."""
    processes: List[subprocess.Popen[str]] = []

    def start(path: Path, call: str = "take_lock") -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(call=call), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def open_to_others(folder: Path) -> List[str]:
    found = subprocess.run(
        ["find", str(folder), "-perm", "/077"], stdout=subprocess.PIPE, check=True, text=True
    )
    return found.stdout.splitlines()


# files and modes


def test_nothing_in_it_is_open_to_others_under_umask_000(tmp_path: Path, umask_000: None) -> None:
    datadir = DataDir(tmp_path / "data").open()
    store = Store(datadir)
    store.claim(Job(job_id="0" * 32, timestamp=1.0), 1.0)
    run_files = RunFiles(datadir.jobs, new_job_id(1.0), 1).create()
    run_files.request_cancel()
    run_files.note("a line")
    for lock in (datadir.worker_lock, datadir.spawn_lock):
        fd = take_lock(lock)
        assert fd is not None
        os.close(fd)
    assert len(list(datadir.path.rglob("*"))) > 12  # with SQLite's -wal and -shm
    assert open_to_others(datadir.path) == []
    store.close()


def test_the_umask_stays_the_user_s(tmp_path: Path, umask_000: None) -> None:
    DataDir(tmp_path / "data").open()
    (tmp_path / "made-by-a-script").touch()
    assert stat.S_IMODE((tmp_path / "made-by-a-script").stat().st_mode) == 0o666


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o755)
    DataDir(tmp_path / "data").open()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_it_is_made_with_its_parents_and_hides_itself_from_git(tmp_path: Path) -> None:
    datadir = DataDir(tmp_path / "a" / "b" / ".robotni").open()
    assert (datadir.path / ".gitignore").read_text() == "*\n"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    status = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain"], stdout=subprocess.PIPE, check=True
    )
    assert status.stdout == b""


def test_opening_it_again_changes_nothing(tmp_path: Path) -> None:
    datadir = DataDir(tmp_path / "data").open()
    datadir.database.write_bytes(b"kept")
    (datadir.path / ".gitignore").write_text("kept")
    before = sorted((p, p.stat().st_ino) for p in datadir.path.rglob("*"))
    DataDir(tmp_path / "data").open()
    assert sorted((p, p.stat().st_ino) for p in datadir.path.rglob("*")) == before
    assert datadir.database.read_bytes() == b"kept"
    assert (datadir.path / ".gitignore").read_text() == "kept"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.write_text("a file"),
        lambda data: data.symlink_to("gone/deeper"),
        lambda data: [data.mkdir(), (data / "jobs").write_text("a file")],
        lambda data: [data.mkdir(), (data / "wakeup").write_text("a file")],
        lambda data: [data.mkdir(), (data / "stop_worker").mkdir()],
    ],
    ids=["file", "dangling link", "jobs is a file", "wakeup is a file", "stop_worker is a folder"],
)
def test_what_cannot_be_used_is_refused_with_the_setting_that_mends_it(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(tmp_path / "data")
    with pytest.raises(DataDirError, match="ROBOTNI_DATA_DIR") as caught:
        DataDir(tmp_path / "data").open()
    assert str(tmp_path / "data") in str(caught.value)


def test_a_place_where_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(DataDirError, match="cannot be used"):
        DataDir(Path("/proc/robotni")).open()


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="needs Linux's mount table")
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    kinds = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, _ = line.split(" ", 3)
        kinds[place] = kind
    assert file_system(Path("/proc/self")) == kinds["/proc"] == "proc"
    for place, kind in kinds.items():
        if "\\" not in place and os.path.isdir(place):
            assert file_system(Path(place)) == kind
            assert file_system(Path(place) / "not" / "there" / "yet") == kind


def test_a_link_to_another_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert file_system(tmp_path / "link" / "x") == file_system(Path("/proc"))
    assert file_system(tmp_path) != file_system(Path("/proc"))


# locks


def test_a_lock_is_held_by_one_process_and_seen_by_all(
    tmp_path: Path, holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    lock = tmp_path / "worker.lock"
    assert not is_locked(lock)
    first = holder(lock)
    assert says(first) == "held"
    assert is_locked(lock)
    assert take_lock(lock) is None
    assert says(holder(lock)) == "none"


def test_kill_9_drops_a_lock_at_once(
    tmp_path: Path, holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    lock = tmp_path / "worker.lock"
    first = holder(lock)
    assert says(first) == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not is_locked(lock)
    assert lock.exists()  # never deleted, or two could own it
    assert says(holder(lock)) == "held"


def test_who_waits_for_a_lock_gets_it_when_the_holder_is_killed(
    tmp_path: Path, holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    first = holder(tmp_path / "lock")
    assert says(first) == "held"
    killer = threading.Timer(0.1, first.kill)
    killer.start()
    begin = time.monotonic()
    fd = take_lock(tmp_path / "lock", wait=True)
    assert fd is not None and 0.05 < time.monotonic() - begin < 5
    os.close(fd)
    killer.join()


def test_asking_whether_a_lock_is_held_neither_makes_nor_takes_it(tmp_path: Path) -> None:
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


def test_two_threads_of_a_process_exclude_each_other_too(tmp_path: Path) -> None:
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


# the bell


def test_a_bell_that_nobody_holds_is_not_heard(tmp_path: Path) -> None:
    make_fifo(tmp_path / "bell")
    assert not notify(tmp_path / "bell")
    assert not notify(tmp_path / "no such bell")


def test_a_bell_that_is_held_is_heard(tmp_path: Path) -> None:
    make_fifo(tmp_path / "bell")
    fd = listen(tmp_path / "bell")
    assert select.select([fd], [], [], 0)[0] == []
    assert notify(tmp_path / "bell")
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert os.read(fd, 10) == b"!"
    os.close(fd)
    assert not notify(tmp_path / "bell")


def test_a_full_bell_is_rung_without_waiting(tmp_path: Path) -> None:
    make_fifo(tmp_path / "bell")
    fd = listen(tmp_path / "bell")
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"!" * 4096)
    assert notify(tmp_path / "bell")
    os.close(fd)


def test_a_bell_is_held_by_another_process_until_kill_9(
    tmp_path: Path, holder: Callable[..., "subprocess.Popen[str]"]
) -> None:
    bell = DataDir(tmp_path / "data").open().wakeup
    worker = holder(bell, "listen")
    assert says(worker) == "held"
    assert notify(bell)
    worker.kill()
    worker.wait()
    assert not notify(bell)


def test_a_bell_is_made_once(tmp_path: Path) -> None:
    make_fifo(tmp_path / "bell")
    fd = listen(tmp_path / "bell")
    make_fifo(tmp_path / "bell")
    assert notify(tmp_path / "bell")
    os.close(fd)


def test_what_lies_in_the_place_of_a_bell_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "bell").write_text("mine")
    with pytest.raises(FileExistsError):
        make_fifo(tmp_path / "bell")
    assert (tmp_path / "bell").read_text() == "mine"
