"""File systems of a test's own: small, full, or with the power cut. Linux and root only."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

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
