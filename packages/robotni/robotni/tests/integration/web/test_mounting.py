"""robotni under a prefix: mounted in another application, and by ROOT_PATH."""

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List

import httpx
import pytest

import robotni
from robotni.client import Client
from robotni.errors import SettingsError
from robotni.jobs.request import JobRequest
from robotni.tests.calls import HELLO, problem
from robotni.tests.processes import Server, end_all, eventually, make_venv
from robotni.web.body import path_within

OUTER = """
import sys
from fastapi import FastAPI, Request
from robotni import create_app
from robotni.jobs.request import JobRequest

app = FastAPI()
jobs = create_app({first!r}, kill_grace=1)
app.mount("/robotni", jobs)
app.mount("/deep/second/", create_app({second!r}, kill_grace=1))

@app.post("/own")
async def own(request: Request):
    return {{"got": (await request.body()).decode(), "host": request.headers["host"]}}

@app.post("/submit")
def submit():
    return jobs.state.engine.submit(JobRequest(script="hello.py", venv=".venv")).job.job_id
"""
FIRST, SECOND = "/robotni", "/deep/second"


def uvicorn(app: str, port: int, *options: str) -> List[str]:
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]


def submit_without_worker(project: Path) -> str:
    """Stores a job that no worker is started for, as a server leaves behind when it ends."""
    app = robotni.create_app(project, autostart=False)
    job_id = app.state.engine.submit(JobRequest(script="hello.py", venv=".venv")).job.job_id
    app.state.autostart.stop()
    return str(job_id)


def make_project(folder: Path, output: str) -> Path:
    make_venv(folder / ".venv")
    (folder / "hello.py").write_text(f"print({output!r})\n")
    return folder


