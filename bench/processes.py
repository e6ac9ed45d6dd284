"""What processes cost: CPU seconds and memory of a tree, the reaped included; and free ports."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The processes `roots` and all that descend from them."""
    found = []
    for root in roots:
        try:
            process = psutil.Process(root)
            found += [root, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of a tree and of all children it has waited for.

    A script counts with whoever reaped it, so the difference of two readings is everything that
    was spent in between.
    """
    total = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # gone since the listing; its parent has its time
            continue
        total += sum(map(int, text[text.rindex(")") + 2 :].split()[11:15]))
    return total / TICKS


def pss_mb(roots: Iterable[int]) -> float:
    """Proportional set size of a tree: shared pages are counted once, shared out."""
    total = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
    return total / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen) -> None:
    """SIGTERM to one of ours; SIGKILL to all of its tree when that is not enough."""
    pids = tree([process.pid])
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, 9)
        process.wait()
