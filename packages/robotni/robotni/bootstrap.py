"""The wiring: who is built with what. The one place where the parts of robotni meet.

Heavy imports stay inside the functions, since a worker needs no web framework and a web process
no consumer.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union

from robotni import log
from robotni.errors import SettingsError
from robotni.settings import Settings, find_project_folder, load, load_in
from robotni.system.datadir import DataDir

if TYPE_CHECKING:
    from fastapi import FastAPI

    from robotni.consumer.huey_queue import RobotniHuey
    from robotni.engine.engine import Engine

MAX_DIGITS = 100_001  # a sum may have a digit more than what it adds


def current_settings() -> Settings:
    """The settings of this process: from its environment and working directory."""
    return load(os.environ, Path.cwd())


def build_app(settings: Optional[Settings] = None) -> "FastAPI":
    """The web application of a process of its own, for any ASGI server."""
    settings = settings or current_settings()
    log.set_up(settings.log_format)
    return _web(settings)


def create_app(project_folder: "Union[str, os.PathLike[str], None]", **settings: Any) -> "FastAPI":
    """The web application for an app of somebody else's; see `robotni.create_app`."""
    folder = find_project_folder(Path.cwd()) if project_folder is None else Path(project_folder)
    if not folder.is_dir():
        raise SettingsError([f"the project folder {folder} does not exist; name one that does"])
    return _web(load_in(folder, os.environ, settings))


def _web(settings: Settings) -> "FastAPI":
    from robotni.engine.engine import Engine
    from robotni.engine.stats import Stats
    from robotni.storage.store import Store
    from robotni.web.app import create_api
    from robotni.web.autostart import Autostart

    allow_long_integers()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir)

    def needs_worker_in() -> float:
        return engine.needs_worker_in()

    autostart = Autostart(settings, datadir, os.environ, needs_worker_in)
    engine = Engine(settings, store, datadir.jobs, autostart.notify)
    return create_api(settings, engine, Stats(store), autostart)


def build_engine() -> "Tuple[Settings, DataDir, Engine]":
    """Settings, data directory and engine of this process, for a command without a server."""
    from robotni.engine.engine import Engine
    from robotni.storage.store import Store

    settings = current_settings()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir)
    engine = Engine(settings, store, datadir.jobs, lambda: None)
    return settings, datadir, engine


def build_huey(settings: Optional[Settings] = None) -> "RobotniHuey":
    """The Huey instance, for `huey_consumer` and for `robotni worker`."""
    from robotni.consumer.executor import Executor
    from robotni.consumer.huey_queue import RobotniHuey
    from robotni.consumer.maintenance import Maintenance
    from robotni.storage.store import Store

    settings = settings or current_settings()
    allow_long_integers()
    datadir = DataDir(settings.data_dir).open()
    store = Store(datadir)
    executor = Executor(settings, store, datadir, os.environ)
    maintenance = Maintenance(settings, store, datadir, executor)
    return RobotniHuey(settings, store, datadir, executor, maintenance)


def allow_long_integers() -> None:
    """JSON integers may be longer than Python's default limit; the body's size bounds them."""
    setter: Any = getattr(sys, "set_int_max_str_digits", None)
    if setter is not None:
        setter(MAX_DIGITS)
