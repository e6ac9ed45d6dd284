"""What a server costs that has nothing to do: memory (PSS) and CPU of the web process.

robotni's has answered a thousand calls and run jobs, and its worker has left (`IDLE_EXIT`, here one
second); beside it a bare FastAPI app.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from measure import cpu_seconds, memory_mb, tree
from systems import Robotni, bare_endpoint
from table import Figure

if TYPE_CHECKING:
    from run import Bench


def measure(bench: Bench) -> list[Figure]:
    robotni = Robotni(bench.project, "idle", idle_exit=1)
    try:
        robotni.run("noop.py", 20)
        for _ in range(50 if bench.is_quick else 1000):
            robotni.wire.json("GET", "/api/worker/jobs")
        deadline = time.monotonic() + 30
        while tree(robotni.roots) != robotni.roots:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker has not left within 30 s")
            time.sleep(0.1)
        memory, cpu = _watch(bench, robotni.roots)
    finally:
        robotni.close()
    bare = bare_endpoint(bench.project)
    bare_memory, bare_cpu = _watch(bench, bare.roots)
    bare.close()
    return [
        Figure("idle", "PSS of the web process", "robotni, worker gone", "MB", memory),
        Figure("idle", "PSS of the web process", "bare FastAPI", "MB", bare_memory, memory),
        Figure("idle", "CPU of a core", "robotni, worker gone", "%", cpu),
        Figure("idle", "CPU of a core", "bare FastAPI", "%", bare_cpu, cpu),
    ]


def _watch(bench: Bench, roots: list[int]) -> tuple[list[float], list[float]]:
    seconds = 0.5 if bench.is_quick else 10
    memory, shares = [], []
    time.sleep(min(2, seconds))
    for _ in range(bench.rounds):
        before = cpu_seconds(roots)
        time.sleep(seconds)
        shares.append(100 * (cpu_seconds(roots) - before) / seconds)
        memory.append(memory_mb(roots))
    return memory, shares
