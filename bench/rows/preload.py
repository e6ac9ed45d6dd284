"""A script that imports numpy: preloaded in a warm interpreter, against a cold start.

Jobs per second with four at once, and milliseconds from the POST until numpy is imported, idle
worker. The venv is the examples', which has numpy.
"""

from __future__ import annotations

from typing import Any

from house import House
from project import numpy_venv
from table import Figure, percentile

COLD_JOBS = 40


def measure(house: House) -> list[Figure]:
    venv = numpy_venv()
    if venv is None or not house.robotni.has_warm:
        note = "not in this version" if venv else "no venv with numpy; make bench makes one"
        return [Figure("preload", "import numpy", "robotni, warm", "jobs/s", note=note)]
    cold: dict[str, Any] = {"venv": str(venv)}
    warm = {**cold, "warm": True, "preload": ["numpy"]}
    found = _rounds(house, cold, warm)
    speed = {name: found[name] for name in ("cold", "warm")}
    until = {
        name: [percentile(values, 0.5) for values in found[f"{name}, until"]]
        for name in ("cold", "warm")
    }
    inverse = [1 / value for value in until["cold"]]
    figures = [Figure("preload", "import numpy", "robotni, cold", "jobs/s", speed["cold"])]
    figures.append(Figure("preload", "import numpy", "robotni, warm", "jobs/s", speed["warm"]))
    figures[-1].against, figures[-1].ratio_goal = speed["cold"], ">= 25"
    for name in ("cold", "warm"):
        what = "POST until numpy is imported, p50"
        figures.append(Figure("preload", what, f"robotni, {name}", "ms", until[name]))
    figures.append(
        Figure("preload", "the same as a speed", "robotni, warm", "1/ms",
               [1 / value for value in until["warm"]], inverse)
    )  # fmt: skip
    return figures


def _rounds(house: House, cold: dict[str, Any], warm: dict[str, Any]) -> dict[str, list[Any]]:
    robotni = house.robotni
    few = max(4, house.given.jobs // 400 * COLD_JOBS)
    many = 4 * few
    samples = house.given.starts // 3 + 1
    robotni.run("uses_numpy.py", 8, **cold)
    robotni.run("uses_numpy.py", 8, **warm)
    return house.each_round(
        {
            "cold": lambda: few / robotni.run("uses_numpy.py", few, **cold),
            "warm": lambda: many / robotni.run("uses_numpy.py", many, **warm),
            "cold, until": lambda: robotni.starts(samples, 0.05, "stamp_numpy.py", **cold),
            "warm, until": lambda: robotni.starts(samples, 0.05, "stamp_numpy.py", **warm),
        }
    )
