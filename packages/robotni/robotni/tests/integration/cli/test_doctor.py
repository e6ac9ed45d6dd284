"""`robotni doctor`: what it finds where something is broken, and that it changes nothing."""

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
from robotni.storage.migrations import VERSION
from robotni.system.datadir import DataDir, is_network_file_system
from robotni.system.locks import take_lock
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.integration.storage.test_upgrade import lay_down_first_release
from robotni.tests.processes import Server, free_port
from robotni.tests.unit.system.test_worker_lock import lock_as


def examine(project: Path, **settings: Any) -> Dict[str, List[Finding]]:
    """The findings by what was checked."""
    settings.setdefault("port", free_port())
    environ = {f"ROBOTNI_{name.upper()}": str(value) for name, value in settings.items()}
    by_check: Dict[str, List[Finding]] = {}
    for finding in findings(environ, project):
        by_check.setdefault(finding.check, []).append(finding)
    return by_check


def to_mend(project: Path, **settings: Any) -> List[str]:
    """What is not well, as `check: text; mend`."""
    found = [f for group in examine(project, **settings).values() for f in group]
    return [f"{f.check}: {f.text}; {f.mend}" for f in found if not f.is_well]


@pytest.fixture
def settled(project: Path) -> Path:
    """A project whose jobs have all ended, a moment ago."""
    lay_down_first_release(project)
    now = time.time()
    change(
        project,
        "UPDATE job SET status = 'cancelled' WHERE finished_at IS NULL",
        "DROP TRIGGER terminal_is_final",
        f"UPDATE job SET timestamp = {now}",
    )
    return project


def change(project: Path, *statements: str) -> None:
    with closing(sqlite3.connect(str(project / ".robotni" / "robotni.db"))) as db:
        db.execute("PRAGMA journal_mode = wal")
        for statement in statements:
            db.execute(statement)
        db.commit()
    for path in (project / ".robotni").iterdir():  # the -wal and -shm of this connection
        path.chmod(path.stat().st_mode & ~0o077)


def test_where_nothing_is_all_is_well_and_nothing_is_made(tmp_path: Path) -> None:
    answer = robotni("doctor", "--json", cwd=tmp_path, port=free_port())
    assert answer.returncode == 0
    report = json.loads(answer.stdout)
    assert report["ok"] is True
    checks = [finding["check"] for finding in report["findings"]]
    looked = [check for check in checks if check != "warm runs"]
    assert looked == ["settings", "disk", "file system", "data directory", "port", "web server"]
    assert list(tmp_path.iterdir()) == []


def test_a_sound_project_is_well_while_it_is_served(server: Server) -> None:
    server.wait_for(server.submit("pass"))
    env = {n[8:].lower(): v for n, v in server.environ.items() if n.startswith("ROBOTNI_")}
    answer = robotni("doctor", cwd=server.project, **env)
    assert answer.returncode == 0, answer.stdout
    assert {line.split()[0] for line in answer.stdout.splitlines()} == {"ok"}
    assert len(answer.stdout.splitlines()) == 11 + len(DIFFERENCES)
    assert f"server          version {__version__} at {server.url}\n" in answer.stdout
    assert f"worker          version {__version__} lives\n" in answer.stdout
    assert "venv            1 used lately with a Python that is there\n" in answer.stdout
    assert "web server      robotni serve uses uvloop and httptools\n" in answer.stdout
    assert robotni("doctor", cwd=server.project, **{**env, "token": "12345678"}).returncode == 0


def test_a_sound_project_is_well_while_nothing_runs(settled: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (settled / ".robotni").iterdir()}
    assert to_mend(settled) == []
    after = {p: p.stat().st_mtime_ns for p in (settled / ".robotni").iterdir()}
    assert {p: t for p, t in after.items() if not p.name.endswith(("-wal", "-shm"))} == {
        p: t for p, t in before.items() if not p.name.endswith(("-wal", "-shm"))
    }


def test_three_things_broken_are_three_lines_and_exit_code_1(settled: Path) -> None:
    (settled / ".venv" / "bin" / "python").unlink()
    (settled / ".robotni").chmod(0o755)
    answer = robotni("doctor", cwd=settled, port=free_port(), workres=3)
    assert answer.returncode == 1
    lines = [line for line in answer.stdout.splitlines() if not line.startswith("ok ")]
    assert lines == [
        "mend  settings        ROBOTNI_WORKRES is not a setting; did you mean ROBOTNI_WORKERS?",
        f"mend  data directory  {settled}/.robotni is open to other users (mode 755); "
        f"chmod -R go= {settled}/.robotni",
        f"mend  venv            {settled}/.venv has no bin/python; recreate it with: "
        f"python3 -m venv --clear {settled}/.venv",
    ]
    assert answer.stderr == ""


