"""What is left of a system that has nothing to do: memory (PSS) and CPU.

robotni's server has served a thousand calls and run jobs; its worker has left (`IDLE_EXIT`, here
one second). The peers' figures are their workers' and Redis's; they have no web process, which an
app with them needs besides. All are watched at the same time, ten seconds a round.
"""

from __future__ import annotations

import time

from house import House
from processes import cpu, pss_mb, tree
from table import Figure

from rows.api import Bare

SECONDS = 10


def measure(house: House) -> list[Figure]:
    systems = {"robotni, web": _left_alone(house), "bare FastAPI": house.keep(Bare(house)).roots}
    systems.update({peer.name: peer.roots for peer in house.peers})
    seconds = 2 if house.given.quick else SECONDS
    found = {name: ([], []) for name in systems}
    time.sleep(seconds / 5)
    for _ in range(house.rounds):
        before = {name: cpu(roots) for name, roots in systems.items()}
        time.sleep(seconds)
        for name, roots in systems.items():
            found[name][0].append(pss_mb(roots))
            spent = cpu(roots).since(before[name]).all
            found[name][1].append(100 * spent / seconds)
    figures = []
    for name, (memory, share) in found.items():
        ours = name == "robotni, web"
        figures.append(Figure("idle", "memory", name, "MB", memory, goal="<= 50" if ours else ""))
        figures.append(
            Figure("idle", "CPU of a core", name, "%", share, goal="<= 0.2" if ours else "")
        )
    return figures


def _left_alone(house: House) -> list[int]:
    """The web process of a server whose worker came, worked and left."""
    robotni = house.robotni_server("idle", idle_exit=1)
    robotni.run("noop.py", 20)
    for _ in range(1000):
        robotni.wire.json("GET", "/api/worker/jobs")
    give_up = time.monotonic() + 30
    while tree(robotni.roots) != robotni.roots:
        if time.monotonic() > give_up:
            raise RuntimeError("the worker has not left within 30 s")
        time.sleep(0.1)
    return robotni.roots
