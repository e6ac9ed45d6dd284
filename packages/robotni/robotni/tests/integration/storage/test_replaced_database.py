"""robotni.db, or its log, removed or replaced while robotni runs: nothing is acknowledged that the
next start would not find, and everybody is told what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import pytest

from robotni.errors import DatabaseReplaced
from robotni.storage.database import Database
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.calls import HELLO, problem
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.processes import Server, eventually

JOBS = "/api/worker/jobs"


def remove_database(data: Path) -> None:
    (data / "robotni.db").unlink()


def remove_all(data: Path) -> None:
    for path in data.glob("robotni.db*"):
        path.unlink()


def remove_log(data: Path) -> None:
    (data / "robotni.db-wal").unlink()


def replace_log(data: Path) -> None:
    shutil.copy(data / "robotni.db-wal", data / "copy")
    os.replace(data / "copy", data / "robotni.db-wal")


def restore_backup(data: Path) -> None:
    """As an administrator does it who forgot to stop the server."""
    for path in data.glob("robotni.db*"):
        path.unlink()
    shutil.copy(data / "backup.db", data / "robotni.db")


def replace_folder(data: Path) -> None:
    data.rename(data.with_name("moved"))
    shutil.copytree(data.with_name("backup"), data)


CHANGES: List[Callable[[Path], None]] = [
    remove_database, remove_all, remove_log, replace_log, restore_backup, replace_folder,
]  # fmt: skip


def ids_in(data: Path) -> List[str]:
    """The jobs that the next start finds."""
    store = Store(DataDir(data).open())
    ids = [job_id for (job_id,) in store._db.sql("SELECT job_id FROM job").fetchall()]
    store.close()
    return ids


@pytest.fixture
def backed_up(server: Server) -> Server:
    """A server that has run a job; its data directory has a backup of the empty database."""
    empty = server.project / "empty"
    store = Store(DataDir(empty).open())
    store.close()
    shutil.copy(empty / "robotni.db", server.data / "backup.db")
    shutil.copytree(empty, server.project / "backup", ignore=shutil.ignore_patterns("w*", "stop*"))
    server.wait_for(server.submit("pass"))
    return server


@pytest.mark.parametrize("change", CHANGES)
def test_every_call_is_503_and_nothing_is_acknowledged(
    backed_up: Server, change: Callable[[Path], None]
) -> None:
    server = backed_up
    key = {"Idempotency-Key": "before"}
    before = server.http.post(JOBS, json={**HELLO, "delay": 999}, headers=key).json()["jobId"]
    change(server.data)
    for method, path, options in (
        ("POST", JOBS, {"json": HELLO}),
        ("POST", JOBS, {"json": {**HELLO, "delay": 999}, "headers": key}),
        ("POST", "/add/", {"json": {"x": 1, "y": 2}}),
        ("GET", f"{JOBS}/{before}", {}),
        ("DELETE", f"{JOBS}/{before}", {}),
        ("GET", "/readyz", {}),
    ):
        answer = server.http.request(method, path, **options)
        detail = problem(answer, 503, "database_replaced")["detail"]
        assert "robotni stop), put the files in place, then start again" in detail
    assert server.http.get("/livez").status_code == 200
    told = robotni("jobs", cwd=server.project, url=server.url)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "was removed or replaced while it is open" in told.stderr


@pytest.mark.parametrize("change", CHANGES)
def test_the_worker_stops_and_no_other_is_started(
    backed_up: Server, change: Callable[[Path], None]
) -> None:
    server = backed_up
    assert len(server.workers()) == 1
    change(server.data)
    eventually(lambda: not server.workers())
    pids = set()
    for _ in range(20):  # the web process checks once a second whether a worker is needed
        problem(server.http.post(JOBS, json=HELLO), 503)
        pids |= {process.pid for process in server.workers()}
    assert pids == set()
    assert "Traceback" not in server.log()


def test_after_stop_and_start_it_works_with_the_restored_file(backed_up: Server) -> None:
    server = backed_up
    restore_backup(server.data)
    problem(server.http.post(JOBS, json=HELLO), 503)
    stopped = robotni("stop", cwd=server.project, **server.settings)
    assert stopped.returncode == 0, stopped.stderr
    assert server.process is not None
    assert server.process.wait(10) is not None
    assert ids_in(server.data) == []
    server.start()
    job_id = server.submit("print('after')")
    assert server.wait_for(job_id)["output"] == "after\n"
    server.stop()
    assert ids_in(server.data) == [job_id]


def test_a_running_script_goes_on_when_the_worker_stops(backed_up: Server) -> None:
    job_id = backed_up.submit("import time; time.sleep(60)")
    backed_up.wait_for(job_id, "running")
    eventually(lambda: backed_up.scripts(job_id))
    remove_database(backed_up.data)
    eventually(lambda: not backed_up.workers())
    assert backed_up.scripts(job_id)


def test_a_file_that_is_put_back_is_used_again(tmp_path: Path) -> None:
    db = Database(tmp_path / "robotni.db")
    with db.write():
        db.sql("INSERT INTO clean_day VALUES ('1')")
    (tmp_path / "robotni.db").rename(tmp_path / "away")
    with pytest.raises(DatabaseReplaced), db.write():
        raise AssertionError("nothing is written")
    (tmp_path / "away").rename(tmp_path / "robotni.db")
    assert db.sql("SELECT day FROM clean_day").fetchall() == [("1",)]
    db.close()


def test_what_is_removed_during_a_write_is_not_acknowledged(tmp_path: Path) -> None:
    db = Database(tmp_path / "robotni.db")
    with pytest.raises(DatabaseReplaced), db.write():
        db.sql("INSERT INTO clean_day VALUES ('1')")
        (tmp_path / "robotni.db").unlink()
    db.close()


OPENS = """
import sys
from pathlib import Path
from robotni.storage.database import Database
Database(Path(sys.argv[1]))
"""


def opened_by_another_process(path: Path) -> str:
    """The last line of what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", OPENS, str(path)], capture_output=True, text=True, check=False
    )
    return (run.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("change", [remove_database, restore_backup, remove_log])
def test_a_process_that_starts_then_is_refused_while_an_older_one_has_the_database_open(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """It would work with another file, or with the log of another one."""
    path = tmp_path / "robotni.db"
    Database(tmp_path / "backup.db").close()
    old = Database(path)
    with old.write():
        old.sql("INSERT INTO clean_day VALUES ('1')")
    assert opened_by_another_process(path) == ""
    change(tmp_path)
    assert "DatabaseReplaced" in opened_by_another_process(path)
    old.close()
    del old
    assert opened_by_another_process(path) == ""


def test_after_a_crash_an_index_without_its_log_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "robotni.db"
    Database(path).close()
    path.with_name("robotni.db-shm").write_bytes(b"")
    assert opened_by_another_process(path) == ""


def test_a_look_at_the_files_costs_little(tmp_path: Path) -> None:
    import timeit

    db = Database(tmp_path / "robotni.db")
    connection: Any = db.connection
    seconds = min(timeit.repeat(lambda: db._check(connection), number=1000, repeat=5)) / 1000
    assert seconds < 50e-6
    db.close()
