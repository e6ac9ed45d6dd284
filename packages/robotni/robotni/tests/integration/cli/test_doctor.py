"""`robotni doctor`: what it reports where something is wrong, and that it changes nothing."""

import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from robotni import __version__
from robotni.cli.doctor import Finding, findings
from robotni.consumer.warm_pool import DIFFERENCES
from robotni.jobs.request import JobRequest
from robotni.storage.migrations import VERSION
from robotni.system.datadir import DataDir, is_network_file_system
from robotni.system.locks import take_lock
from robotni.tests.conftest import House
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.processes import Server, free_port
from robotni.tests.unit.system.test_worker_lock import lock_as


def examine(project: Path, **settings: Any) -> Dict[str, List[Finding]]:
    """The findings of each check."""
    settings.setdefault("port", free_port())
    environ = {f"ROBOTNI_{name.upper()}": str(value) for name, value in settings.items()}
    by_check: Dict[str, List[Finding]] = {}
    for finding in findings(environ, project):
        by_check.setdefault(finding.check, []).append(finding)
    return by_check


def problems(project: Path, **settings: Any) -> List[str]:
    """The findings that are not ok, as `check: text; fix`."""
    found = [f for group in examine(project, **settings).values() for f in group]
    return [f"{f.check}: {f.text}; {f.fix}" for f in found if not f.is_ok]


@pytest.fixture
def pending(project: Path) -> Path:
    """A project with two pending jobs, where nothing runs."""
    parts = House(project)
    parts.clock.now = time.time()
    for _ in range(2):
        parts.engine.submit(JobRequest(script="hello.py", venv=".venv"))
    parts.close()
    return project


@pytest.fixture
def finished(pending: Path) -> Path:
    """A project whose jobs have all ended a moment ago."""
    change(pending, "UPDATE job SET status = 'cancelled', finished_at = timestamp")
    return pending


def database(project: Path) -> Path:
    return project / ".robotni" / "robotni.db"


def change(project: Path, *statements: str) -> None:
    with closing(sqlite3.connect(str(database(project)))) as db:
        db.execute("DROP TRIGGER IF EXISTS terminal_is_final")
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_a_new_project_is_ok_and_nothing_is_created(tmp_path: Path) -> None:
    answer = robotni("doctor", "--json", cwd=tmp_path, port=free_port())
    assert answer.returncode == 0
    report = json.loads(answer.stdout)
    assert report["ok"] is True
    assert {frozenset(f) for f in report["findings"]} == {frozenset(("check", "ok", "text", "fix"))}
    checks = [f["check"] for f in report["findings"] if f["check"] != "warm runs"]
    assert checks == ["settings", "disk", "file system", "data directory", "port", "web server"]
    assert list(tmp_path.iterdir()) == []


def test_a_project_that_is_served_is_ok(server: Server) -> None:
    server.wait_for(server.submit("pass"))
    answer = robotni("doctor", cwd=server.project, **server.settings)
    assert answer.returncode == 0, answer.stdout
    assert {line.split()[0] for line in answer.stdout.splitlines()} == {"ok"}
    assert len(answer.stdout.splitlines()) == 11 + len(DIFFERENCES)
    assert f"server          version {__version__} at {server.url}\n" in answer.stdout
    assert f"worker          version {__version__} is running\n" in answer.stdout
    assert "venv            1 used in the last 7 days, with a Python that exists\n" in answer.stdout
    assert "web server      robotni serve uses uvloop\n" in answer.stdout
    settings = {**server.settings, "token": "12345678"}
    assert robotni("doctor", cwd=server.project, **settings).returncode == 0


def test_a_project_where_nothing_runs_is_ok_and_no_file_changes(finished: Path) -> None:
    def times() -> Dict[str, int]:
        files = (finished / ".robotni").iterdir()
        return {p.name: p.stat().st_mtime_ns for p in files if ".db-" not in p.name}

    before = times()
    assert problems(finished) == []
    assert times() == before


def test_three_problems_are_three_lines_and_exit_code_1(finished: Path) -> None:
    (finished / ".venv" / "bin" / "python").unlink()
    (finished / ".robotni").chmod(0o755)
    answer = robotni("doctor", cwd=finished, port=free_port(), workres=3)
    assert answer.returncode == 1
    lines = [line for line in answer.stdout.splitlines() if not line.startswith("ok ")]
    assert lines == [
        "fix  settings        ROBOTNI_WORKRES is not a setting; did you mean ROBOTNI_WORKERS?",
        f"fix  data directory  other users can access {finished}/.robotni (mode 755); "
        f"chmod -R go= {finished}/.robotni",
        f"fix  venv            {finished}/.venv has no bin/python; recreate it with: "
        f"python3 -m venv --clear {finished}/.venv",
    ]
    assert answer.stderr == ""


def test_wrong_settings_are_reported_and_the_other_checks_still_run(project: Path) -> None:
    (project / ".env").write_bytes(b"ROBOTNI_TOKEN=\xff\n")
    found = examine(project, workers="many", data_dir=project / "elsewhere")
    unreadable, workers = found["settings"]
    assert unreadable.fix == "make it a readable UTF-8 file"
    assert workers.text.startswith("ROBOTNI_WORKERS=many: ")
    assert workers.fix == "correct it in the environment or in .env"
    assert str(project / "elsewhere") in found["data directory"][0].text
    (project / ".env").unlink()
    timeout = examine(project, timeout=100_000)["settings"]  # over the default of MAX_TIMEOUT
    assert [f.is_ok for f in timeout] == [False]


