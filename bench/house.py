"""What the rows share: the project folder, the systems under test, started when first needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import peers
from programs import Interpreter, Spooler, Xargs
from project import Project
from server import Robotni


class House:
    """Closes all that it started, the last first."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.given = given
        self.rounds: int = given.rounds
        self.folder = folder
        self.project = Project(folder / "project")
        self.notes: list[str] = []
        self.memo: dict[str, Any] = {}
        self._stack = ExitStack()
        self._versions: dict[str, str] = {}

    def __enter__(self) -> House:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all systems; what is asked for afterwards is started anew."""
        self._stack.close()
        for name in ("robotni", "spooler", "redis", "peers"):
            self.__dict__.pop(name, None)

    def keep(self, system: Any) -> Any:
        self._stack.callback(system.close)
        return system

    def robotni_server(self, name: str, **settings: Any) -> Robotni:
        server = self.keep(Robotni(self.project, name, **settings))
        self._versions["robotni"] = server.version
        return server

    @cached_property
    def robotni(self) -> Robotni:
        """The server of most rows; its worker and shims are up."""
        server = self.robotni_server("data", workers=4)
        server.run("noop.py", 8)
        return server

    @cached_property
    def xargs(self) -> Xargs:
        return Xargs(self.project)

    @cached_property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.project)

    @cached_property
    def _missing(self) -> list[str]:
        """Programs that are not here and could not be installed; a note says so."""
        sentence = peers.install_programs()
        self.notes += [sentence] if sentence else []
        return peers.missing_programs()

    @cached_property
    def spooler(self) -> list[Spooler]:
        """task-spooler where it is installed; a list of one or none."""
        if self.given.no_peers or "tsp" in self._missing:
            return []
        spooler = self.keep(Spooler(self.project))
        self._versions[spooler.name] = spooler.version
        return [spooler]

    @cached_property
    def redis(self) -> peers.Redis:
        return self.keep(peers.Redis(self.folder))

    @cached_property
    def peers(self) -> list[peers.Peer]:
        """All that can be measured here, up and with their imports done."""
        found = []
        for kind in self.kinds():
            try:
                peer = self.peer(kind)
                peer.run("noop.py", 8)
            except peers.PeerFailed as failure:
                self.notes.append(str(failure))
            else:
                found.append(peer)
        return found

    def kinds(self) -> list[peers.Kind]:
        """The peers that can be measured here."""
        if self.given.no_peers:
            return []
        has_redis = "redis-server" not in self._missing
        return [kind for kind in peers.KINDS if kind.database is None or has_redis]

    def peer(self, kind: peers.Kind) -> peers.Peer:
        redis = self.redis if kind.database is not None else None
        peer = self.keep(peers.Peer(kind, self.project, redis))
        self._versions[kind.venv] = peer.version
        return peer

    def each_round(self, tasks: dict[str, Callable[[], Any]]) -> dict[str, list[Any]]:
        """What each task returned in each round; who begins rotates, so that nobody always
        runs on the heels of the same other. A peer that gives up is left out."""
        names = list(tasks)
        found: dict[str, list[Any]] = {name: [] for name in names}
        for number in range(self.rounds):
            at = number % len(names)
            for name in names[at:] + names[:at]:
                try:
                    if name in found:
                        found[name].append(tasks[name]())
                except peers.PeerFailed as failure:
                    self.notes.append(str(failure))
                    del found[name]
        return found

    def versions(self) -> dict[str, str]:
        return self._versions
