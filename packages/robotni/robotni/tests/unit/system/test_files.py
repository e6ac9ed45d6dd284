"""Only regular files are opened, and no reader waits at anything else."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from robotni.system import files
from robotni.tests.processes import no_descriptors


def test_a_regular_file_is_opened_with_its_size_and_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    fd, size = files.open_regular(str(path))
    os.close(fd)
    assert size == 5
    assert files.read_start(str(path), 3) == files.try_read_start(str(path), 3) == b"123"
    assert files.read_start(str(path), 9) == b"12345"


@pytest.mark.parametrize(
    "make, code",
    [
        (lambda path: None, errno.ENOENT),
        (os.mkdir, errno.ENXIO),
        (os.mkfifo, errno.ENXIO),
        (lambda path: os.symlink("/dev/zero", path), errno.ENXIO),
    ],
)
def test_anything_else_is_an_error_or_none_and_does_not_block(
    tmp_path: Path, make: Any, code: int
) -> None:
    path = str(tmp_path / "other")
    make(path)
    with pytest.raises(OSError) as caught:
        files.read_start(path, 10)
    assert caught.value.errno == code
    assert files.try_open(path) is None
    assert files.try_read_start(path, 10) is None


def test_a_link_is_followed_unless_a_flag_forbids_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert files.try_read_start(str(tmp_path / "link"), 10) == b"text"
    assert files.try_read_start(str(tmp_path / "link"), 10, os.O_NOFOLLOW) is None


def test_what_the_machine_cannot_open_is_not_taken_for_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    path = str(tmp_path / "file")
    for open_it in (files.try_open, lambda path: files.try_read_start(path, 9)):
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            open_it(path)  # type: ignore[operator]
    assert files.is_file(path)
    assert files.is_folder(str(tmp_path))
    assert files.try_stat(f"{path}/below") is None


def test_a_file_that_is_no_regular_one_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    assert files.try_open(str(tmp_path)) is None
    assert os.listdir("/proc/self/fd") == before
