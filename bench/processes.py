"""What processes cost: CPU seconds and memory of a tree, the reaped included; and free ports."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

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


class Cpu(NamedTuple):
    """Seconds of user and system time: `all` with the children waited for, `own` without."""

    all: float
    own: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.all - before.all, self.own - before.own)


def cpu(roots: Iterable[int]) -> Cpu:
    """What a tree has spent so far. A script counts with whoever reaped it, so the difference of
    two readings holds everything that was spent in between."""
    own = reaped = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # gone since the listing; its parent has its time
            continue
        ticks = list(map(int, text[text.rindex(")") + 2 :].split()[11:15]))
        own += sum(ticks[:2])
        reaped += sum(ticks[2:])
    return Cpu((own + reaped) / TICKS, own / TICKS)


def memory_mb(roots: Iterable[int], kind: str = "Pss") -> float:
    """Memory of a tree. `Pss`: a page that several processes map is counted in shares, so it falls
    with every like process on the machine; `Rss`: each counts it in full."""
    total = 0
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # gone since the listing
            continue
        total += int(re.search(rf"^{kind}:\s+(\d+)", text, re.MULTILINE)[1])
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
