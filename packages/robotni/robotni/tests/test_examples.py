"""Each script of `examples/`, submitted as a user would, does what its docstring says."""

import os
import socket
from pathlib import Path
from typing import Any, Dict

import pytest

from robotni.job import Job
from robotni.request import JobRequest
from robotni.tests.conftest import House

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.fixture
def examples(make_house: Any, tmp_path: Path) -> House:
    house: House = make_house(script_roots=(EXAMPLES, tmp_path))
    return house


def run(house: House, script: str, *args: str, **fields: Any) -> Job:
    venv = house.project / ".venv"
    request: Dict[str, Any] = {"venv": str(venv), "cwd": str(house.project), **fields}
    job = house.engine.submit(
        JobRequest(script=str(EXAMPLES / script), args=list(args), **request)
    ).job
    house.runner.run(job.job_id)
    return house.engine.get(job.job_id)


def test_the_report_computes_with_a_package_robotni_does_not_have(examples: House) -> None:
    venv = os.environ.get("EXAMPLES_VENV")
    if venv is None:
        pytest.skip("EXAMPLES_VENV names no venv with numpy; make test sets it")
    job = run(examples, "report.py", venv=venv)
    assert job.status == "completed", job.output
    assert job.progress is not None
    assert job.progress.percent == 100
    assert isinstance(job.result, dict)
    assert "Traceback" not in (job.output or "")


def test_the_report_fails_with_a_sentence_where_numpy_is_missing(examples: House) -> None:
    job = run(examples, "report.py")
    assert (job.status, job.exit_code) == ("failed", 1)
    assert "No module named 'numpy'" in (job.output or "")


def test_cpu_counts_primes(examples: House) -> None:
    job = run(examples, "cpu.py", "--below", "1000")
    assert (job.status, job.error) == ("completed", None)
    assert "168" in (job.output or "")


def test_files_writes_checksums(examples: House) -> None:
    folder = examples.project / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    job = run(examples, "files.py", str(folder))
    assert job.status == "completed", job.output
    sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert sha256 in (job.output or "")


def test_waits_until_a_port_is_open_or_the_deadline_has_passed(examples: House) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*listener.getsockname())
        assert run(examples, "waits.py", address, "--deadline", "0.3").exit_code == 1
        listener.listen()
        assert run(examples, "waits.py", address, "--deadline", "5").status == "completed"


def test_external_hands_on_output_and_exit_code(examples: House) -> None:
    job = run(examples, "external.py", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (job.status, job.exit_code) == ("failed", 7)
    assert "out" in (job.output or "")
    assert "err" in (job.output or "")
    assert run(examples, "external.py", "true").status == "completed"


def test_fails_fails_with_a_traceback(examples: House) -> None:
    job = run(examples, "fails.py")
    assert (job.status, job.exit_code) == ("failed", 1)
    assert "Traceback" in (job.output or "")
    assert job.error is not None
    assert job.error.code == "exit_nonzero"
