"""Each script and app of `examples/`, run as a user runs it, does what its docstring says."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import httpx
import pytest

from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.tests.calls import UNKNOWN_ID, problem
from robotni.tests.conftest import House
from robotni.tests.integration.web.test_mounting import uvicorn
from robotni.tests.paths import EXAMPLES
from robotni.tests.processes import Server, end_all, eventually, make_venv


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
    house.executor.run(job.job_id)
    return house.engine.get(job.job_id)


def test_the_report_uses_a_package_that_robotni_does_not_have(examples: House) -> None:
    venv = os.environ.get("EXAMPLES_VENV")
    if venv is None:
        pytest.skip("EXAMPLES_VENV names no venv with numpy; make test sets it")
    job = run(examples, "report.py", venv=venv)
    assert job.status == "completed", job.output
    assert job.progress is not None
    assert job.progress.percent == 100
    assert isinstance(job.result, dict)
    assert "Traceback" not in (job.output or "")


def test_the_report_fails_where_numpy_is_missing(examples: House) -> None:
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


def test_external_passes_on_output_and_exit_code(examples: House) -> None:
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


# Apps


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`fastapi_app` in its own folder; it listens on all addresses, and robotni has a token."""
    folder = tmp_path_factory.mktemp("reports") / "app"
    shutil.copytree(EXAMPLES / "fastapi_app", folder)
    make_venv(folder / ".venv")
    server = Server(folder, prefix="/robotni", token="never-shown-to-users")
    server.environ["APP_USERS"] = "ada:secret,bob:,eva:hidden"
    for name in ("ROBOTNI_DATA_DIR", "ROBOTNI_PORT"):
        del server.environ[name]
    server.answers = lambda: is_open(server.port)  # type: ignore[method-assign]
    try:
        yield server.start(*uvicorn("main:app", server.port, "--host", "0.0.0.0"))
    finally:
        server.close()
        end_all(folder)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def ada(reports: Server) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{reports.port}"
    with httpx.Client(base_url=url, auth=("ada", "secret"), trust_env=False, timeout=30) as client:
        yield client


def test_the_fastapi_app_starts_reports_and_shows_them(ada: httpx.Client) -> None:
    started = ada.post("/reports/3")
    assert started.status_code == 202, started.text
    path = f"/reports/{started.json()['id']}"
    report = eventually(lambda: finished_report(ada.get(path)))
    assert report == {
        "user": "ada",
        "status": "completed",
        "report": {"month": 3, "total": sum(range(3000))},
    }


def finished_report(answer: httpx.Response) -> Any:
    return answer.json() if answer.json()["report"] else None


def test_a_report_that_is_unknown_or_of_another_user_is_not_found(
    reports: Server, ada: httpx.Client
) -> None:
    report_id = ada.post("/reports/2").json()["id"]
    url = f"http://127.0.0.1:{reports.port}"
    answers = [
        httpx.get(f"{url}/reports/{some}", auth=("eva", "hidden"), trust_env=False)
        for some in (report_id, "x", UNKNOWN_ID)
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    for path in (f"/robotni/api/worker/jobs/{report_id}", "/robotni/webdemo"):
        answer = httpx.get(url + path, auth=("eva", "hidden"), trust_env=False)
        assert answer.status_code == 403, path
    assert ada.get("/reports/x").status_code == 404


def test_the_docstring_of_the_fastapi_app_can_be_followed(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    shutil.copytree(EXAMPLES / "fastapi_app", folder, ignore=shutil.ignore_patterns(".*"))
    text = (folder / "main.py").read_text().split('"""')[1]
    create, serve, submit, read = re.findall(r"^    (\S.*)", text, re.MULTILINE)
    users, words = serve.split(" ", 1)
    assert words == "uvicorn main:app"
    server = Server(folder, prefix="/robotni")
    for name in ("ROBOTNI_DATA_DIR", "ROBOTNI_PORT"):
        del server.environ[name]
    server.environ["APP_USERS"] = users.split("=", 1)[1]
    server.answers = lambda: is_open(server.port)  # type: ignore[method-assign]

    def shell(command: str) -> Any:
        command = command.replace(":8000", f":{server.port}").replace("curl", "curl -s", 1)
        return json.loads(subprocess.check_output(command, shell=True, cwd=folder, text=True))

    try:
        server.start(*uvicorn("main:app", server.port))
        assert "python3 -m venv" in shell(submit)["detail"]  # not followed to the letter
        subprocess.run(create, shell=True, cwd=folder, check=True)
        command = read.replace("JOB_ID", shell(submit)["id"])
        report = eventually(lambda: (answer := shell(command))["report"] and answer)
        assert report["status"] == "completed"
    finally:
        server.close()
        end_all(folder)


def test_the_operator_gets_robotni_itself(ada: httpx.Client) -> None:
    assert ada.get("/robotni/webdemo").status_code == 200
    assert ada.get("/robotni/api/worker/jobs").status_code == 200
    foreign = {"Origin": "https://evil.example"}
    problem(ada.post("/robotni/fakejob/", headers=foreign), 403, "origin_not_allowed")


@pytest.mark.parametrize("login", [None, ("ada", "wrong"), ("bob", ""), ("eve", "")])
@pytest.mark.parametrize("path", ["/robotni/webdemo", "/robotni/api/worker/jobs", "/reports/x"])
def test_nobody_else_gets_any_of_it(reports: Server, path: str, login: Tuple[str, str]) -> None:
    url = f"http://127.0.0.1:{reports.port}{path}"
    answer = httpx.get(url, auth=login, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    token = {"Authorization": "Bearer never-shown-to-users"}
    assert httpx.get(url, headers=token, trust_env=False).status_code == 401


def test_the_wsgi_app_submits_and_reads_with_the_client(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    shutil.copy(EXAMPLES / "cpu.py", server.project)
    monkeypatch.setenv("ROBOTNI_URL", server.url)
    monkeypatch.delenv("ROBOTNI_TOKEN", raising=False)
    spec = importlib.util.spec_from_file_location("wsgi_app", EXAMPLES / "wsgi_app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(method: str, path: str) -> Tuple[str, Any]:
        statuses = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
        body = b"".join(module.app(environ, lambda status, headers: statuses.append(status)))
        return statuses[0], json.loads(body)

    try:
        status, started = call("POST", "/primes")
        assert status == "202 Accepted"
        server.wait_for(started["id"])
        _, shown = call("GET", f"/primes/{started['id']}")
        assert shown["status"] == "completed"
        assert "168" in shown["output"]
        server.stop()
        status, refused = call("POST", "/primes")
        assert status == "502 Bad Gateway"
        assert "robotni serve" in refused["error"]
    finally:
        module.jobs.close()


def test_the_line_for_cron_runs_in_the_environment_of_cron(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    shutil.copy(EXAMPLES / "cpu.py", server.project)
    (block,) = re.findall(r"```crontab\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    url, line = block.splitlines()
    assert url == "ROBOTNI_URL=http://127.0.0.1:8000"
    command = line.split(None, 5)[5]
    for installed, here in (
        ("/srv/robotni", str(server.project)),
        ("/opt/robotni/bin", str(Path(sys.executable).parent)),
    ):
        assert installed in command
        command = command.replace(installed, here)
    environ = {"HOME": "/", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "robotni"}
    environ["ROBOTNI_URL"] = server.url
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environ,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "168" in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr
