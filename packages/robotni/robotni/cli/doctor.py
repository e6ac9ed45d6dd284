"""`robotni doctor`: checks a project's setup; each finding says how to fix what is wrong.

It reads and changes nothing, and creates no data directory. A check that cannot be made is a
finding too, so the other checks still run.
"""

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from robotni import __version__
from robotni.cli.stop import is_served, wait_until
from robotni.client import Client
from robotni.consumer.warm_pool import DIFFERENCES
from robotni.engine.preflight import venv_problem
from robotni.engine.submit import DISK_RESERVE
from robotni.errors import RobotniError, TokenRequired
from robotni.jobs.states import PENDING, RUNNING
from robotni.settings import Settings, load_settings_and_problems
from robotni.storage.inspection import SQLITE_VERSION, Inspection, examine
from robotni.storage.migrations import VERSION
from robotni.system import worker_lock
from robotni.system.datadir import DataDir, file_system_type, is_network_file_system
from robotni.system.locks import is_locked, release_lock, take_lock
from robotni.system.server_address import address
from robotni.web import server

BLOCKED_AFTER = 600  # seconds without a start, while all places are taken and jobs wait
RECENT = 7 * 86400  # seconds; venvs of older jobs are not checked
CLOCK_TOLERANCE = 5.0  # seconds a job's time of creation may lie in the future
WRITE_LOCK_TIMEOUT = 2.0
OLDEST_SQLITE = (3, 22, 0)  # the first that reads a file in WAL mode without writing to it
MOVE_DATA = "set ROBOTNI_DATA_DIR to a folder on a local disk"
RESTART = "restart the server: robotni stop, then robotni serve"
UPGRADE = "upgrade this robotni: pip install -U robotni"


class Finding(NamedTuple):
    """The result of one check; `fix` says what to do, and is empty when nothing is wrong."""

    check: str
    text: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.fix

    @classmethod
    def from_sentence(cls, check: str, sentence: str) -> "Finding":
        """From the message of an error: `what is wrong; how to fix it`."""
        text, _, fix = sentence.partition("; ")
        return cls(check, text, fix or "correct it in the environment or in .env")


def findings(environ: Mapping[str, str], cwd: Path) -> Iterator[Finding]:
    """All findings for the project that `cwd` lies in."""
    settings, problems = load_settings_and_problems(environ, cwd)
    yield from (Finding.from_sentence("settings", problem) for problem in problems)
    if not problems:
        yield Finding("settings", f"project folder {settings.project_folder}")
    datadir = DataDir(settings.data_dir)
    yield _disk(settings)
    yield _file_system(datadir)
    yield from _inside(datadir, settings.workers)
    yield _server(settings, datadir)
    yield _web_server()
    if settings.warm_max:
        yield from (Finding("warm runs", difference) for difference in DIFFERENCES)


def _inside(datadir: DataDir, workers: int) -> Iterator[Finding]:
    """What can be checked only where there is a data directory."""
    if not os.path.isdir(datadir.path):
        yield _no_datadir(datadir)
        return
    yield from _datadir(datadir)
    if not _is_accessible(datadir.path):
        return  # which is a finding already
    yield _locks(datadir)
    inspection, finding = _database(datadir)
    yield finding
    if inspection is not None:
        yield _clock(inspection, time.time())
        yield from _venvs(inspection)
        yield from _queue(inspection, workers, time.time())
    yield _worker(datadir, inspection)


def _disk(settings: Settings) -> Finding:
    """Whether there is room for robotni itself and for the output of WORKERS scripts."""
    folder = next(f for f in (settings.data_dir, *settings.data_dir.parents) if os.path.exists(f))
    free = shutil.disk_usage(folder).free
    needed = DISK_RESERVE + settings.workers * settings.max_output
    fix = f"free some space: robotni needs {_size(needed)}" if free < needed else ""
    return Finding("disk", f"{_size(free)} free at {folder}", fix)


