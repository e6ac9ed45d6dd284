"""Calls under load: 32 keep-alive connections, from a process of their own (`load.py`).

`no pause`: each connection sends its next call when it has the answer, so the server is saturated
and a latency is mostly the queue of 31 others. `5 calls/s each`: as 32 pages that poll. Meanwhile
jobs run, all slots taken. With two cores the generator and the scripts compete with the server.
Submits go to a server without a worker, as those of the bare app (`bare.py`), which has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from house import House
from processes import end, free_port
from server import Robotni
from table import Figure, percentile
from wire import Wire, request

HERE = Path(__file__).parents[1]
CONNECTIONS = 32
PAUSE = 0.2


def measure(house: House) -> list[Figure]:
    robotni = house.robotni_server("busy", workers=4)
    idle = house.robotni_server("silent", autostart=0)
    bare = house.keep(Bare(house))
    seconds = house.given.seconds
    post = [["submit", _submit(house, "noop.py")]]
    calls = _mix(house, robotni)
    found = house.each_round(
        {
            "no pause": lambda: _under_work(house, robotni, calls, 0),
            "5 calls/s each": lambda: _under_work(house, robotni, calls, PAUSE),
            "robotni": lambda: load(idle.port, post, seconds),
            "bare": lambda: load(bare.port, bare.post, seconds),
        }
    )
    return _latencies(found) + _rates(found, seconds)


def _latencies(found: dict[str, list[Any]]) -> list[Figure]:
    figures = []
    for name in ("no pause", "5 calls/s each"):
        for share in (0.5, 0.99):
            values = [
                percentile([ms for call in answer.values() for ms in call], share)
                for answer in found[name]
            ]
            what = f"any call, 32 connections, {name}, p{100 * share:.0f}"
            goal = "<= 50" if share == 0.99 else ""
            figures.append(Figure("api", what, "", "ms", values, goal=goal))
    for call in found["no pause"][0]:
        worst = [percentile(answer[call], 0.99) for answer in found["no pause"]]
        figures.append(Figure("api", f"{call}, no pause, p99", "", "ms", worst))
    return figures


def _rates(found: dict[str, list[Any]], seconds: float) -> list[Figure]:
    rate = {
        name: [len(answer["submit"]) / seconds for answer in found[name]]
        for name in ("robotni", "bare")
    }
    what, unit = "submits, 32 connections", "1/s"
    ours = Figure("api", what, "robotni", unit, rate["robotni"], rate["bare"], goal=">= 700")
    return [ours, Figure("api", what, "bare FastAPI + SQLite", unit, rate["bare"])]


def load(port: int, requests: list[list[str]], seconds: float, pause: float = 0) -> Any:
    """Milliseconds by call; every answer must be a success."""
    order = {
        "port": port, "connections": CONNECTIONS, "seconds": seconds, "pause": pause,
        "requests": requests,
    }  # fmt: skip
    answer = subprocess.run(
        [sys.executable, HERE / "load.py"], input=json.dumps(order), text=True,
        stdout=subprocess.PIPE, check=True,
    ).stdout  # fmt: skip
    found = json.loads(answer)
    refused = {s: n for s, n in found["statuses"].items() if s[0] not in "23"}
    if refused or not found["statuses"]:
        raise RuntimeError(f"answers under load: {found['statuses']}")
    return found["milliseconds"]


def _under_work(house: House, robotni: Robotni, calls: list[list[str]], pause: float) -> Any:
    """Load while naps of half a second fill all slots, and the submits' no-ops wait between."""
    naps = int(house.given.seconds * 8) + 8
    for _ in range(naps):
        robotni.submit("nap.py")
    answer = load(robotni.port, calls, house.given.seconds, pause)
    robotni.wire.json("POST", "/queue/flush/", {})
    while robotni.status()["jobs"]["running"]:
        time.sleep(0.05)
    return answer


def _submit(house: House, script: str) -> str:
    body = {"script": script, "venv": ".venv"}
    return request("POST", "/api/worker/jobs", body).decode()


def _mix(house: House, robotni: Robotni) -> list[list[str]]:
    """Of 20 calls: 10 open a job, 3 read its output, 3 list, 2 status, 1 filter, 1 submits."""
    robotni.run("nap.py", 4)
    job_id = robotni.submit("nap.py")
    while robotni.job(job_id)["finishedAt"] is None:
        time.sleep(0.05)
    job = f"/api/worker/jobs/{job_id}"
    texts = {
        "open": (10, request("GET", job).decode()),
        "output": (3, request("GET", f"{job}/output").decode()),
        "list": (3, request("GET", "/api/worker/jobs").decode()),
        "status": (2, request("GET", "/api/worker/status").decode()),
        "filter": (1, request("GET", "/api/worker/jobs?status=pending,running").decode()),
        "submit": (1, _submit(house, "noop.py")),
    }
    calls = [[name, text] for name, (times, text) in texts.items() for _ in range(times)]
    return calls[::3] + calls[1::3] + calls[2::3]


class Bare:
    """`bare.py` under uvicorn, with a database of its own on the same disk."""

    def __init__(self, house: House) -> None:
        self.port = free_port()
        path = house.folder / "bare.db"
        self._process = subprocess.Popen(
            [sys.executable, HERE / "bare.py", str(self.port), str(path)]
        )
        self.roots = [self._process.pid]
        body = {"script": "noop.py", "venv": ".venv"}
        self.post = [["submit", request("POST", "/jobs", body).decode()]]
        give_up = time.monotonic() + 20
        while True:
            try:
                Wire(self.port).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        end(self._process)