def test_wrong_settings_are_said_and_the_rest_is_checked_all_the_same(project: Path) -> None:
    (project / ".env").write_bytes(b"ROBOTNI_TOKEN=\xff\n")
    found = examine(project, workers="many", data_dir=project / "elsewhere")
    unreadable, workers = found["settings"]
    assert unreadable.mend == "make it a readable UTF-8 file"
    assert workers.text.startswith("ROBOTNI_WORKERS=many: ")
    assert str(project / "elsewhere") in found["data directory"][0].text
    (project / ".env").unlink()
    timeout = examine(project, timeout=100_000)["settings"]  # goes only with a MAX_TIMEOUT
    assert [f.is_well for f in timeout] == [False]


def test_a_disk_without_room_for_the_output_is_said(project: Path) -> None:
    (line,) = to_mend(project, max_output=1 << 40)
    assert line.startswith("disk: ") and "; make room: robotni wants 4096.0 GiB" in line


def test_a_network_file_system_is_known_by_its_name() -> None:
    kinds = ("nfs4", "cifs", "fuse.sshfs", "9p", "ext4", "xfs", "overlay", "")
    assert [is_network_file_system(kind) for kind in kinds] == [True] * 4 + [False] * 4


def test_what_is_no_folder_and_what_is_no_fifo_is_said(project: Path, settled: Path) -> None:
    bell = settled / ".robotni" / "wakeup"
    bell.unlink()
    bell.touch(0o600)
    assert to_mend(settled) == [f"data directory: {bell} is no FIFO; robotni stop; rm {bell}"]
    (project / "file").touch()
    (line,) = to_mend(project, data_dir=project / "file")
    assert line == f"data directory: {project}/file is no folder; move it away"


def test_a_write_lock_that_is_never_let_go_is_said(settled: Path) -> None:
    lock = take_lock(settled / ".robotni" / "write.lock")
    assert lock is not None
    (line,) = to_mend(settled)
    os.close(lock)
    assert line.startswith("locks: the write lock has been held for 2 s; end the robotni process")


def test_a_damaged_database_is_said(settled: Path) -> None:
    path = settled / ".robotni" / "robotni.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\x55" * (len(data) - 4096))
    (line,) = to_mend(settled)
    assert "restore" in line and "robotni.db" in line
    path.write_bytes(b"no database at all, but a text of some length\n" * 100)
    (line,) = to_mend(settled)
    assert line.startswith(f"SQLite: {path} cannot be read (file is not a database); robotni stop")


def test_another_format_and_another_journal_are_said(settled: Path) -> None:
    change(settled, "PRAGMA user_version = 99")
    (line,) = to_mend(settled)
    assert f"robotni.db has format 99, this robotni knows {VERSION}; upgrade: pip" in line
    change(settled, f"PRAGMA user_version = {VERSION}")
    with closing(sqlite3.connect(str(settled / ".robotni" / "robotni.db"))) as db:
        db.execute("PRAGMA journal_mode = delete")
    (line,) = to_mend(settled)
    assert "robotni.db is in journal mode delete, not wal; restart robotni" in line


def test_jobs_from_the_future_are_said(settled: Path) -> None:
    change(settled, f"UPDATE job SET timestamp = {time.time() + 3600}")
    (line,) = to_mend(settled)
    assert line.endswith("s from now; set the clock: timedatectl set-ntp true")


def test_jobs_that_wait_where_nothing_lives_are_said(project: Path) -> None:
    lay_down_first_release(project)
    change(project)
    (line,) = to_mend(project)
    assert line == (
        "worker: none lives, and 2 jobs need one; start one: robotni serve, or robotni worker"
    )


@pytest.mark.parametrize(
    ("version", "mend"),
    [
        ("", "restart the server: robotni stop, then robotni serve"),
        ("0.0.1", "restart the server: robotni stop, then robotni serve"),
        ("99.0", "upgrade this one: pip install -U robotni"),
    ],
)
def test_a_worker_of_another_version_is_said(settled: Path, version: str, mend: str) -> None:
    lock = lock_as(DataDir(settled / ".robotni"), version)
    (line,) = to_mend(settled)
    os.close(lock)
    who = version or "of the first release"
    assert line == f"worker: version {who} lives; this is {__version__}; {mend}"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port where something listens that is not robotni."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other.server_address[1]
        other.shutdown()
        thread.join()


def test_a_port_that_somebody_else_has_is_said(project: Path, taken: int) -> None:
    (line,) = to_mend(project, port=taken)
    assert line.startswith(f"port: port {taken} is taken; port ")
    assert " is free: robotni serve --port " in line


def test_a_server_with_another_token_is_said(make_server: Callable[..., Server]) -> None:
    server = make_server(token="a-long-secret")
    (line,) = to_mend(server.project, port=server.port)
    assert line == f"server: {server.url} wants another token; give ROBOTNI_TOKEN as it has it"


def test_it_lists_what_tells_a_warm_run_from_a_cold_one(tmp_path: Path) -> None:
    listed = [finding.text for finding in examine(tmp_path)["warm runs"]]
    assert listed == list(DIFFERENCES)
    assert any("hash seed" in line for line in listed)
    assert any("-X" in line for line in listed)
    assert "warm runs" not in examine(tmp_path, warm_max=0)
