"""The data directory: how it is made, its modes, and where it is refused."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from robotni.errors import DataDirError
from robotni.jobs.models import Job, new_job_id
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir, file_system_type
from robotni.system.locks import take_lock


@pytest.fixture
def umask_000() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def accessible_to_others(folder: Path) -> List[str]:
    found = subprocess.run(
        ["find", str(folder), "-perm", "/077"], stdout=subprocess.PIPE, check=True, text=True
    )
    return found.stdout.splitlines()


def test_nothing_is_accessible_to_others_under_umask_000(tmp_path: Path, umask_000: None) -> None:
    datadir = DataDir(tmp_path / "data").open()
    store = Store(datadir)
    store.claim(Job(job_id="0" * 32, timestamp=1.0), 1.0)
    run_files = RunFiles(datadir.jobs, new_job_id(1.0), 1).create()
    run_files.request_cancel()
    for lock in (datadir.worker_lock, datadir.spawn_lock):
        fd = take_lock(lock)
        assert fd is not None
        os.close(fd)
    assert len(list(datadir.path.rglob("*"))) > 12  # with SQLite's -wal and -shm
    assert accessible_to_others(datadir.path) == []
    store.close()


def test_the_umask_of_the_process_is_not_changed(tmp_path: Path, umask_000: None) -> None:
    DataDir(tmp_path / "data").open()
    (tmp_path / "made-by-a-script").touch()
    assert stat.S_IMODE((tmp_path / "made-by-a-script").stat().st_mode) == 0o666


def test_an_existing_folder_becomes_inaccessible_to_others(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o755)
    DataDir(tmp_path / "data").open()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_it_is_created_with_its_parents_and_ignored_by_git(tmp_path: Path) -> None:
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
    "break_it",
    [
        lambda data: data.write_text("a file"),
        lambda data: data.symlink_to("gone/deeper"),
        lambda data: [data.mkdir(), (data / "jobs").write_text("a file")],
    ],
    ids=["file", "dangling link", "jobs is a file"],
)
def test_an_unusable_data_directory_is_refused_with_the_setting_to_change(
    tmp_path: Path, break_it: Callable[[Path], object]
) -> None:
    break_it(tmp_path / "data")
    with pytest.raises(DataDirError, match="ROBOTNI_DATA_DIR") as caught:
        DataDir(tmp_path / "data").open()
    assert str(tmp_path / "data") in str(caught.value)


def test_a_data_directory_that_cannot_be_created_is_refused() -> None:
    with pytest.raises(DataDirError, match="cannot be used"):
        DataDir(Path("/proc/robotni")).open()


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="needs Linux's mount table")
def test_the_file_system_type_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    kinds = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, _ = line.split(" ", 3)
        kinds[place] = kind
    assert file_system_type(Path("/proc/self")) == kinds["/proc"] == "proc"
    for place, kind in kinds.items():
        if "\\" not in place and os.path.isdir(place):
            assert file_system_type(Path(place)) == kind
            assert file_system_type(Path(place) / "not" / "there" / "yet") == kind


def test_the_file_system_type_is_that_of_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert file_system_type(tmp_path / "link" / "x") == file_system_type(Path("/proc"))
    assert file_system_type(tmp_path) != file_system_type(Path("/proc"))
