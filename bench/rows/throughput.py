"""Scripts that do nothing, four at once: how many a second, and what each costs beyond its own CPU.

One client submits them all and waits until all results are in. `xargs -P4`, which queues nothing
and keeps no record, is 1.0. Cost is the CPU time of all processes of a system (its broker too, its
client not) less that of as many scripts under xargs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from house import House
from processes import cpu_seconds
from table import Figure

SCRIPT = "noop.py"


def measure(house: House) -> list[Figure]:
    found = _rounds(house)
    xargs = [house.given.jobs / seconds for seconds, _ in found["xargs -P4"]]
    goals = {"robotni, cold": ">= 0.80", "robotni, warm": ">= 1.8"}
    figures = [
        Figure(
            row="throughput",
            what=f"{house.given.jobs} no-op scripts",
            system=name,
            unit="jobs/s",
            values=[house.given.jobs / seconds for seconds, _ in rounds],
            against=xargs,
            goal=goals.get(name, ""),
        )
        for name, rounds in found.items()
    ]
    if not house.robotni.has_warm:
        figures.append(Figure("throughput", "no-op scripts", "robotni, warm", "jobs/s"))
        figures[-1].note = "not in this version"
    return figures


def measure_cost(house: House) -> list[Figure]:
    found = _rounds(house)
    count = house.given.jobs
    scripts = [cpu for _, cpu in found["xargs -P4"]]
    return [
        Figure(
            row="cost",
            what="CPU for each job beyond the script's own",
            system=name,
            unit="ms",
            values=[1000 * (cpu - own) / count for (_, cpu), own in zip(rounds, scripts)],
            goal="<= 4" if name == "robotni, cold" else "",
        )
        for name, rounds in found.items()
        if name not in ("xargs -P4", "task-spooler", "robotni, warm")
    ]


def _rounds(house: House) -> dict[str, list[tuple[float, float]]]:
    """(seconds, CPU seconds) of each round; both rows are taken from the same."""
    if "throughput" not in house.memo:
        house.memo["throughput"] = house.each_round(_tasks(house))
    return house.memo["throughput"]


def _tasks(house: House) -> dict[str, Callable[[], Any]]:
    count = house.given.jobs
    robotni, xargs = house.robotni, house.xargs

    def under_xargs() -> tuple[float, float]:
        return xargs.run(SCRIPT, count), xargs.cpu_seconds

    def timed(system: Any, **fields: Any) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            before = cpu_seconds(system.roots)
            seconds = system.run(SCRIPT, count, **fields)
            return seconds, cpu_seconds(system.roots) - before

        return run

    tasks: dict[str, Callable[[], Any]] = {xargs.name: under_xargs, "robotni, cold": timed(robotni)}
    if robotni.has_warm:
        robotni.run(SCRIPT, 8, warm=True)
        tasks["robotni, warm"] = timed(robotni, warm=True)
    tasks.update({peer.name: timed(peer) for peer in house.peers})
    for spooler in house.spooler:
        tasks[spooler.name] = lambda spooler=spooler: (spooler.run(SCRIPT, count), 0.0)
    return tasks