def test_a_disk_without_room_for_the_output_is_reported(project: Path) -> None:
    (line,) = problems(project, max_output=1 << 40)
    assert line.startswith("disk: ") and "; free some space: robotni needs 4096.0 GiB" in line


def test_a_network_file_system_is_known_by_its_name() -> None:
    kinds = ("nfs4", "cifs", "fuse.sshfs", "9p", "ext4", "xfs", "overlay", "")
    assert [is_network_file_system(kind) for kind in kinds] == [True] * 4 + [False] * 4


def test_a_file_in_place_of_a_folder_or_a_fifo_is_reported(project: Path, finished: Path) -> None:
    fifo = finished / ".robotni" / "wakeup"
    fifo.unlink()
    fifo.touch(0o600)
    assert problems(finished) == [f"data directory: {fifo} is not a FIFO; robotni stop; rm {fifo}"]
    (project / "file").touch()
    (line,) = problems(project, data_dir=project / "file")
    assert line == f"data directory: {project}/file is not a folder; move it away"


def test_a_write_lock_that_is_never_released_is_reported(finished: Path) -> None:
    lock = take_lock(finished / ".robotni" / "write.lock")
    assert lock is not None
    (line,) = problems(finished)
    os.close(lock)
    assert line.startswith(
        "locks: the write lock has been held for 2 s; end the process that hangs"
    )


def test_a_damaged_database_is_reported(finished: Path) -> None:
    path = database(finished)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\x55" * (len(data) - 4096))
    (line,) = problems(finished)
    assert "restore" in line and "robotni.db" in line
    path.write_bytes(b"no database at all, but a text of some length\n" * 100)
    (line,) = problems(finished)
    assert line.startswith(f"SQLite: {path} cannot be read (file is not a database); robotni stop")


def test_a_newer_format_and_another_journal_mode_are_reported(finished: Path) -> None:
    change(finished, "PRAGMA user_version = 99")
    (line,) = problems(finished)
    assert f"robotni.db has format 99, this robotni knows only {VERSION}; upgrade this" in line
    change(finished, f"PRAGMA user_version = {VERSION}", "PRAGMA journal_mode = delete")
    (line,) = problems(finished)
    assert "robotni.db is in journal mode delete, not wal; restart the server" in line


def test_a_job_from_the_future_is_reported(finished: Path) -> None:
    change(finished, f"UPDATE job SET timestamp = {time.time() + 3600}")
    (line,) = problems(finished)
    assert line.endswith("s in the future; set the clock: timedatectl set-ntp true")


def test_places_that_the_same_jobs_have_taken_for_long_are_reported(project: Path) -> None:
    house = House(project)
    house.clock.now = time.time() - 3600
    request = JobRequest(script="hello.py", venv=".venv")
    for job_id in [house.engine.submit(request).job.job_id for _ in range(3)][:2]:
        house.claim(job_id)
    house.close()
    lock = lock_as(DataDir(project / ".robotni"), __version__)
    assert problems(project, workers=3) == []
    assert problems(project, workers=2) == [
        "queue: jobs that wait: 1, but none has started for 60 min, as 2 running ones take all "
        "places; robotni jobs --status running names them; where they wait for jobs that they "
        "submitted, cancel one, or set a larger ROBOTNI_WORKERS"
    ]
    change(project, f"UPDATE job SET started_at = {time.time()} WHERE status = 'running'")
    assert problems(project, workers=2) == []
    os.close(lock)


def test_jobs_that_wait_without_a_server_and_a_worker_are_reported(pending: Path) -> None:
    (line,) = problems(pending)
    assert line == (
        "worker: none is running, jobs that need one: 2; start one: robotni serve, or robotni "
        "worker"
    )


@pytest.mark.parametrize(
    ("version", "fix"),
    [
        ("", "restart the server: robotni stop, then robotni serve"),
        ("0.0.1", "restart the server: robotni stop, then robotni serve"),
        ("99.0", "upgrade this robotni: pip install -U robotni"),
    ],
)
def test_a_worker_of_another_version_is_reported(finished: Path, version: str, fix: str) -> None:
    lock = lock_as(DataDir(finished / ".robotni"), version)
    (line,) = problems(finished)
    os.close(lock)
    name = version or "unknown"
    assert line == f"worker: version {name} is running; this is {__version__}; {fix}"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port where a server listens that is not robotni."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other.server_address[1]
        other.shutdown()
        thread.join()


def test_a_port_taken_by_another_program_is_reported(project: Path, taken_port: int) -> None:
    (line,) = problems(project, port=taken_port)
    assert line.startswith(f"port: port {taken_port} is taken; port ")
    assert " is free: robotni serve --port " in line


def test_a_server_with_another_token_is_reported(make_server: Callable[..., Server]) -> None:
    server = make_server(token="a-long-secret")
    (line,) = problems(server.project, port=server.port)
    assert line == (
        f"server: {server.url} requires another token; set ROBOTNI_TOKEN to the token of the server"
    )


def test_the_differences_between_warm_and_cold_runs_are_listed(tmp_path: Path) -> None:
    listed = [finding.text for finding in examine(tmp_path)["warm runs"]]
    assert listed == list(DIFFERENCES)
    assert "warm runs" not in examine(tmp_path, warm_max=0)