@pytest.fixture(scope="module")
def outer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app with a route of its own and two robotnis mounted, under plain uvicorn."""
    folder = tmp_path_factory.mktemp("outer")
    first, second = make_project(folder / "first", "one"), make_project(folder / "second", "two")
    (folder / "outer.py").write_text(OUTER.format(first=str(first), second=str(second)))
    server = Server(first, prefix=FIRST)
    waiting = submit_without_worker(first)
    del server.environ["ROBOTNI_DATA_DIR"], server.environ["ROBOTNI_PORT"]
    try:
        server.start(*uvicorn("outer:app", server.port), cwd=folder)
        server.wait_for(waiting)
        yield server
    finally:
        server.close()
        end_all(folder)


@pytest.fixture
def root(outer: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{outer.port}", trust_env=False) as client:
        yield client


def test_a_mounted_app_runs_jobs_though_its_lifespan_is_never_entered(outer: Server) -> None:
    """A job that waited before the start is run at the first request, see the fixture."""
    assert outer.client.list()["jobs"][-1]["status"] == "completed"
    assert outer.wait_for(outer.client.submit(HELLO)["jobId"])["output"] == "one\n"


def test_a_job_submitted_by_the_engine_is_run_without_a_request_to_the_mounted_app(
    tmp_path: Path,
) -> None:
    """In this process no server calls the app: the submit itself must start a worker."""
    project = make_project(tmp_path, "by the engine")
    before = list(logging.getLogger().handlers)
    try:
        app = robotni.create_app(project, kill_grace=1)
        assert not [t for t in threading.enumerate() if t.name == "autostart"]
        request = JobRequest(script="hello.py", venv=".venv")
        job_id = app.state.engine.submit(request).job.job_id
        eventually(lambda: app.state.engine.get(job_id).is_terminal)
        assert app.state.engine.get(job_id).output == "by the engine\n"
        assert list(logging.getLogger().handlers) == before  # an app keeps its logging
        app.state.autostart.stop()
    finally:
        end_all(tmp_path)


def test_an_app_whose_lifespan_is_entered_runs_jobs_without_a_request(tmp_path: Path) -> None:
    project = make_project(tmp_path, "left by the last run")
    job_id = submit_without_worker(project)

    async def outer_lifespan() -> None:
        app = robotni.create_app(project)
        async with app.router.lifespan_context(app):
            while not app.state.engine.get(job_id).is_terminal:
                await asyncio.sleep(0.02)

    try:
        asyncio.run(asyncio.wait_for(outer_lifespan(), 20))
    finally:
        end_all(tmp_path)
    assert not [t for t in threading.enumerate() if t.name == "autostart"]


def test_the_routes_of_the_outer_app_submit_by_the_engine(
    outer: Server, root: httpx.Client
) -> None:
    job_id = root.post("/submit").json()
    assert outer.wait_for(job_id)["output"] == "one\n"


def test_two_apps_in_one_process_have_separate_queues(outer: Server) -> None:
    with Client(f"http://127.0.0.1:{outer.port}{SECOND}") as other:
        job = other.submit(HELLO).wait(timeout=20)
        assert job["output"] == "two\n"
        assert outer.http.get(f"api/worker/jobs/{job['jobId']}").status_code == 404
    assert (outer.project / "../second/.robotni/robotni.db").exists()


def test_a_project_folder_that_does_not_exist_is_an_error_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the project folder .*/no/such does not exist"):
        robotni.create_app(tmp_path / "no" / "such")
    assert not (tmp_path / "no").exists()


def test_the_security_checks_cover_only_the_mounted_paths(
    outer: Server, root: httpx.Client
) -> None:
    foreign = {"Host": "evil.example", "Origin": "https://evil.example"}
    answer = root.post("/own", content=b"no JSON", headers=foreign)
    assert answer.json() == {"got": "no JSON", "host": "evil.example"}
    assert "x-frame-options" not in answer.headers
    answer = root.post(f"{FIRST}/api/worker/jobs", json=HELLO, headers=foreign)
    problem(answer, 403, "host_not_allowed")


@pytest.mark.parametrize("prefix", [FIRST, SECOND])
@pytest.mark.parametrize("path", ["/webdemo", "/docs", "/api/worker/jobs", "/queue", "/livez"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_paths_are_served_under_the_mount(
    root: httpx.Client, prefix: str, path: str, slash: str
) -> None:
    answer = root.get(f"{prefix}{path}{slash}", follow_redirects=True)
    assert answer.status_code == 200
    assert answer.url.path.rstrip("/") == prefix + path


@pytest.mark.parametrize("prefix", [FIRST, SECOND])
def test_links_are_right_under_the_mount(root: httpx.Client, prefix: str) -> None:
    for _ in range(2):
        made = root.post(f"{prefix}/api/worker/jobs", json=HELLO)
    assert made.headers["location"] == f"{prefix}/api/worker/jobs/{made.json()['jobId']}"
    assert root.get(made.headers["location"]).status_code == 200
    listed = root.get(f"{prefix}/api/worker/jobs", params={"limit": 1})
    following = listed.headers["link"].split(">")[0].lstrip("<")
    assert following.startswith(f"{prefix}/api/worker/jobs?")
    assert root.get(following).status_code == 200
    for start in (prefix, f"{prefix}/"):
        page = root.get(start, follow_redirects=True)
        assert page.url.path == f"{prefix}/webdemo"
    assert root.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]


# By ROOT_PATH, behind a proxy


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = make_project(tmp_path_factory.mktemp("proxied"), "hi")
    server = Server(project, root_path="/team/jobs/", token="a-token-of-the-team")
    try:
        yield server.start()
    finally:
        server.close()


@pytest.mark.parametrize("on_the_path", ["/team/jobs", ""])
def test_a_proxy_may_keep_the_prefix_on_the_path_or_remove_it(
    proxied: Server, on_the_path: str
) -> None:
    http, prefix = proxied.http, "/team/jobs"
    bearer = {"Authorization": f"Bearer {proxied.token}"}
    problem(http.get(f"{on_the_path}/api/worker/jobs"), 401)
    for path in ("/webdemo", "/webdemo/app.js", "/docs", "/livez"):
        assert http.get(on_the_path + path).status_code == 200, path
    for _ in range(2):
        made = http.post(f"{on_the_path}/api/worker/jobs", json=HELLO, headers=bearer)
    assert made.headers["location"] == f"{prefix}/api/worker/jobs/{made.json()['jobId']}"
    listed = http.get(f"{on_the_path}/api/worker/jobs?limit=1", headers=bearer)
    assert listed.headers["link"].startswith(f"<{prefix}/api/worker/jobs?")
    assert http.get(f"{on_the_path}/").headers["location"] == f"{prefix}/webdemo"
    document = http.get(f"{on_the_path}/openapi.json").json()
    assert document["servers"] == [{"url": prefix}]


def test_no_header_changes_the_prefix(proxied: Server) -> None:
    forged = {"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil", "X-Forwarded-Host": "e.g"}
    answer = proxied.http.get("/", headers=forged)
    assert answer.headers["location"] == "/team/jobs/webdemo"


def test_a_path_that_only_begins_like_the_prefix_needs_the_token(proxied: Server) -> None:
    for path in ("/team/jobsdocs", "/team/jobs/../docs/x", "/team/jobs/team/jobs/docs"):
        assert proxied.http.get(path).status_code == 401, path
    scope = {"path": "/team/jobsdocs", "root_path": "/team/jobs"}
    assert path_within(scope) == "/team/jobsdocs"


def test_a_script_gets_a_job_url_under_the_prefix(proxied: Server) -> None:
    script = """
