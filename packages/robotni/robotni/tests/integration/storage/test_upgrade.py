"""From one release to another: the file of the first one, and take-over while jobs run."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from robotni.storage import migrations as schema
from robotni.system import worker_lock as workerlock
from robotni.system.datadir import DataDir
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.integration.consumer.test_recovery import WITNESS, begun, let_go, witness
from robotni.tests.paths import PACKAGE
from robotni.tests.processes import Server, eventually

FIRST_RELEASE = Path(__file__).with_name("first_release.sql")
WITHIN = 3.0 + 3.0  # seconds a job may wait because of a take-over, and for a loaded machine


def lay_down_first_release(project: Path) -> None:
    datadir = DataDir(project / ".robotni").open()
    text = FIRST_RELEASE.read_text().replace("/srv/project", str(project))
    with closing(sqlite3.connect(str(datadir.database))) as db:
        db.executescript(text)


def test_a_database_of_the_first_release_is_shown_and_its_jobs_run(
    make_server: Callable[..., Server], project: Path
) -> None:
    (project / "hello.py").write_text("import sys\nprint(sys.argv[1:], sys.stdin.read())\n")
    lay_down_first_release(project)
    datadir = DataDir(project / ".robotni")
    datadir.remember_boot()  # the machine has not gone down since
    (datadir.jobs / "01a0c45073d07000b3f076bcaeb7e2b4" / "1").mkdir(parents=True)  # claimed
    server = make_server(retention_days=36500)
    jobs = {job["project"]: job["jobId"] for job in server.client.jobs()}
    assert list(jobs) == ["cancelled", "failed", "completed", "running", "pending", "scheduled"]
    for name in ("scheduled", "pending", "running"):
        job = server.wait_for(jobs[name])
        assert (job["status"], job["attempt"]) == ("completed", 1), job
        stdin = "words\n" if name == "pending" else ""
        assert job["output"] == f"['a b', '--n'] {stdin}\n"
    completed, failed = server.client.get(jobs["completed"]), server.client.get(jobs["failed"])
    assert (completed["result"], completed["progress"]["message"]) == ({"rows": 3}, "done")
    assert (failed["exitCode"], failed["error"]["code"]) == (7, "exit_nonzero")
    assert server.client.get(jobs["cancelled"])["finishedAt"] == "2026-09-21T14:13:51.000Z"
    assert server.client.status()["jobs"]["completed"] == 4
    again = server.client.retry(jobs["failed"])
    assert server.wait_for(again.id)["status"] == "completed"


# The rule of schema.py


def harms_an_older_process(statement: str) -> bool:
    """Whether a step does more than add what an older release need not know of."""
    text = " ".join(statement.split())
    if re.match(r"(CREATE (TABLE|INDEX)|DROP INDEX)\b", text, re.IGNORECASE):
        return False
    column = re.match(r"ALTER TABLE \w+ ADD (COLUMN )?\w+ ?(.*)", text, re.IGNORECASE)
    if column is None:
        return True
    return "NOT NULL" in column[2].upper() and "DEFAULT" not in column[2].upper()


def test_a_migration_only_adds() -> None:
    later = [statement for step in schema.MIGRATIONS[1:] for statement in step]
    assert [statement for statement in later if harms_an_older_process(statement)] == []


@pytest.mark.parametrize(
    ("statement", "harms"),
    [
        ("CREATE TABLE more (a)", False),
        ("CREATE INDEX job_by_more ON job (more)", False),
        ("DROP INDEX job_by_more", False),
        ("ALTER TABLE job ADD COLUMN more TEXT", False),
        ("ALTER TABLE job ADD COLUMN more INTEGER NOT NULL DEFAULT 0", False),
        ("ALTER TABLE job ADD COLUMN more INTEGER NOT NULL", True),
        ("ALTER TABLE job RENAME COLUMN name TO label", True),
        ("ALTER TABLE job DROP COLUMN name", True),
        ("CREATE UNIQUE INDEX one_name ON job (name)", True),
        ("CREATE TRIGGER t BEFORE UPDATE ON job BEGIN SELECT 1; END", True),
        ("UPDATE job SET name = ''", True),
        ("DROP TABLE clean_day", True),
    ],
)
def test_the_rule_sees_what_harms(statement: str, harms: bool) -> None:
    assert harms_an_older_process(statement) is harms


# A newer release, made by hand: this code under another version, with one more migration


@pytest.fixture
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to put on PYTHONPATH."""
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
    """`robotni serve` of the newer release in the same project; not started yet."""
    server = Server(project, workers=2, kill_grace=2)
    server.environ["PYTHONPATH"] = str(newer)
    yield server
    server.close()


def seconds_waited(job: Dict[str, Any]) -> float:
    def seconds(stamp: str) -> float:
        hours, minutes, rest = stamp.rstrip("Z").split("T")[1].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    return (seconds(job["startedAt"]) - seconds(job["timestamp"])) % 86400


def one_quick_job(server: Server) -> float:
    """Runs one; the seconds it waited for its start."""
    job = server.wait_for(server.submit("print(1)"))
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "1\n")
    return seconds_waited(job)


def test_a_newer_release_takes_over_while_jobs_run_and_are_submitted(
    make_server: Callable[..., Server], upgraded: Server
) -> None:
    old = make_server(workers=2)
    long = old.submit(WITNESS)
    begun(old, long)
    (old_worker,) = old.workers()
    upgraded.start()
    waited: List[float] = []
    while old_worker.is_running() and len(waited) < 200:
        for server in (old, upgraded):  # one after the other, so that none waits for a place
            waited.append(one_quick_job(server))
    old_worker.wait(10)
    waited.append(one_quick_job(old))  # the old web process is of use as long as it lives
    assert max(waited) < WITHIN
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
    lay_down_first_release(project)
    path = project / ".robotni" / "robotni.db"
    with closing(sqlite3.connect(str(path))) as db:
        db.execute("PRAGMA user_version = 99")
    answer = robotni(command, cwd=project, port=0)
    assert answer.returncode == 2
    assert answer.stderr == (
        f"robotni: {path} was written by a newer robotni (format 99, this one knows "
        f"{schema.VERSION}); upgrade with pip install -U robotni\n"
    )
    assert "listens on" not in answer.stdout
