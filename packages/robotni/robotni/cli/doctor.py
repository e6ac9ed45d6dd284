"""`robotni doctor`: one finding after the other, each with what to do about it.

It looks and changes nothing; where there is no data directory it makes none. A check that cannot
look says so as its finding, so that the others still run.
"""

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from robotni import __version__
from robotni.client import Client
from robotni.consumer.warm_pool import DIFFERENCES
from robotni.engine.preflight import venv_problem
from robotni.engine.submit import DISK_RESERVE
from robotni.errors import RobotniError, TokenRequired
from robotni.jobs.states import PENDING, RUNNING
from robotni.settings import Settings, load_settings_and_problems
from robotni.storage.inspection import SQLITE_VERSION, Inspection, examine
from robotni.storage.migrations import VERSION
from robotni.system import worker_lock as workerlock
from robotni.system.datadir import DataDir, file_system_type, is_network_file_system
from robotni.system.locks import is_locked, release_lock, take_lock
from robotni.system.wakeup import has_listener
from robotni.web import server as serving

RECENT = 7 * 86400  # seconds in which a venv counts as used lately
AHEAD = 5.0  # seconds a job may lie in the future
OLDEST_SQLITE = (3, 22, 0)  # the first one that reads a file in WAL mode without writing to it


class Finding(NamedTuple):
    """What one check found; `mend` says what to do, and is empty when all is well."""

    check: str
    text: str
    mend: str = ""

    @property
    def is_well(self) -> bool:
        return not self.mend


def findings(environ: Mapping[str, str], cwd: Path) -> Iterator[Finding]:
    """All findings for the project that `cwd` lies in."""
    settings, faults = load_settings_and_problems(environ, cwd)
    yield from _settings(settings, faults)
    datadir = DataDir(settings.data_dir)
    yield _disk(settings)
    yield _file_system(datadir)
    yield from _of_datadir(datadir)
    yield _server(settings, datadir)
    yield _stack()
    if settings.warm_max:
        yield from (Finding("warm runs", difference) for difference in DIFFERENCES)


def _of_datadir(datadir: DataDir) -> Iterator[Finding]:
    if not os.path.isdir(datadir.path):
        yield _no_datadir(datadir)
        return
    yield from _datadir(datadir)
    if not os.access(datadir.path, os.R_OK | os.W_OK | os.X_OK):
        return  # said already, and nothing in it can be looked at
    yield _locks(datadir)
    facts, found = _database(datadir)
    yield found
    if facts is not None:
        yield _clock(facts, time.time())
        yield from _venvs(facts)
    yield _worker(datadir, facts)


def _settings(settings: Settings, faults: List[str]) -> Iterator[Finding]:
    for line in faults:
        text, _, mend = line.partition("; ")
        yield Finding("settings", text, mend or "correct it in the environment or in .env")
    if not faults:
        yield Finding("settings", f"project folder {settings.project_folder}")


def _disk(settings: Settings) -> Finding:
    """Room for robotni itself, and for what WORKERS scripts may print."""
    folder = _nearest(settings.data_dir)
    free = shutil.disk_usage(folder).free
    needed = DISK_RESERVE + settings.workers * settings.max_output
    text = f"{_size(free)} free at {folder}"
    if free < needed:
        return Finding("disk", text, f"make room: robotni wants {_size(needed)}")
    return Finding("disk", text)


def _file_system(datadir: DataDir) -> Finding:
    kind = file_system_type(datadir.path) or "of unknown type"
    if is_network_file_system(kind):
        move = "set ROBOTNI_DATA_DIR to a folder on a local disk"
        return Finding("file system", f"{kind}, a network's, where locks cannot be trusted", move)
    return Finding("file system", kind)


def _no_datadir(datadir: DataDir) -> Finding:
    if os.path.lexists(datadir.path):
        return Finding("data directory", f"{datadir.path} is no folder", "move it away")
    return Finding("data directory", f"{datadir.path} is not there yet; the first start makes it")


def _datadir(datadir: DataDir) -> Iterator[Finding]:
    path = datadir.path
    entries = [path, *sorted(path.iterdir())] if os.access(path, os.R_OK | os.X_OK) else [path]
    foreign = [p for p in entries if os.lstat(p).st_uid != os.geteuid()]
    opened = [p for p in entries if os.lstat(p).st_mode & 0o077 and not p.is_symlink()]
    if foreign:
        owner = f"sudo chown -R {os.geteuid()} {path}"
        yield Finding("data directory", f"{foreign[0]} belongs to another user", owner)
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data directory", f"{path} is not writable", f"chmod 700 {path}")
    elif opened:
        mode = stat.S_IMODE(os.lstat(opened[0]).st_mode)
        text = f"{opened[0]} is open to other users (mode {mode:o})"
        yield Finding("data directory", text, f"chmod -R go= {path}")
    else:
        yield Finding("data directory", f"{path}, closed to other users")
    for fifo in (datadir.wakeup, datadir.stop_worker, datadir.stop_server):
        if os.path.lexists(fifo) and not stat.S_ISFIFO(os.lstat(fifo).st_mode):
            yield Finding("data directory", f"{fifo} is no FIFO", f"robotni stop; rm {fifo}")


