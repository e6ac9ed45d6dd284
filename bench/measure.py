"""What is read from the machine: CPU and memory of process trees, and facts about the machine."""

from __future__ import annotations

import os
import platform
import re
import socket
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The processes `roots` and all that descend from them."""
    found = []
    for root in roots:
        try:
            children = psutil.Process(root).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        found += [root, *(child.pid for child in children)]
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of a tree so far, with the children its processes have waited for. A
    script counts with the process that waited for it, so a difference misses nothing."""
    ticks = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # gone since the listing; its parent has its time
            continue
        ticks += sum(map(int, text[text.rindex(")") + 2 :].split()[11:15]))
    return ticks / TICKS


def memory_mb(roots: Iterable[int]) -> float:
    """PSS of a tree: a page that several processes map is counted in shares."""
    kilobytes = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # gone since the listing
            continue
        kilobytes += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
    return kilobytes / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen) -> None:
    """SIGTERM to a process of ours, and SIGKILL to its whole tree when that is not enough."""
    pids = tree([process.pid])
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        pass
    for pid in pids:
        if psutil.pid_exists(pid) and pid != process.pid:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
    process.kill()
    process.wait()


def facts(folder: Path) -> dict[str, str]:
    """The machine; `folder` lies on the disk that is measured."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": model[1] if model else platform.machine(),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "fsync": f"{fsync_ms(folder):.2f} ms",
        "load before": ", ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def fsync_ms(folder: Path) -> float:
    """Median time to append 4 KiB to a file and have it on the disk."""
    found = []
    with open(folder / "fsync", "wb", buffering=0) as file:
        for _ in range(50):
            began = time.monotonic()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            found.append(1000 * (time.monotonic() - began))
    return statistics.median(found)


def wake_up_ms(samples: int) -> list[float]:
    """Milliseconds from a write into a pipe until a process that slept on it for 50 ms runs."""
    code = "import os, time\nwhile os.read(0, 1): os.write(1, b'%.9f\\n' % time.monotonic())"
    with subprocess.Popen(
        ["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as sleeper:
        found = []
        for _ in range(samples + 1):
            time.sleep(0.05)
            began = time.monotonic()
            sleeper.stdin.write(b"!")
            found.append(1000 * (float(sleeper.stdout.readline()) - began))
        sleeper.stdin.close()
    return found[1:]  # the first waits for the interpreter's start
