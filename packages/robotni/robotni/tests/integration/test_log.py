"""Log lines, as text and as JSON: one event a line, whoever says it and whatever happens."""

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
    """Every line is an object with what every line has."""
    whole, _, _ = text.rpartition("\n")  # the last one may be on its way yet
    lines = [json.loads(line) for line in whole.splitlines()]
    for line in lines:
        assert list(line)[:3] == ["ts", "level", "event"], line
        assert line["ts"].endswith("Z")
        assert line["level"] in ("info", "warning", "error", "critical")
    return lines


def of(lines: List[Dict[str, Any]], event: str) -> Dict[str, Any]:
    (found,) = [line for line in lines if line["event"] == event]
    return found


def submit_from_afar(server: Server) -> str:
    """The entries lie in another project folder than the script."""
    folder = server.project
    request = {"script": str(folder / "hello.py"), "venv": str(folder / ".venv")}
    return str(server.client.submit({**request, "cwd": str(folder)})["jobId"])


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str, Any], str]]:
    """What a call logs in a format; the logging of the tests is put back."""
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


def test_a_line_of_text_has_event_job_facts_and_note(written: Any) -> None:
    line = written("text", lambda: log.released(JOB.job_id, JOB.run, "the venv is gone"))
    said = f"WARNING released job={JOB.job_id} run=2 it never started: the venv is gone\n"
    assert line.endswith(said)
    assert line.count("\n") == 1


def test_the_same_as_json_has_facts_as_fields(written: Any) -> None:
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


def test_a_traceback_is_one_field_of_one_line(written: Any) -> None:
    (line,) = parsed(written("json", crash))
    assert (line["event"], line["job"]) == ("failed sweep", JOB.job_id)
    assert "RuntimeError: two\nlines" in line["traceback"]


def test_in_text_only_an_event_begins_at_the_start_of_a_line(written: Any) -> None:
    first, *rest = written("text", crash).splitlines()
    assert first.endswith(f"ERROR failed sweep job={JOB.job_id}")
    assert len(rest) > 3
    assert [line for line in rest if not line.startswith("    ")] == []


def test_what_others_log_is_their_message(written: Any) -> None:
    def others() -> None:
        logging.getLogger("asyncio").error("a %s\nof two lines", "message")
        logging.getLogger("asyncio").info("too quiet to be heard")

    (line,) = parsed(written("json", others))
    assert (line["event"], line["logger"]) == ("log", "asyncio")
    assert line["message"] == "a message\nof two lines"
    assert written("text", others).endswith("ERROR a message\n    of two lines\n")


def test_an_exception_that_nobody_catches_is_a_line_too() -> None:
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


def test_serve_and_the_worker_it_starts_log_json_and_nothing_else(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(log_format="json")
    job_id = server.submit("print('hi')")
    server.wait_for(job_id)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    web, worker = parsed(server.log()), parsed(server.worker_log())
    assert of(web, "serving")["url"] == server.url
    assert of(web, "submitted")["job"] == job_id
    assert of(web, "stopped")["running"] == 0
    assert of(worker, "started") == {**of(worker, "started"), "job": job_id, "attempt": 1}
    assert of(worker, "ended")["error"] == "none"
    assert of(worker, "worker stopped")["pid"] == of(worker, "worker started")["pid"]


def test_what_uvicorn_says_of_a_crash_is_one_line(make_server: Callable[..., Server]) -> None:
    server = make_server(log_format="json", autostart=0)
    for name in ("robotni.db", "robotni.db-wal"):
        (server.data / name).write_bytes(b"no database" * 1000)
    assert server.http.get("/api/worker/jobs").status_code == 500
    crashed = eventually(lambda: [x for x in parsed(server.log()) if "traceback" in x])
    assert crashed[0]["logger"] == "uvicorn.error"
    assert "sqlite3.DatabaseError" in crashed[0]["traceback"]


def test_stock_uvicorn_and_stock_huey_consumer_log_json(project: Path) -> None:
    """One has set up its logging before it loads us, the other does so after."""
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
        job_id = submit_from_afar(server)
        server.wait_for(job_id)
        consumer.terminate()
        consumer.wait(10)
        server.stop()
        said = parsed(server.log())
        assert of(said, "submitted")["job"] == job_id
        access = [line for line in said if line.get("logger") == "uvicorn.access"]
        assert access
        worker = (project / "consumer.log").read_text()
        assert of(parsed(worker), "ended")["job"] == job_id
    finally:
        if consumer is not None:
            consumer.kill()
            consumer.wait()
        server.close()


def test_plain_uvicorn_and_text_show_our_lines_once(project: Path) -> None:
    server = Server(project, autostart=0, script_roots=project)
    try:
        server.start(*uvicorn("main:app", server.port), cwd=ENTRIES)
        job_id = submit_from_afar(server)
        eventually(lambda: f"INFO submitted job={job_id}" in server.log())
        assert server.log().count(f"submitted job={job_id}") == 1
    finally:
        server.close()
