"""From the DELETE of a running job until all its processes are dead; they obey SIGTERM.

The script writes its pids; a pidfd of each becomes readable at its death. No peer does this for a
script and its children, so there is nothing to compare with.
"""

from __future__ import annotations

import os
import select
import time

from house import House
from table import Figure, percentile

SAMPLES = 10


def measure(house: House) -> list[Figure]:
    samples = min(SAMPLES, house.given.starts)
    found = house.each_round(
        {
            "a script": lambda: _cancels(house, "alone.py", samples),
            "a script with a child": lambda: _cancels(house, "family.py", samples),
        }
    )
    return [
        Figure("cancel", f"DELETE until {name} is dead, p50", "robotni", "ms",
               [percentile(values, 0.5) for values in rounds], goal="<= 50")
        for name, rounds in found.items()
    ]  # fmt: skip


def _cancels(house: House, script: str, count: int) -> list[float]:
    return [_cancel(house, script) for _ in range(count)]


def _cancel(house: House, script: str) -> float:
    robotni = house.robotni
    out = house.project.new_out()
    job_id = robotni.submit(script, args=[out])
    while not os.path.exists(out):
        time.sleep(0.002)
    with open(out) as file:
        watched = [os.pidfd_open(int(pid)) for pid in file.read().split()]
    time.sleep(0.05)  # the script sleeps by now
    began = time.monotonic()
    robotni.wire.json("DELETE", f"/api/worker/jobs/{job_id}")
    for fd in watched:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(20_000):
            raise RuntimeError(f"a process of {script} lives 20 s after its cancel")
    milliseconds = 1000 * (time.monotonic() - began)
    for fd in watched:
        os.close(fd)
    while robotni.job(job_id)["finishedAt"] is None:
        time.sleep(0.005)
    return milliseconds
