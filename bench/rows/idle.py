"""What is left of a system that has nothing to do: memory (PSS) and CPU.

One system after the other, alone on the machine, since PSS falls when like processes run beside.
robotni's server has served a thousand calls and run jobs; its worker has left (`IDLE_EXIT`, here
one second). Of peers it is their workers and Redis; an app with them needs its web process besides.
"""

from __future__ import annotations

import time

from house import House
from peers import PeerFailed
from processes import cpu, memory_mb, tree
from table import Figure

from rows.api import Bare

SECONDS = 10  # a round; the others, for comparison, two


def measure(house: House) -> list[Figure]:
    house.close()
    seconds = 0.5 if house.given.quick else SECONDS
    figures = _watched(house, "robotni, web", _left_alone(house), seconds)
    for figure, goal in zip(figures, ("<= 50", "", "< 0.2")):
        figure.goal = goal
    house.close()
    figures += _watched(house, "bare FastAPI", house.keep(Bare(house)).roots, seconds / 5)
    for kind in house.kinds():
        house.close()
        try:
            peer = house.peer(kind)
            peer.run("noop.py", 20)
        except PeerFailed as failure:
            house.notes.append(str(failure))
        else:
            figures += _watched(house, peer.name, peer.roots, seconds / 5)
    return figures


def _watched(house: House, name: str, roots: list[int], seconds: float) -> list[Figure]:
    time.sleep(min(2, seconds))
    pss, rss, share = [], [], []
    for _ in range(house.rounds):
        before = cpu(roots)
        time.sleep(seconds)
        share.append(100 * cpu(roots).since(before).all / seconds)
        pss.append(memory_mb(roots))
        rss.append(memory_mb(roots, "Rss"))
    return [
        Figure("idle", "memory, PSS", name, "MB", pss),
        Figure("idle", "memory, RSS", name, "MB", rss),
        Figure("idle", "CPU of a core", name, "%", share),
    ]


def _left_alone(house: House) -> list[int]:
    """The web process of a server whose worker came, worked and left."""
    robotni = house.robotni_server("idle", idle_exit=1)
    robotni.run("noop.py", 20)
    for _ in range(50 if house.given.quick else 1000):
        robotni.wire.json("GET", "/api/worker/jobs")
    give_up = time.monotonic() + 30
    while tree(robotni.roots) != robotni.roots:
        if time.monotonic() > give_up:
            raise RuntimeError("the worker has not left within 30 s")
        time.sleep(0.1)
    return robotni.roots
