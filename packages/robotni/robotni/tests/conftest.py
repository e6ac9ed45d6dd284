"""Fixtures: a project folder with a venv, and the parts of robotni over its data directory."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

import pytest

from robotni.bootstrap import allow_long_integers
from robotni.consumer.executor import Executor
from robotni.consumer.maintenance import Maintenance
from robotni.engine.engine import Engine
from robotni.jobs.models import Job
from robotni.settings import Settings
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.processes import Server, end_all, make_venv

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_make_parametrize_id(val: Any) -> "Optional[str]":
    """Names parameters shortly, and alike in every process of a parallel run."""
    if callable(val):
        return str(getattr(val, "__name__", type(val).__name__))
    text = repr(sorted(val)) if isinstance(val, (set, frozenset)) else str(val)
    text = text.encode("ascii", "backslashreplace").decode()
    return f"{text[:40]}..." if len(text) > 60 else text


class Clock:
    """A clock that stands still until a test sets `now`."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class House:
    """The engine and the parts of a worker over one data directory, in the process of the test."""

    def __init__(self, project: Path, **settings: Any) -> None:
        allow_long_integers()
        self.project = project
        self.clock = Clock()
        self.settings = Settings(project_folder=project, **settings)
        self.datadir = DataDir(self.settings.data_dir).open()
        self.notifies = 0
        self.store = Store(self.datadir)
        self.engine = Engine(self.settings, self.store, self._notify, self.clock)
        self.executor = Executor(self.settings, self.store, self.datadir, os.environ, self.clock)
        self.maintenance = Maintenance(
            self.settings, self.store, self.datadir, self.executor, self.clock
        )

    def _notify(self) -> None:
        self.notifies += 1

    def claim(self, job_id: str) -> "Optional[Job]":
        """The next run of a pending job, claimed as a thread of the worker does it."""
        waiting = self.store.get(job_id)
        pending = waiting is not None and waiting.status == "pending"
        if waiting is None or not pending:
            return None
        self.store.run_files(waiting, waiting.run + 1).create()
        return self.store.claim(waiting, self.clock.now)

    def script(self, text: str, name: str = "script.py") -> str:
        (self.project / name).write_text(text)
        return name

    def close(self) -> None:
        self.executor.close()
        self.executor.stop_signal.close()
        self.store.close()
        end_all(self.datadir.path)


@contextmanager
def statements(house: House, log: List[str]) -> Iterator[None]:
    """Logs the SQL that this thread runs, on the reading and the writing connection."""
    reading = house.store._db.connection
    with house.store._db.write():
        writing = house.store._db.connection
    for connection in (reading, writing):
        connection.set_trace_callback(log.append)
    yield
    for connection in (reading, writing):
        connection.set_trace_callback(None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with a `.venv` and a script; no folder above it has a `.venv`."""
    make_venv(tmp_path / ".venv")
    (tmp_path / "hello.py").write_text('print("hello")\n')
    return tmp_path


@pytest.fixture
def make_house(project: Path) -> Iterator[Callable[..., House]]:
    houses = []

    def make(**settings: Any) -> House:
        houses.append(House(project, **settings))
        return houses[-1]

    yield make
    for house in houses:
        house.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()


@pytest.fixture
def make_server(project: Path) -> Iterator[Callable[..., Server]]:
    """Starts `robotni serve` with settings; all its processes are killed afterwards."""
    servers = []

    def make(**settings: Any) -> Server:
        settings.setdefault("kill_grace", 2)
        servers.append(Server(project, **settings))
        return servers[-1].start()

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """One for each module: while it is open, no other test can run an event loop."""
    from robotni.tests.browser.tabs import launched

    yield from launched()


@pytest.fixture(scope="module")
def site(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that work with whatever jobs it has."""
    project = tmp_path_factory.mktemp("site")
    make_venv(project / ".venv")
    (project / "hello.py").write_text('print("hello")\n')
    server = Server(project, kill_grace=2)
    yield server.start()
    server.close()


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Any]]:
    """Opens tabs; an error in any of them fails the test."""
    from robotni.tests.browser.tabs import Visit

    visits = []

    def make(server: Server, **options: Any) -> Visit:
        visits.append(Visit(browser, server, **options))
        return visits[-1]

    yield make
    for one in visits:
        one.loses_connection = True  # which closing it means
        one.context.close()
        assert one.errors == []
