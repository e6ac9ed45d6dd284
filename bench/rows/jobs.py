"""What a job costs under each system: jobs a second, the time until it starts, CPU, memory.

In each round every system is started, measured and ended, so that it has the machine for itself.
A ratio is taken to robotni's cold runs of the same round.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from measure import cpu_seconds, memory_mb, wake_up_ms
from peers import KINDS, BarePeer, FairPeer, PeerFailed, install_redis
from project import numpy_venv
from systems import Robotni, Xargs
from table import Figure, percentile

if TYPE_CHECKING:
    from run import Bench

WARM = {"warm": True}
COLD = "robotni"
WHAT = {  # measure: (row, what, unit)
    "rate": ("throughput", "scripts that do nothing, four at once", "jobs/s"),
    "p50": ("start", "submit until the script's first line, p50", "ms"),
    "p99": ("start", "submit until the script's first line, p99", "ms"),
    "cpu": ("cost", "CPU of a job beyond its script's", "ms"),
    "memory": ("memory", "PSS with the worker up", "MB"),
    "numpy": ("preload", "submit until numpy is imported, p50", "ms"),
}


def measure(bench: Bench) -> list[Figure]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    kinds = [] if bench.no_peers else KINDS
    if kinds and (sentence := install_redis()):
        bench.notes.append(sentence)
        kinds = [kind for kind in KINDS if not kind.needs_redis]
    systems: dict[str, Callable[[], Any]] = {
        COLD: lambda: Robotni(bench.project, "data", workers=4),
        **{f"fair {k.name}": lambda k=k: FairPeer(k, bench.project) for k in kinds},
        **{f"bare {k.name}": lambda k=k: BarePeer(k, bench.project) for k in kinds},
        "xargs": lambda: Xargs(bench.project),
    }
    order = list(systems)
    for number in range(bench.rounds):
        at = number % len(order)
        for key in order[at:] + order[:at]:
            if key in systems:
                try:
                    _measure(bench, systems[key], found)
                except (PeerFailed, OSError, RuntimeError) as failure:
                    if key == COLD:
                        raise
                    bench.notes.append(f"{key}: {failure}")
                    del systems[key]
    return [_wake_up(bench), *_figures(found)]


def _wake_up(bench: Bench) -> Figure:
    values = [percentile(wake_up_ms(bench.starts), 0.5) for _ in range(bench.rounds)]
    return Figure("machine", "a write until a sleeping process runs, p50", "", "ms", values)


def _measure(bench: Bench, start: Callable[[], Any], found: Any) -> None:
    system = start()
    print(f"  {system.name}", file=sys.stderr, flush=True)
    try:
        system.run("noop.py", 8)
        _one(bench, system, found[system.name], {})
        found[system.name]["memory"].append(memory_mb(system.roots))
        if isinstance(system, Robotni):
            _robotni_only(bench, system, found)
    finally:
        system.close()


def _one(bench: Bench, system: Any, values: Any, fields: dict[str, Any]) -> None:
    before = cpu_seconds(system.roots)
    values["rate"].append(bench.jobs / system.run("noop.py", bench.jobs, **fields))
    spent = getattr(system, "cpu_seconds", None) or cpu_seconds(system.roots) - before
    values["cpu"].append(1000 * spent / bench.jobs)
    _starts(values, system.starts(bench.starts, **fields))


def _starts(values: Any, milliseconds: list[float]) -> None:
    values["p50"].append(percentile(milliseconds, 0.5))
    values["p99"].append(percentile(milliseconds, 0.99))


def _robotni_only(bench: Bench, robotni: Robotni, found: Any) -> None:
    robotni.starts(2, **WARM)
    time.sleep(0.2)
    warm = found["robotni, warm"]
    warm["rate"].append(bench.jobs / robotni.run("noop.py", bench.jobs, **WARM))
    _starts(warm, robotni.starts(bench.starts, **WARM))
    venv = numpy_venv()
    if venv is None:
        return
    for values, fields in ((found[COLD], {}), (warm, {**WARM, "preload": ["numpy"]})):
        fields["venv"] = str(venv)
        robotni.starts(2, "stamp_numpy.py", **fields)
        starts = robotni.starts(max(2, bench.starts // 3), "stamp_numpy.py", **fields)
        values["numpy"].append(percentile(starts, 0.5))


def _figures(found: dict[str, dict[str, list[float]]]) -> list[Figure]:
    scripts = found[Xargs.name]["cpu"]
    figures = []
    for measured, (row, what, unit) in WHAT.items():
        for name in sorted(found, key=_place):
            values, robotni = found[name][measured], found[COLD][measured]
            if measured == "cpu" and name != Xargs.name:
                values, robotni = ([a - b for a, b in zip(v, scripts)] for v in (values, robotni))
            if not values or (name == Xargs.name and measured in ("cpu", "memory")):
                continue
            shown = "the interpreter alone" if (name, row) == (Xargs.name, "start") else name
            against = [] if name == COLD else robotni
            figures.append(Figure(row, what, shown, unit, values, against))
    return figures


def _place(name: str) -> int:
    """Fair rows first, then libraries alone, then the bound."""
    return 2 if name == Xargs.name else int(name.endswith("alone"))
