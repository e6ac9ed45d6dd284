"""Scripts that do nothing, four at once: how many a second, and what each costs beyond its own CPU.

One client submits them all and waits until all results are in. `xargs -P4`, which queues nothing
and keeps no record, is 1.0.

Cost is the CPU time of all processes of a system (its broker too, its client not), the scripts
included, less that of as many scripts under xargs in the same round. `own processes` is that of the
processes that stay, without anything they waited for: nothing is subtracted there, so it is steady
where the scripts' own time is not, but what a system spends in forked children is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from house import House
from processes import Cpu, cpu
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
            ratio_goal=goals.get(name, ""),
        )
        for name, rounds in found.items()
    ]
    if not house.robotni.has_warm:
        figures.append(Figure("throughput", "no-op scripts", "robotni, warm", "jobs/s"))
        figures[-1].note = "not in this version"
    return figures


def measure_cost(house: House) -> list[Figure]:
    found = _rounds(house)
    each = 1000 / house.given.jobs
    scripts = [spent.all for _, spent in found["xargs -P4"]]
    figures = []
    for name, rounds in found.items():
        if name in ("xargs -P4", "task-spooler", "robotni, warm"):
            continue
        beyond = [each * (spent.all - own) for (_, spent), own in zip(rounds, scripts)]
        figures.append(Figure("cost", "CPU of a job beyond the script's", name, "ms", beyond))
        figures[-1].goal = "<= 4" if name == "robotni, cold" else ""
        own = [each * spent.own for _, spent in rounds]
        figures.append(Figure("cost", "own processes", name, "ms", own))
    figures.append(Figure("cost", "the script", "xargs -P4", "ms", [each * s for s in scripts]))
    return figures


def _rounds(house: House) -> dict[str, list[tuple[float, Cpu]]]:
    """(seconds, CPU) of each round; both rows are taken from the same."""
    if "throughput" not in house.memo:
        house.memo["throughput"] = house.each_round(_tasks(house))
    return house.memo["throughput"]


def _tasks(house: House) -> dict[str, Callable[[], Any]]:
    count = house.given.jobs
    robotni, xargs = house.robotni, house.xargs

    def under_xargs() -> tuple[float, Cpu]:
        return xargs.run(SCRIPT, count), Cpu(xargs.cpu_seconds, 0)

    def timed(system: Any, **fields: Any) -> Callable[[], tuple[float, Cpu]]:
        def run() -> tuple[float, Cpu]:
            before = cpu(system.roots)
            seconds = system.run(SCRIPT, count, **fields)
            return seconds, cpu(system.roots).since(before)

        return run

    tasks: dict[str, Callable[[], Any]] = {xargs.name: under_xargs, "robotni, cold": timed(robotni)}
    if robotni.has_warm:
        robotni.run(SCRIPT, 8, warm=True)
        tasks["robotni, warm"] = timed(robotni, warm=True)
    tasks.update({peer.name: timed(peer) for peer in house.peers})
    for spooler in house.spooler:
        tasks[spooler.name] = lambda spooler=spooler: (spooler.run(SCRIPT, count), Cpu(0, 0))
    return tasks