import os, urllib.request
request = urllib.request.Request(os.environ["ROBOTNI_JOB_URL"])
request.add_header("Authorization", "Bearer a-token-of-the-team")
print(urllib.request.urlopen(request).status)"""
    assert proxied.wait_for(proxied.submit(script))["output"] == "200\n"


# Its settings


def test_options_override_the_environment_and_that_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("ROBOTNI_WORKERS=2\nROBOTNI_TIMEOUT=7\nROBOTNI_EXPIRES=9\n")
    monkeypatch.setenv("ROBOTNI_TIMEOUT", "8")
    monkeypatch.setenv("ROBOTNI_EXPIRES", "10")
    seen: List[Any] = []
    monkeypatch.setattr("robotni.bootstrap._build_web", seen.append)
    robotni.create_app(tmp_path, expires=11, script_roots=[tmp_path / "jobs"])
    (settings,) = seen
    assert (settings.workers, settings.timeout, settings.expires) == (2, 8, 11)
    assert settings.script_roots == (tmp_path / "jobs",)


def test_the_project_folder_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Not a repository around it, which would be found if none were named."""
    (tmp_path / ".git").mkdir()
    project = make_project(tmp_path / "inner", "from the inner folder")
    try:
        app = robotni.create_app(project, data_dir=tmp_path / "data")
        request = JobRequest(script="hello.py", venv=".venv")
        job_id = app.state.engine.submit(request).job.job_id
        eventually(lambda: app.state.engine.get(job_id).is_terminal)
        assert app.state.engine.get(job_id).output == "from the inner folder\n"
        app.state.autostart.stop()
    finally:
        end_all(tmp_path)


@pytest.mark.parametrize(
    "options, line",
    [
        ({"wrokers": 3}, "ROBOTNI_WROKERS is not a setting; did you mean ROBOTNI_WORKERS?"),
        ({"workers": 0}, "ROBOTNI_WORKERS=0: "),
        ({"root_path": "jobs"}, "ROBOTNI_ROOT_PATH=jobs: must be a path such as /robotni"),
        ({"root_path": "/a/../b"}, "ROBOTNI_ROOT_PATH=/a/../b: must be a path"),
        ({"root_path": "//evil.example"}, "ROBOTNI_ROOT_PATH=//evil.example: must be a path"),
        ({"log_format": "xml"}, "ROBOTNI_LOG_FORMAT=xml: "),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(tmp_path: Path, options: Any, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        robotni.create_app(tmp_path, **options)
    assert str(caught.value).startswith(line)


def test_importing_robotni_loads_no_heavy_library() -> None:
    code = "import sys, robotni; print({'fastapi', 'huey', 'pydantic'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert process.stdout.strip() == b"set()"