def _file_system(datadir: DataDir) -> Finding:
    kind = file_system_type(datadir.path) or "of unknown type"
    if is_network_file_system(kind):
        text = f"{kind} is a network file system, where locks are not reliable"
        return Finding("file system", text, MOVE_DATA)
    return Finding("file system", kind)


def _no_datadir(datadir: DataDir) -> Finding:
    if os.path.lexists(datadir.path):
        return Finding("data directory", f"{datadir.path} is not a folder", "move it away")
    text = f"{datadir.path} does not exist yet; the first start creates it"
    return Finding("data directory", text)


def _datadir(datadir: DataDir) -> Iterator[Finding]:
    path = datadir.path
    entries = [path, *sorted(path.iterdir())] if os.access(path, os.R_OK | os.X_OK) else [path]
    foreign = [p for p in entries if os.lstat(p).st_uid != os.geteuid()]
    opened = [p for p in entries if os.lstat(p).st_mode & 0o077 and not p.is_symlink()]
    if foreign:
        owner = f"sudo chown -R {os.geteuid()} {path}"
        yield Finding("data directory", f"{foreign[0]} belongs to another user", owner)
    elif not _is_accessible(path):
        yield Finding("data directory", f"{path} is not writable", f"chmod 700 {path}")
    elif opened:
        mode = stat.S_IMODE(os.lstat(opened[0]).st_mode)
        text = f"other users can access {opened[0]} (mode {mode:o})"
        yield Finding("data directory", text, f"chmod -R go= {path}")
    else:
        yield Finding("data directory", f"{path}, closed to other users")
    for fifo in (datadir.wakeup, datadir.stop_worker, datadir.stop_server):
        if os.path.lexists(fifo) and not stat.S_ISFIFO(os.lstat(fifo).st_mode):
            yield Finding("data directory", f"{fifo} is not a FIFO", f"robotni stop; rm {fifo}")


def _is_accessible(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | os.X_OK)


def _locks(datadir: DataDir) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=str(datadir.path), prefix="doctor-") as probe:
            lock = take_lock(Path(probe.name))
            works = lock is not None and is_locked(Path(probe.name))
            release_lock(lock)
    except OSError as error:
        return Finding("locks", f"no file can be locked ({error.strerror})", MOVE_DATA)
    if not works:
        return Finding("locks", "this file system does not keep locks", MOVE_DATA)
    write_lock = datadir.path / "write.lock"
    if not wait_until(lambda: not is_locked(write_lock), WRITE_LOCK_TIMEOUT):
        text = f"the write lock has been held for {WRITE_LOCK_TIMEOUT:g} s"
        return Finding("locks", text, "end the process that hangs: robotni stop, or find it by ps")
    return Finding("locks", "locks work")


def _database(datadir: DataDir) -> Tuple[Optional[Inspection], Finding]:
    sqlite = "version " + ".".join(map(str, SQLITE_VERSION))
    if SQLITE_VERSION < OLDEST_SQLITE:
        return None, Finding("SQLite", f"{sqlite} is too old", "use a newer Python")
    if not datadir.database.is_file() or datadir.database.stat().st_size == 0:
        return None, Finding("SQLite", f"{sqlite}, no jobs yet")
    try:
        inspection = examine(datadir.database, time.time() - RECENT)
    except RobotniError as error:
        fix = "robotni stop, then restore the file from a backup, or move it away"
        return None, Finding("SQLite", str(error), fix)
    text, fix = _database_condition(inspection)
    return inspection, Finding("SQLite", f"{sqlite}, {text}", fix)


def _database_condition(inspection: Inspection) -> Tuple[str, str]:
    """(condition, fix)"""
    if inspection.damage:
        fix = "robotni stop, then restore robotni.db from a backup"
        return f"robotni.db is damaged: {inspection.damage}", fix
    if inspection.version > VERSION:
        text = f"robotni.db has format {inspection.version}, this robotni knows only {VERSION}"
        return text, UPGRADE
    if inspection.journal != "wal":
        return f"robotni.db is in journal mode {inspection.journal}, not wal", RESTART
    if inspection.version < VERSION:
        return f"format {inspection.version}; the next start brings it to {VERSION}", ""
    return f"format {VERSION}, journal mode wal, not damaged", ""