def _locks(datadir: DataDir) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=str(datadir.path), prefix="doctor-") as probe:
            held = take_lock(Path(probe.name))
            works = held is not None and is_locked(Path(probe.name))
            release_lock(held)
    except OSError as error:
        return Finding("locks", f"no lock can be taken ({error.strerror})", "see the line above")
    if not works:
        move = "set ROBOTNI_DATA_DIR to a folder on a local disk"
        return Finding("locks", "this file system does not keep locks", move)
    if not _comes_true(lambda: not is_locked(datadir.path / "write.lock"), 2):
        stuck = "end the robotni process that hangs: robotni stop, else look for it with ps"
        return Finding("locks", "the write lock has been held for 2 s", stuck)
    return Finding("locks", "they hold")


def _database(datadir: DataDir) -> Tuple[Optional[Inspection], Finding]:
    sqlite = "version " + ".".join(map(str, SQLITE_VERSION))
    if SQLITE_VERSION < OLDEST_SQLITE:
        return None, Finding("SQLite", f"{sqlite} is too old", "use a newer Python")
    if not datadir.database.is_file() or datadir.database.stat().st_size == 0:
        return None, Finding("SQLite", f"{sqlite}, no jobs yet")
    try:
        facts = examine(datadir.database, time.time() - RECENT)
    except RobotniError as error:
        restore = "robotni stop, then restore it from a backup, or move it away"
        return None, Finding("SQLite", str(error), restore)
    text, mend = _judged(facts)
    return facts, Finding("SQLite", f"{sqlite}, {text}", mend)


def _judged(facts: Inspection) -> Tuple[str, str]:
    if facts.fault:
        damaged = "robotni stop, then restore robotni.db from a backup"
        return f"robotni.db is damaged: {facts.fault}", damaged
    if facts.version > VERSION:
        text = f"robotni.db has format {facts.version}, this robotni knows {VERSION}"
        return text, "upgrade: pip install -U robotni"
    if facts.journal != "wal":
        text = f"robotni.db is in journal mode {facts.journal}, not wal"
        return text, "restart robotni, which sets it: robotni stop, then robotni serve"
    older = f"format {facts.version}; the next start brings it to {VERSION}"
    return older if facts.version < VERSION else f"format {VERSION}, wal, sound", ""


def _clock(facts: Inspection, now: float) -> Finding:
    if facts.newest is not None and facts.newest > now + AHEAD:
        text = f"the newest job was submitted {facts.newest - now:.0f} s from now"
        return Finding("clock", text, "set the clock: timedatectl set-ntp true")
    return Finding("clock", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now)))


def _venvs(facts: Inspection) -> Iterator[Finding]:
    faults = [fault for fault in map(venv_problem, facts.venvs) if fault is not None]
    for fault in faults:
        text, _, mend = fault.partition("; ")
        yield Finding("venv", text, mend)
    sound = len(facts.venvs) - len(faults)
    if sound:
        yield Finding("venv", f"{sound} used lately with a Python that is there")


def _worker(datadir: DataDir, facts: Optional[Inspection]) -> Finding:
    version = workerlock.holder(datadir)
    if version is None:
        waiting = facts.counts.get(PENDING, 0) + facts.counts.get(RUNNING, 0) if facts else 0
        if waiting and not has_listener(datadir.stop_server):
            start = "start one: robotni serve, or robotni worker"
            return Finding("worker", f"none lives, and {waiting} jobs need one", start)
        return Finding("worker", "none lives; it is started when there is work")
    text = f"version {version or 'of the first release'} lives"
    if version != __version__:
        newer = workerlock.age(version) > workerlock.age(__version__)
        upgrade = "upgrade this one: pip install -U robotni"
        mend = upgrade if newer else "restart the server: robotni stop, then robotni serve"
        return Finding("worker", f"{text}; this is {__version__}", mend)
    return Finding("worker", text)


def _server(settings: Settings, datadir: DataDir) -> Finding:
    url = settings.url
    try:
        with Client(url, settings.token, timeout=5) as client:
            version = client.status()["version"]
    except TokenRequired:
        return Finding("server", f"{url} wants another token", "give ROBOTNI_TOKEN as it has it")
    except (RobotniError, KeyError, TypeError):
        return _port(settings)
    if version != __version__:
        restart = "restart it: robotni stop, then robotni serve"
        return Finding("server", f"version {version} at {url}; this is {__version__}", restart)
    if not has_listener(datadir.stop_server):
        return Finding(
            "server", f"version {version} at {url}, not by robotni serve of this project"
        )
    return Finding("server", f"version {version} at {url}")


def _port(settings: Settings) -> Finding:
    try:
        serving.bind(settings).close()
    except RobotniError as error:
        text, _, mend = str(error).partition("; ")
        return Finding("port", text, mend)
    return Finding("port", f"{settings.port} is free; no server runs, start it: robotni serve")


def _stack() -> Finding:
    if serving.is_fast():
        return Finding("web server", "robotni serve uses uvloop and httptools")
    return Finding("web server", "asyncio and h11; pip install 'robotni[fast]' makes it cheaper")


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))


def _size(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _comes_true(condition: Callable[[], bool], within: float) -> bool:
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def as_json(found: List[Finding]) -> Dict[str, Any]:
    listed = [{"check": f.check, "ok": f.is_well, "text": f.text, "mend": f.mend} for f in found]
    return {"ok": all(f.is_well for f in found), "findings": listed}
