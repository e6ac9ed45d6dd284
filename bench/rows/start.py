"""From the POST (a peer: from the submit) to the first line of the script, idle worker.

Both ends read the same monotonic clock: the client before it sends, the script in its first line.
p50 is of each round; p99 is of all samples, since a round alone has too few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from house import House
from peers import LONG_IDLE
from table import Figure, percentile

PAUSE = 0.05  # seconds without work before each sample
LONG_SAMPLES = 1  # a round; it may take ten seconds

GOALS = {"robotni, cold": ("<= 20", "<= 40"), "robotni, warm": ("<= 8", "<= 20")}


def measure(house: House) -> list[Figure]:
    found = house.each_round(_tasks(house))
    figures = []
    for name, rounds in found.items():
        p50, p99 = GOALS.get(name, ("", ""))
        medians = [percentile(values, 0.5) for values in rounds]
        figures.append(Figure("start", "submit to first line, p50", name, "ms", medians, goal=p50))
        together = [value for values in rounds for value in values]
        last = percentile(together, 0.99)
        figures.append(Figure("start", f"p99 of {len(together)}", name, "ms", [last], goal=p99))
    if not house.robotni.has_warm:
        figures.append(Figure("start", "submit to first line", "robotni, warm", "ms"))
        figures[-1].note = "not in this version"
    return figures


def _tasks(house: House) -> dict[str, Callable[[], Any]]:
    count = house.given.starts
    robotni = house.robotni
    tasks: dict[str, Callable[[], Any]] = {
        house.interpreter.name: lambda: house.interpreter.starts(count, PAUSE),
        "robotni, cold": lambda: robotni.starts(count, PAUSE),
    }
    if robotni.has_warm:
        robotni.starts(2, PAUSE, warm=True)
        tasks["robotni, warm"] = lambda: robotni.starts(count, PAUSE, warm=True)
    for system in [*house.peers, *house.spooler]:
        tasks[system.name] = lambda system=system: system.starts(count, PAUSE)
    if any(peer.name == "Huey on SQLite" for peer in house.peers):
        slow = house.peer(LONG_IDLE)
        tasks[slow.name] = lambda: slow.starts(LONG_SAMPLES, PAUSE)
    return tasks
