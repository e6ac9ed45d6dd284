"""Upgrades: a worker of a newer version takes over while jobs run; a newer database is refused."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from robotni.storage.database import Database
from robotni.storage.migrations import VERSION
from robotni.system import worker_lock as workerlock
from robotni.system.datadir import DataDir
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.integration.consumer.test_recovery import WITNESS, begun, let_go, witness
from robotni.tests.paths import PACKAGE
from robotni.tests.processes import Server, eventually

MAX_WAIT = 3.0 + 3.0  # seconds a job may wait: for the take-over, and for a loaded machine


@pytest.fixture
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with a newer version: this code, and one migration more."""
    folder = tmp_path_factory.mktemp("newer")
    ignored = shutil.ignore_patterns("tests", "__pycache__")
    shutil.copytree(str(PACKAGE), str(folder / "robotni"), ignore=ignored)
    (folder / "robotni" / "__init__.py").write_text('__version__ = "99.0"\n')
    with open(folder / "robotni" / "storage" / "migrations.py", "a") as file:
        file.write('MIGRATIONS += (("ALTER TABLE job ADD COLUMN more TEXT",),)\n')
        file.write("VERSION = len(MIGRATIONS)\n")
    return folder


@pytest.fixture
def upgraded(project: Path, newer: Path) -> Iterator[Server]:
    """`robotni serve` of the newer version in the same project; not started yet."""
    server = Server(project, workers=2, kill_grace=2)
    server.environ["PYTHONPATH"] = str(newer)
    yield server
    server.close()


def seconds_waited(job: Dict[str, Any]) -> float:
    def seconds(stamp: str) -> float:
        hours, minutes, rest = stamp.rstrip("Z").split("T")[1].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    return (seconds(job["startedAt"]) - seconds(job["timestamp"])) % 86400


def run_a_quick_job(server: Server) -> float:
    """The seconds it waited for its start."""
    job = server.wait_for(server.submit("print(1)"))
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "1\n")
    return seconds_waited(job)


def test_a_newer_version_takes_over_while_jobs_run_and_are_submitted(
    make_server: Callable[..., Server], upgraded: Server
) -> None:
    old = make_server(workers=2)
    long = old.submit(WITNESS)
    begun(old, long)
    (old_worker,) = old.workers()
    upgraded.start()
    waited: List[float] = []
    while old_worker.is_running() and len(waited) < 200:
        for server in (old, upgraded):  # one after the other, so that none waits for a slot
            waited.append(run_a_quick_job(server))
    old_worker.wait(10)
    waited.append(run_a_quick_job(old))  # the old web process still works
    assert max(waited) < MAX_WAIT
    assert workerlock.holder(DataDir(old.data)) == "99.0"
    refused = old.start_worker("--on-demand")
    assert refused.wait(20) == 2
    assert "was written by a newer robotni" in (old.project / "hand.log").read_text()
    let_go(old.project)
    job = old.wait_for(long)
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "begin\nend\n")
    assert witness(old) == [f"begin {long}", f"end {long}"]
    assert "Traceback" not in old.log() + old.worker_log() + upgraded.log()


def test_an_idle_old_worker_is_replaced_too(
    make_server: Callable[..., Server], upgraded: Server
) -> None:
    old = make_server(workers=2)
    old.wait_for(old.submit("pass"))
    (old_worker,) = old.workers()
    upgraded.start()
    old_worker.wait(10)
    eventually(lambda: workerlock.holder(DataDir(old.data)) == "99.0")


@pytest.mark.parametrize("command", ["serve", "worker", "stop"])
def test_a_newer_database_is_refused_with_a_sentence(project: Path, command: str) -> None:
    path = DataDir(project / ".robotni").open().database
    Database(path).close()
    with closing(sqlite3.connect(str(path))) as db:
        db.execute("PRAGMA user_version = 99")
    answer = robotni(command, cwd=project, port=0)
    assert answer.returncode == 2
    assert answer.stderr == (
        f"robotni: {path} was written by a newer robotni (format 99, this one knows "
        f"{VERSION}); upgrade with pip install -U robotni\n"
    )
    assert "listens on" not in answer.stdout
