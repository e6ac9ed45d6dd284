"""Calls under load: 32 keep-alive connections, from a process of their own (`load.py`).

`no pause`: each connection sends its next call when it has the answer, so a latency is mostly the
queue of the 31 others. `5 calls/s each`: like 32 pages that poll. Meanwhile jobs take all slots.
Submits a second go to a server without a worker, beside a bare FastAPI app (`bare.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from systems import HERE, Robotni, bare_endpoint
from table import Figure, percentile
from wire import request

if TYPE_CHECKING:
    from run import Bench

CONNECTIONS = 32
BODY = {"script": "noop.py", "venv": ".venv"}
JOBS = "/api/worker/jobs"


def measure(bench: Bench) -> list[Figure]:
    found: dict[str, list[Any]] = {"no pause": [], "5 calls/s each": [], "robotni": [], "bare": []}
    busy = Robotni(bench.project, "busy", workers=4)
    silent = Robotni(bench.project, "silent", autostart=0)
    bare = bare_endpoint(bench.project)
    calls = _mix(busy)
    try:
        for _ in range(bench.rounds):
            found["no pause"].append(_under_work(bench, busy, calls, 0))
            found["5 calls/s each"].append(_under_work(bench, busy, calls, 0.2))
            for name, port in (("robotni", silent.port), ("bare", bare.port)):
                post = [["submit", request("POST", JOBS, BODY).decode()]]
                found[name].append(load(port, post, bench.seconds))
    finally:
        for system in (busy, silent, bare):
            system.close()
    return [*_latencies(found), *_rates(found, bench.seconds)]


def _latencies(found: dict[str, list[Any]]) -> list[Figure]:
    figures = []
    for name in ("no pause", "5 calls/s each"):
        for share in (0.5, 0.99):
            values = [percentile([ms for c in a.values() for ms in c], share) for a in found[name]]
            what = f"any call, 32 connections, {name}, p{100 * share:.0f}"
            figures.append(Figure("api", what, "robotni", "ms", values))
    return figures


def _rates(found: dict[str, list[Any]], seconds: float) -> list[Figure]:
    robotni, bare = (
        [len(answer["submit"]) / seconds for answer in found[name]] for name in ("robotni", "bare")
    )
    what, unit = "submits stored, 32 connections", "1/s"
    return [
        Figure("api", what, "robotni", unit, robotni),
        Figure("api", what, "bare FastAPI + SQLite, durable", unit, bare, robotni),
    ]


def load(port: int, requests: list[list[str]], seconds: float, pause: float = 0) -> Any:
    """Milliseconds by call; every answer must be a success."""
    given = {"port": port, "connections": CONNECTIONS, "seconds": seconds, "pause": pause}
    answer = subprocess.run(
        [sys.executable, HERE / "load.py"], input=json.dumps({**given, "requests": requests}),
        text=True, stdout=subprocess.PIPE, check=True,
    ).stdout  # fmt: skip
    found = json.loads(answer)
    if not found["statuses"] or any(status[0] not in "23" for status in found["statuses"]):
        raise RuntimeError(f"answers under load: {found['statuses']}")
    return found["milliseconds"]


def _under_work(bench: Bench, robotni: Robotni, calls: list[list[str]], pause: float) -> Any:
    for _ in range(int(bench.seconds * 8) + 8):
        robotni.submit("nap.py")
    answer = load(robotni.port, calls, bench.seconds, pause)
    robotni.wire.json("POST", "/queue/flush/", {})
    while robotni.counts()["running"]:
        time.sleep(0.05)
    return answer


def _mix(robotni: Robotni) -> list[list[str]]:
    """Of 20 calls: 10 open a job, 3 read its output, 3 list, 2 status, 1 filter, 1 submits."""
    job_id = robotni.submit("nap.py")
    robotni.wait(job_id)
    texts = {
        "open": (10, request("GET", f"{JOBS}/{job_id}")),
        "output": (3, request("GET", f"{JOBS}/{job_id}/output")),
        "list": (3, request("GET", JOBS)),
        "status": (2, request("GET", "/api/worker/status")),
        "filter": (1, request("GET", f"{JOBS}?status=pending,running")),
        "submit": (1, request("POST", JOBS, BODY)),
    }
    calls = [[name, text.decode()] for name, (times, text) in texts.items() for _ in range(times)]
    return calls[::3] + calls[1::3] + calls[2::3]
