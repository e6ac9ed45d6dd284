"""The machine the figures are from."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path


def describe(folder: Path) -> dict[str, str]:
    """Facts by name; `folder` lies on the disk that is written to."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": _field("/proc/cpuinfo", "model name"),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "fsync": f"{fsync_ms(folder):.2f} ms",
        "new file": f"{new_file_ms(folder):.3f} ms",
        "load before": load,
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return platform.machine()


def fsync_ms(folder: Path) -> float:
    """Median time to append 4 KiB to a file and have it on the disk."""
    path = folder / "fsync"
    found = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(50):
            began = time.monotonic()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            found.append(1000 * (time.monotonic() - began))
    path.unlink()
    return statistics.median(found)


def new_file_ms(folder: Path) -> float:
    """Median time to make a file. They stay: for minutes after many files were deleted, ext4
    without a journal is slow at making new ones, as it passes each of them over."""
    found = []
    for number in range(200):
        began = time.monotonic()
        os.close(os.open(folder / f"new-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        found.append(1000 * (time.monotonic() - began))
    return statistics.median(found)
