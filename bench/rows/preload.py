"""A script that imports numpy: preloaded in a warm interpreter, against a cold start.

Three views of it: the run itself (`startedAt` to `finishedAt`, one at a time), from the POST until
numpy is imported, and jobs a second with four at once. The goal is that of the run; the other two
hold HTTP, queue and record as well. The venv is the examples', which has numpy.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import Any

from house import House
from peer_apps.drive import stamp
from project import numpy_venv
from table import Figure

WHAT = {
    "run": ("import numpy, startedAt to finishedAt, mean", "ms"),
    "until": ("POST until numpy is imported, median", "ms"),
    "speed": ("import numpy, four at once", "jobs/s"),
}
COLD_JOBS = 40  # a round; warm ones are ten times as quick


def measure(house: House) -> list[Figure]:
    venv = numpy_venv()
    if venv is None or not house.robotni.has_warm:
        note = "not in this version" if venv else "no venv with numpy; make bench makes one"
        return [Figure("preload", "import numpy", "robotni, warm", "jobs/s", note=note)]
    cold: dict[str, Any] = {"venv": str(venv)}
    warm = {**cold, "warm": True, "preload": ["numpy"]}
    rounds = _rounds(house, cold, warm)
    figures = []
    for measured, (what, unit) in WHAT.items():
        pair = [[found[measured] for found in rounds[name]] for name in ("cold", "warm")]
        figures.append(Figure("preload", what, "robotni, cold", unit, pair[0]))
        figures.append(Figure("preload", what, "robotni, warm", unit, *pair[::-1]))
    quicker = figures[1]
    quicker.ratio_goal = "<= 0.04"  # 25 times
    return figures


def _rounds(house: House, cold: dict[str, Any], warm: dict[str, Any]) -> dict[str, list[Any]]:
    jobs = max(4, COLD_JOBS * house.given.jobs // 400)
    for fields in (cold, warm):
        house.robotni.run("uses_numpy.py", 8, **fields)
    return house.each_round(
        {
            "cold": lambda: _measured(house, jobs, cold),
            "warm": lambda: _measured(house, 4 * jobs, warm),
        }
    )


def _measured(house: House, jobs: int, fields: dict[str, Any]) -> dict[str, float]:
    samples = [_one(house, fields) for _ in range(house.given.starts)]
    return {
        "run": statistics.fmean(run for run, _ in samples),
        "until": statistics.median(until for _, until in samples),
        "speed": jobs / house.robotni.run("uses_numpy.py", jobs, **fields),
    }


def _one(house: House, fields: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds of (the run, the POST until numpy is imported)."""
    robotni, out = house.robotni, house.project.new_out()
    time.sleep(0.05)
    began = time.monotonic()
    job_id = robotni.submit("stamp_numpy.py", args=[out], **fields)
    until = 1000 * (stamp(out) - began)
    while (job := robotni.job(job_id))["finishedAt"] is None:
        time.sleep(0.01)
    started, finished = (
        datetime.fromisoformat(job[name].replace("Z", "+00:00"))
        for name in ("startedAt", "finishedAt")
    )
    return 1000 * (finished - started).total_seconds(), until
