"""The wiring: who is built with what. The one place where the parts of robotni meet.

Heavy imports stay inside the functions, since a worker needs no web framework and a web process
no consumer.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union

from robotni import logs
from robotni.datadir import DataDir
from robotni.errors import SettingsError
from robotni.settings import Settings, find_project_folder, load, load_in

if TYPE_CHECKING:
    from fastapi import FastAPI

    from robotni.engine import Engine
    from robotni.tickets import RobotniHuey

MAX_DIGITS = 100_001  # a sum may have a digit more than what it adds


def current_settings() -> Settings:
    """The settings of this process: from its environment and working directory."""
    return load(os.environ, Path.cwd())


def build_app(settings: Optional[Settings] = None) -> "FastAPI":
    """The web application of a process of its own, for any ASGI server."""
    settings = settings or current_settings()
    logs.set_up(settings.log_format)
    return _web(settings)


def create_app(project_folder: "Union[str, os.PathLike[str], None]", **settings: Any) -> "FastAPI":
    """The web application for an app of somebody else's; see `robotni.create_app`."""
    folder = find_project_folder(Path.cwd()) if project_folder is None else Path(project_folder)
    if not folder.is_dir():
        raise SettingsError([f"the project folder {folder} does not exist; name one that does"])
    return _web(load_in(folder, os.environ, settings))


def _web(settings: Settings) -> "FastAPI":
    from robotni.api import create_api
    from robotni.engine import Engine
    from robotni.jobtickets import JobTickets
    from robotni.starter import Starter
    from robotni.stats import Stats
    from robotni.store import Store

    allow_long_integers()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir.database, JobTickets())

    def needs_worker_in() -> float:
        return engine.needs_worker_in()

    starter = Starter(settings, datadir, os.environ, needs_worker_in)
    engine = Engine(settings, store, datadir.jobs, starter.ring)
    return create_api(settings, engine, Stats(store), starter)


def build_engine() -> "Tuple[Settings, DataDir, Engine]":
    """Settings, data directory and engine of this process, for a command without a server."""
    from robotni.engine import Engine
    from robotni.jobtickets import JobTickets
    from robotni.store import Store

    settings = current_settings()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir.database, JobTickets())
    engine = Engine(settings, store, datadir.jobs, lambda: None)
    return settings, datadir, engine


def build_huey(settings: Optional[Settings] = None) -> "RobotniHuey":
    """The Huey instance, for `huey_consumer` and for `robotni worker`."""
    from robotni.jobtickets import JobTickets
    from robotni.runner import Runner
    from robotni.store import Store
    from robotni.tickets import RobotniHuey
    from robotni.upkeep import Upkeep

    settings = settings or current_settings()
    allow_long_integers()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir.database, JobTickets())
    runner = Runner(settings, store, datadir, os.environ)
    upkeep = Upkeep(settings, store, datadir, runner)
    return RobotniHuey(settings, store, datadir, runner, upkeep)


def allow_long_integers() -> None:
    """JSON integers may be longer than Python's default limit; the body's size bounds them."""
    setter: Any = getattr(sys, "set_int_max_str_digits", None)
    if setter is not None:
        setter(MAX_DIGITS)
