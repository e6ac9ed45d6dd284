"""Builds the objects of a process: the web application, the worker, an engine for a command.

The only place where the packages meet. Imports of the packages stand inside the functions, since a
worker needs no web framework and a web process no consumer.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union

from robotni import log
from robotni.errors import SettingsError
from robotni.settings import (
    Settings,
    find_project_folder,
    load_project_settings,
    load_settings,
)
from robotni.system.datadir import DataDir

if TYPE_CHECKING:
    from fastapi import FastAPI

    from robotni.consumer.huey_queue import RobotniHuey
    from robotni.engine.engine import Engine
    from robotni.storage.store import Store

MAX_DIGITS = 100_001  # of an integer in JSON; the sum that `add` returns may be one digit longer


def build_app(settings: Optional[Settings] = None) -> "FastAPI":
    """The web application for an ASGI server, in a process that robotni has to itself."""
    settings = settings or _current_settings()
    log.set_up(settings.log_format)
    return _build_web(settings)


def create_app(project_folder: "Union[str, os.PathLike[str], None]", **settings: Any) -> "FastAPI":
    """The web application to mount in another app; see `robotni.create_app`."""
    folder = find_project_folder(Path.cwd()) if project_folder is None else Path(project_folder)
    if not folder.is_dir():
        raise SettingsError([f"the project folder {folder} does not exist; name one that does"])
    return _build_web(load_project_settings(folder, os.environ, settings))


def open_datadir() -> "Tuple[Settings, DataDir]":
    """Settings and data directory for a command that works without a server."""
    settings = _current_settings()
    return settings, DataDir(settings.data_dir).open()


def build_engine(settings: Settings, datadir: DataDir) -> "Engine":
    """The engine for a command that works without a server."""
    from robotni.engine.engine import Engine
    from robotni.storage.store import Store

    return Engine(settings, Store(datadir), notify=lambda: None)


def build_huey(settings: Optional[Settings] = None) -> "RobotniHuey":
    """The Huey instance of a worker process: for `huey_consumer` and `robotni worker`."""
    from robotni.consumer.executor import Executor
    from robotni.consumer.huey_queue import RobotniHuey
    from robotni.consumer.maintenance import Maintenance

    settings = settings or _current_settings()
    allow_long_integers()
    datadir, store = _open_storage(settings)
    executor = Executor(settings, store, datadir, os.environ)
    maintenance = Maintenance(settings, store, datadir, executor)
    return RobotniHuey(settings, store, datadir, executor, maintenance)


def allow_long_integers() -> None:
    """Raises Python's limit on the digits of an integer; the size limit of a body bounds them."""
    setter: Any = getattr(sys, "set_int_max_str_digits", None)  # not in every Python 3.8
    if setter is not None:
        setter(MAX_DIGITS)


def _build_web(settings: Settings) -> "FastAPI":
    from robotni.engine.engine import Engine
    from robotni.engine.stats import Stats
    from robotni.web.app import create_api
    from robotni.web.autostart import Autostart

    allow_long_integers()
    datadir, store = _open_storage(settings)

    def needs_worker_in() -> float:  # engine and autostart call each other
        return engine.needs_worker_in()

    autostart = Autostart(settings, datadir, os.environ, needs_worker_in)
    engine = Engine(settings, store, autostart.notify)
    return create_api(settings, engine, Stats(store), autostart)


def _open_storage(settings: Settings) -> "Tuple[DataDir, Store]":
    from robotni.storage.store import Store

    datadir = DataDir(settings.data_dir).open()
    return datadir, Store(datadir)


def _current_settings() -> Settings:
    return load_settings(os.environ, Path.cwd())
