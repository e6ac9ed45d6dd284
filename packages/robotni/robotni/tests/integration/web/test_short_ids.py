"""An id may be shortened to its end, wherever a call or a command takes one."""

from typing import Any, Iterator, List

import pytest

from robotni.jobs.models import Job
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.calls import HELLO, problem, serving
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.processes import Server

JOBS = "/api/worker/jobs"
END = "5a6d7e8f90"  # of the ids of six jobs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def alike(server: Server) -> List[str]:
    """The ids of six ended jobs that end alike, oldest first."""
    ids = [f"01936f3e8c7a7d1e9b2f4{n}{END}" for n in range(1, 7)]
    store = Store(DataDir(server.data))
    jobs = [Job(job_id=i, timestamp=1e9, finished_at=1e9, status="cancelled") for i in ids]
    assert store.insert_all(jobs, 10**6) == [None] * 6
    store.close()
    return ids


@pytest.mark.parametrize("length", [8, 9, 31])
def test_every_call_takes_the_end_of_an_id(server: Server, length: int) -> None:
    job_id = server.submit("print('hello')", delay=60)
    short = job_id[-length:]
    assert server.http.get(f"{JOBS}/{short}").json()["jobId"] == job_id
    assert server.http.get(f"/result/{short}").json()["task_id"] == job_id
    cancelled = server.http.delete(f"{JOBS}/{short}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    retried = server.http.post(f"{JOBS}/{short}/retry")
    assert (retried.status_code, retried.json()["retryOf"]) == (202, job_id)
    new = retried.json()["jobId"]
    server.wait_for(new)
    assert server.http.get(f"{JOBS}/{new[-length:]}/output").text == "hello\n"
    assert server.http.get(f"{JOBS}/{new[-length:]}/output?attempt=1").text == "hello\n"
    assert problem(server.http.delete(f"{JOBS}/{new[-length:]}"), 409)["detail"] == (
        f"job {new} is completed already; nothing is left to cancel"
    )
    waiting = server.submit("pass", delay=60)
    revoked = server.http.delete(f"/queue/{waiting[-length:]}")
    assert revoked.json() == {"task_id": waiting, "revoked": True}


def test_a_running_job_is_cancelled_by_the_end_of_its_id(server: Server) -> None:
    job_id = server.submit("import time; time.sleep(60)")
    server.wait_for(job_id, "running")
    assert server.http.delete(f"{JOBS}/{job_id[-8:]}").status_code == 202
    assert server.wait_for(job_id)["status"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/output", "/retry"])
def test_an_end_of_several_ids_is_409_and_names_at_most_five(
    server: Server, alike: List[str], path: str
) -> None:
    method = "POST" if path == "/retry" else "GET"
    body = problem(server.http.request(method, f"{JOBS}/{END}{path}"), 409, "conflict")
    five = ", ".join(alike[:0:-1])
    assert body["detail"] == (
        f"{END} is the end of several ids; give more digits of the one you mean: {five}, and others"
    )
    problem(server.http.delete(f"{JOBS}/{END}"), 409, "conflict")
    for job_id in alike:
        assert server.http.get(f"{JOBS}/{job_id[-11:]}").json()["jobId"] == job_id


@pytest.mark.parametrize("bad", ["7e8f90", "d7e8f90", "00000000", f"{END.upper()}", "%25", "g" * 8])
def test_what_is_not_the_end_of_an_id_is_404(server: Server, alike: Any, bad: str) -> None:
    detail = problem(server.http.get(f"{JOBS}/{bad}"), 404, "not_found")["detail"]
    assert detail.endswith("may be shortened to their last 8 or more digits")


def test_the_start_of_an_id_stands_for_no_job(server: Server, alike: List[str]) -> None:
    problem(server.http.get(f"{JOBS}/{alike[0][:31]}"), 404)


def test_commands_take_the_end_of_an_id_and_last(server: Server) -> None:
    def call(*args: str) -> str:
        answer = robotni(*args, cwd=server.project, url=server.url)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    job_id = server.client.submit(HELLO).id
    server.wait_for(job_id)
    for name in (job_id[-8:], "@last"):
        assert f"jobId        {job_id}\n" in call("show", name)
        assert call("logs", name) == "hello\n"
        assert f'"jobId": "{job_id}"' in call("logs", name, "--json")
        assert call("logs", "-f", name) == "hello\n"
    retried = call("retry", "@last").strip()
    assert server.client.get(retried)["retryOf"] == job_id
    waiting = server.client.submit({**HELLO, "delay": 60}).id
    assert call("cancel", waiting[-12:]) == f"{waiting} cancelled\n"


def test_last_without_a_job_says_so(workerless: Server) -> None:
    answer = robotni("show", "@last", cwd=workerless.project, url=workerless.url)
    assert (answer.returncode, answer.stderr) == (
        1,
        "robotni: there is no job yet; submit one with: robotni submit SCRIPT\n",
    )


@pytest.fixture
def workerless(make_server: Any) -> Server:
    server: Server = make_server(autostart=0)
    return server
