"""File systems of a test's own: small, full, or with the power cut. Linux and root only."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Iterator

import pytest


def needs_mount(*programs: str) -> None:
    """Skips where this machine cannot mount."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    missing = [program for program in ("mount", "umount", *programs) if not shutil.which(program)]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[Path]:
    """Mounts with `mount OPTIONS WHERE`; skips where the kernel or a sandbox refuses."""
    where.mkdir(exist_ok=True)
    tried = subprocess.run(["mount", *options, str(where)], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine refuses to mount: {tried.stderr.decode().strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@contextmanager
def small_disk(where: Path, mib: int) -> Iterator[Path]:
    """A disk in memory with room for `mib` MiB."""
    needs_mount()
    with mounted(where, "-t", "tmpfs", "-o", f"size={mib}m", "robotni-test") as disk:
        yield disk


class Disk:
    """An ext4 in a file, mounted at `where`, whose power can be cut.

    A cut is a copy of the file while all that writes stands still: what was written and not synced
    is in the page cache of the mount, not in the file.
    """

    def __init__(self, where: Path, mib: int = 64) -> None:
        needs_mount("mkfs.ext4", "losetup")
        self.where = where
        self._image = where.with_suffix(".0")
        self._cuts = 0
        self._mounted = ExitStack()
        with open(self._image, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(self._image)], check=True)

    def __enter__(self) -> "Disk":
        self._mount()
        return self

    def __exit__(self, *_: Any) -> None:
        self._mounted.close()

    def _mount(self) -> None:
        self._mounted.enter_context(mounted(self.where, "-o", "loop", str(self._image)))

    def copy(self) -> Path:
        """What would be left if the power went now."""
        self._cuts += 1
        left = self.where.with_suffix(f".{self._cuts}")
        left.write_bytes(self._image.read_bytes())
        return left

    def come_back(self, left: Path) -> None:
        """Mounts `left` in the place of what was there, which nobody may use any more."""
        self._mounted.close()
        self._image.unlink()
        self._image = left
        self._mount()


def fill(disk: Path) -> Path:
    """A file that takes all room there is."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as file:
        block = b"x" * 65536
        while block:
            try:
                file.write(block)
            except OSError:  # full: on with smaller pieces, to the last byte
                block = block[: len(block) // 2]
    return filler