def _clock(inspection: Inspection, now: float) -> Finding:
    if inspection.newest is not None and inspection.newest > now + CLOCK_TOLERANCE:
        text = f"the newest job was created {inspection.newest - now:.0f} s in the future"
        return Finding("clock", text, "set the clock: timedatectl set-ntp true")
    return Finding("clock", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now)))


def _venvs(inspection: Inspection) -> Iterator[Finding]:
    problems = [p for p in map(venv_problem, inspection.venvs) if p is not None]
    yield from (Finding.from_sentence("venv", problem) for problem in problems)
    working = len(inspection.venvs) - len(problems)
    if working:
        yield Finding("venv", f"{working} used in the last 7 days, with a Python that exists")


def _queue(inspection: Inspection, workers: int, now: float) -> Iterator[Finding]:
    """Whether jobs wait because the same scripts have had all places for long."""
    waiting, running = (inspection.counts.get(state, 0) for state in (PENDING, RUNNING))
    since = now - (inspection.last_start or now)
    if waiting and running >= workers and since > BLOCKED_AFTER:
        text = f"jobs that wait: {waiting}, but none has started for {since / 60:.0f} min, as "
        text += f"{running} running ones take all places"
        fix = "robotni jobs --status running names them; where they wait for jobs that they "
        yield Finding("queue", text, f"{fix}submitted, cancel one, or set a larger ROBOTNI_WORKERS")


def _worker(datadir: DataDir, inspection: Optional[Inspection]) -> Finding:
    version = worker_lock.holder(datadir)
    if version is None:
        counts = inspection.counts if inspection else {}
        waiting = counts.get(PENDING, 0) + counts.get(RUNNING, 0)
        if waiting and not is_served(datadir):
            fix = "start one: robotni serve, or robotni worker"
            return Finding("worker", f"none is running, jobs that need one: {waiting}", fix)
        return Finding("worker", "none is running; it is started when there is work")
    text = f"version {version or 'unknown'} is running"
    if version != __version__:
        is_newer = worker_lock.age(version) > worker_lock.age(__version__)
        return Finding("worker", f"{text}; this is {__version__}", UPGRADE if is_newer else RESTART)
    return Finding("worker", text)


def _server(settings: Settings, datadir: DataDir) -> Finding:
    found = address(datadir)
    url = found or settings.url
    try:
        with Client(url, settings.token, timeout=5) as client:
            version = client.status()["version"]
    except TokenRequired:
        text = f"{url} requires another token"
        return Finding("server", text, "set ROBOTNI_TOKEN to the token of the server")
    except (RobotniError, KeyError, TypeError):
        if found is None:
            return _port(settings)
        return Finding("server", f"{url} runs and does not answer", RESTART)
    text = f"version {version} at {url}"
    if version != __version__:
        return Finding("server", f"{text}; this is {__version__}", RESTART)
    if not is_served(datadir):
        return Finding("server", f"{text}, not started by robotni serve in this project")
    return Finding("server", text)


def _port(settings: Settings) -> Finding:
    try:
        server.bind(settings).close()
    except RobotniError as error:
        return Finding.from_sentence("port", str(error))
    text = f"{settings.port} is free: no server is running; start one with: robotni serve"
    return Finding("port", text)


def _web_server() -> Finding:
    if server.has_uvloop():
        return Finding("web server", "robotni serve uses uvloop")
    text = "robotni serve uses asyncio; faster with: pip install 'robotni[fast]'"
    return Finding("web server", text)


def _size(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def as_json(found: List[Finding]) -> Dict[str, Any]:
    listed = [{"check": f.check, "ok": f.is_ok, "text": f.text, "fix": f.fix} for f in found]
    return {"ok": all(f.is_ok for f in found), "findings": listed}
