"""Log lines as text and as JSON: one event a line, of every process and every library."""

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from robotni import log
from robotni.jobs.models import Job
from robotni.tests.integration.test_entries import BIN, ENTRIES
from robotni.tests.integration.web.test_mounting import uvicorn
from robotni.tests.processes import Server, eventually

JOB_ID = "01936f3e8c7a7d1e9b2f4c5a6d7e8f90"
JOB = Job(job_id=JOB_ID, status="running", timestamp=1795348800, run=2, attempt=1)


def parsed(text: str) -> List[Dict[str, Any]]:
    """The JSON objects of the lines; each must have the fields that all lines have."""
    whole, _, _ = text.rpartition("\n")  # the last line may not be complete yet
    lines = [json.loads(line) for line in whole.splitlines()]
    for line in lines:
        assert list(line)[:3] == ["ts", "level", "event"], line
        assert line["ts"].endswith("Z")
        assert line["level"] in ("info", "warning", "error", "critical")
    return lines


def line_of(lines: List[Dict[str, Any]], event: str) -> Dict[str, Any]:
    (found,) = [line for line in lines if line["event"] == event]
    return found


def submit_with_full_paths(server: Server) -> str:
    """Submits hello.py to a server whose project folder is another one than the script's."""
    folder = server.project
    request = {"script": str(folder / "hello.py"), "venv": str(folder / ".venv")}
    return str(server.client.submit({**request, "cwd": str(folder)})["jobId"])


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str, Any], str]]:
    """`written(format, call)` is what a call logs; afterwards the logging is as it was before."""
    root, ours = logging.getLogger(), logging.getLogger("robotni")
    before = root.handlers, ours.level, sys.excepthook

    def write(form: str, call: Any) -> str:
        log.set_up(form)
        call()
        return capsys.readouterr().err

    yield write
    root.handlers, level, sys.excepthook = before
    ours.setLevel(level)
    logging.captureWarnings(False)


def test_a_text_line_has_event_job_facts_and_note(written: Any) -> None:
    line = written("text", lambda: log.released(JOB.job_id, JOB.run, "the venv is gone"))
    expected = f"WARNING released job={JOB.job_id} run=2 it never started: the venv is gone\n"
    assert line.endswith(expected)
    assert line.count("\n") == 1


def test_a_json_line_has_the_facts_as_fields(written: Any) -> None:
    (line,) = parsed(written("json", lambda: log.released(JOB.job_id, JOB.run, "the venv is gone")))
    del line["ts"]
    assert line == {
        "level": "warning",
        "event": "released",
        "job": JOB.job_id,
        "run": 2,
        "note": "it never started: the venv is gone",
    }


def crash() -> None:
    try:
        raise RuntimeError('two\nlines\r\u2028{"event": "forged"}')
    except RuntimeError:
        log.failed("sweep", JOB.job_id)


def test_a_traceback_is_one_field_of_one_json_line(written: Any) -> None:
    (line,) = parsed(written("json", crash))
    assert (line["event"], line["job"]) == ("failed sweep", JOB.job_id)
    assert "RuntimeError: two\nlines" in line["traceback"]


def test_a_traceback_is_indented_in_text(written: Any) -> None:
    first, *rest = written("text", crash).splitlines()
    assert first.endswith(f"ERROR failed sweep job={JOB.job_id}")
    assert len(rest) > 3
    assert [line for line in rest if not line.startswith("    ")] == []


def test_a_line_of_another_library_has_its_message(written: Any) -> None:
    def log_as_asyncio() -> None:
        logging.getLogger("asyncio").error("a %s\nof two lines", "message")
        logging.getLogger("asyncio").info("below the level of warnings")

    (line,) = parsed(written("json", log_as_asyncio))
    assert (line["event"], line["logger"]) == ("log", "asyncio")
    assert line["message"] == "a message\nof two lines"
    assert written("text", log_as_asyncio).endswith("ERROR a message\n    of two lines\n")


def test_an_uncaught_exception_is_one_line() -> None:
    code = """
import threading, warnings
from robotni import log
log.set_up("json")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
warnings.warn("a warning")
{}["the end"]
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 1
    thread, warning, end = parsed(ended.stderr)
    assert "ZeroDivisionError" in thread["traceback"]
    assert "a warning" in warning["message"]
    assert "KeyError: 'the end'" in end["traceback"]


def test_serve_and_its_worker_write_nothing_but_json(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(log_format="json")
    job_id = server.submit("print('hi')")
    server.wait_for(job_id)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    web, worker = parsed(server.log()), parsed(server.worker_log())
    assert line_of(web, "serving")["url"] == server.url
    assert line_of(web, "submitted")["job"] == job_id
    assert line_of(web, "stopped")["running"] == 0
    assert line_of(worker, "started") == {**line_of(worker, "started"), "job": job_id, "attempt": 1}
    assert line_of(worker, "ended")["error"] == "none"
    assert line_of(worker, "worker stopped")["pid"] == line_of(worker, "worker started")["pid"]


def test_a_traceback_logged_by_uvicorn_is_one_line(make_server: Callable[..., Server]) -> None:
    server = make_server(log_format="json", autostart=0)
    for name in ("robotni.db", "robotni.db-wal"):
        (server.data / name).write_bytes(b"no database" * 1000)
    assert server.http.get("/api/worker/jobs").status_code == 500
    crashed = eventually(lambda: [x for x in parsed(server.log()) if "traceback" in x])
    assert crashed[0]["logger"] == "uvicorn.error"
    assert "sqlite3.DatabaseError" in crashed[0]["traceback"]


def test_stock_uvicorn_and_stock_huey_consumer_log_json(project: Path) -> None:
    """uvicorn sets up its logging before it imports robotni, huey_consumer afterwards."""
    server = Server(project, autostart=0, script_roots=project, log_format="json")
    consumer = None
    try:
        server.start(*uvicorn("main:app", server.port), cwd=ENTRIES)
        with open(project / "consumer.log", "wb") as log:
            consumer = subprocess.Popen(
                [str(BIN / "huey_consumer"), "huey_app.huey"],
                cwd=ENTRIES,
                env=server.environ,
                stderr=log,
            )
        job_id = submit_with_full_paths(server)
        server.wait_for(job_id)
        consumer.terminate()
        consumer.wait(10)
        server.stop()
        lines = parsed(server.log())
        assert line_of(lines, "submitted")["job"] == job_id
        access = [line for line in lines if line.get("logger") == "uvicorn.access"]
        assert access
        worker = (project / "consumer.log").read_text()
        assert line_of(parsed(worker), "ended")["job"] == job_id
    finally:
        if consumer is not None:
            consumer.kill()
            consumer.wait()
        server.close()


def test_stock_uvicorn_with_text_writes_our_lines_once(project: Path) -> None:
    server = Server(project, autostart=0, script_roots=project)
    try:
        server.start(*uvicorn("main:app", server.port), cwd=ENTRIES)
        job_id = submit_with_full_paths(server)
        eventually(lambda: f"INFO submitted job={job_id}" in server.log())
        assert server.log().count(f"submitted job={job_id}") == 1
    finally:
        server.close()
