"""The queue API over HTTP: the same jobs in Huey's words."""

import json
import re
import subprocess
import sys
from typing import Any, Callable, Dict, Iterator, List

import pytest

from robotni.tests.calls import HELLO, JSON, UNKNOWN_ID, problem, serving, stored
from robotni.tests.processes import PROGRAM, Server, clean_environ, eventually

ITEM = {"task_id", "name", "timestamp", "eta"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def shared_workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("shared_workerless"), autostart=0)


@pytest.fixture
def workerless(shared_workerless: Server) -> Server:
    """Starts no worker, so that what is stored stays pending; its queue is empty."""
    shared_workerless.http.post("/queue/flush")
    return shared_workerless


def submit(server: Server, path: str, body: Any = None) -> str:
    answer = server.http.post(path) if body is None else server.http.post(path, json=body)
    assert answer.status_code == 202
    assert list(answer.json()) == ["task_id"]
    return str(answer.json()["task_id"])


def result_of(server: Server, task_id: str) -> Dict[str, Any]:
    """The answer of `/result/` once the task has ended."""

    def look() -> Any:
        answer = server.http.get(f"/result/{task_id}")
        assert answer.status_code == 200
        body = answer.json()
        assert list(body) == ["task_id", "status", "result", "error"]
        return body if body["status"] in ("completed", "failed", "cancelled") else None

    return dict(eventually(look))


# add


@pytest.mark.parametrize("path", ["/add", "/add/"])
def test_five_and_three_are_eight(server: Server, path: str) -> None:
    task_id = submit(server, path, {"x": 5, "y": 3})
    body = {"task_id": task_id, "status": "completed", "result": 8, "error": None}
    assert result_of(server, task_id) == body
    assert server.http.get(f"/result/{task_id}/").json() == body  # reading never consumes


@pytest.mark.parametrize(
    "x, y", [(0, 0), (-5, 3), (2**53, 1), (-(2**64), -(2**64)), (10**400, -(10**400) + 1)]
)
def test_sums_are_exact(server: Server, x: int, y: int) -> None:
    assert result_of(server, submit(server, "/add", {"x": x, "y": y}))["result"] == x + y


@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_of_20000_digits_add_exactly(server: Server, sign: str) -> None:
    """As text, since a Python client may not read so many digits."""
    body = f'{{"x": {sign}{"9" * 20_000}, "y": {sign}1}}'
    task_id = server.http.post("/add", content=body.encode(), headers=JSON).json()["task_id"]
    total = f'"result":{sign}1{"0" * 20_000},'
    eventually(lambda: total in server.http.get(f"/result/{task_id}").text)
    assert total in server.http.get(f"/api/worker/jobs/{task_id}").text
    assert total in server.http.get("/api/worker/jobs").text


def test_a_sum_with_one_digit_more_is_exact_or_refused(server: Server) -> None:
    nines = "9" * 100_000
    body = f'{{"x": {nines}, "y": {nines}}}'
    answer = server.http.post("/add", content=body.encode(), headers=JSON)
    if answer.status_code != 422:
        task_id = answer.json()["task_id"]
        eventually(lambda: '"completed"' in server.http.get(f"/result/{task_id}").text)
        assert f'"result":1{nines[1:]}8,' in server.http.get(f"/result/{task_id}").text


def test_the_command_line_shows_a_result_of_20000_digits(server: Server) -> None:
    body = f'{{"x": {"9" * 20_000}, "y": 1}}'
    task_id = server.http.post("/add", content=body.encode(), headers=JSON).json()["task_id"]
    eventually(lambda: '"completed"' in server.http.get(f"/result/{task_id}").text)
    for command in (["show", task_id], ["jobs"]):
        answer = subprocess.run(
            [sys.executable, PROGRAM, *command, "--url", server.url],
            env=clean_environ(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr[-500:]


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({}, "/x"),
        ({"x": 1}, "/y"),
        ({"x": "1", "y": 2}, "/x"),
        ({"x": 1.5, "y": 2}, "/x"),
        ({"x": 1.0, "y": 2}, "/x"),
        ({"x": True, "y": 2}, "/x"),
        ({"x": None, "y": 2}, "/x"),
        ({"x": [1], "y": 2}, "/x"),
        ({"x": 1, "y": 2, "z": 3}, "/z"),
        ({"x": 1, "y": 2, "type": "fakejob"}, "/type"),
        ([1, 2], ""),
        ("x", ""),
        (5, ""),
    ],
    ids=str,
)
def test_add_takes_two_integers_and_nothing_else(server: Server, body: Any, pointer: str) -> None:
    before = stored(server)
    refusal = problem(server.http.post("/add/", json=body), 422, "invalid_request")
    assert pointer in [error["pointer"] for error in refusal["errors"]]
    assert stored(server) == before


def test_add_without_a_body_is_refused(server: Server) -> None:
    problem(server.http.post("/add/"), 422, "invalid_request")
    problem(server.http.post("/add/", content=b"null", headers=JSON), 422, "invalid_request")


# fakejob


@pytest.mark.parametrize("path", ["/fakejob", "/fakejob/"])
def test_a_fake_job_reports_its_progress(server: Server, path: str) -> None:
    task_id = submit(server, path, {"seconds": 0.6})
    seen: List[float] = []

    def look() -> bool:
        job = server.client.get(task_id)
        if job["progress"] is not None:
            seen.append(job["progress"]["percent"])
        return bool(job["finishedAt"])

    eventually(look)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] == 100
    assert result_of(server, task_id)["result"] == {"seconds": 0.6}


def test_a_fake_job_takes_ten_seconds_by_default(workerless: Server) -> None:
    for body in (None, {}, {"seconds": 10}):
        job = workerless.client.get(submit(workerless, "/fakejob/", body))
        assert job["params"] == {"seconds": 10}
    nothing = workerless.http.post("/fakejob/", content=b"null", headers=JSON)
    assert nothing.status_code == 202


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"seconds": -1}, "/seconds"),
        ({"seconds": 86401}, "/seconds"),
        ({"seconds": 10**400}, "/seconds"),
        ({"seconds": "10"}, "/seconds"),
        ({"seconds": True}, "/seconds"),
        ({"seconds": None}, "/seconds"),
        ({"secs": 1}, "/secs"),
        ([], ""),
        (5, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fake_job_of_invalid_length_is_refused(server: Server, body: Any, pointer: str) -> None:
    before = stored(server)
    refusal = problem(server.http.post("/fakejob/", json=body), 422, "invalid_request")
    assert pointer in [error["pointer"] for error in refusal["errors"]]
    assert stored(server) == before


# One queue, two vocabularies


def test_a_task_id_is_a_job_id(server: Server) -> None:
    task_id = submit(server, "/add", {"x": 40, "y": 2})
    job = server.wait_for(task_id)
    assert (job["jobId"], job["type"], job["params"]) == (task_id, "add", {"x": 40, "y": 2})
    assert (job["script"], job["venv"], job["output"]) == (None, None, "42\n")
    failed = server.submit("exit(3)")
    body = result_of(server, failed)
    assert (body["status"], body["result"], body["error"]["code"]) == (
        "failed",
        None,
        "exit_nonzero",
    )
    assert body["error"] == server.client.get(failed)["error"]


def test_a_task_that_has_not_ended_has_no_result(workerless: Server) -> None:
    task_id = submit(workerless, "/add", {"x": 1, "y": 2})
    waiting = {"task_id": task_id, "status": "pending", "result": None, "error": None}
    assert workerless.http.get(f"/result/{task_id}").json() == waiting


@pytest.mark.parametrize(
    "task_id",
    [UNKNOWN_ID, UNKNOWN_ID.upper(), "x", "%2e%2e", "'", "%22", "%00", "%ff", "9" * 5000, "flush"],
)
def test_an_invalid_or_unknown_id_is_not_found(server: Server, task_id: str) -> None:
    problem(server.http.get(f"/result/{task_id}"), 404, "not_found")
    answer = server.http.delete(f"/queue/{task_id}")
    problem(answer, 405 if task_id == "flush" else 404)


# The queue


@pytest.mark.parametrize("path", ["/queue", "/queue/"])
def test_the_queue_lists_waiting_and_revoked_tasks(workerless: Server, path: str) -> None:
    before = workerless.http.get(path).json()
    assert before["pending"] == before["scheduled"] == []
    adding = submit(workerless, "/add", {"x": 1, "y": 2})
    script = workerless.client.submit(HELLO)["jobId"]
    later = workerless.client.submit({**HELLO, "delay": 3600})
    gone = submit(workerless, "/fakejob")
    workerless.http.delete(f"/queue/{gone}")
    body = workerless.http.get(path).json()
    assert set(body) == {"pending", "scheduled", "revoked", "totals"}
    states = ("pending", "scheduled", "revoked")
    listed = {state: {i["task_id"]: i for i in body[state]} for state in states}
    assert set(listed["pending"]) == {adding, script}
    assert set(listed["scheduled"]) == {later["jobId"]}
    assert gone in listed["revoked"]
    revoked = before["totals"]["revoked"] + 1
    assert body["totals"] == {"pending": 2, "scheduled": 1, "revoked": revoked}
    for items in listed.values():
        for item in items.values():
            assert set(item) == ITEM
            assert re.fullmatch(r"[-\dT:.]+Z", item["timestamp"])
    assert listed["pending"][adding]["name"] == "add"
    assert listed["pending"][script]["name"] == "hello.py"
    assert listed["pending"][adding]["eta"] is None
    assert listed["scheduled"][later["jobId"]]["eta"] == later["runAt"]
    assert listed["revoked"][gone]["name"] == "fakejob"


def test_the_queue_lists_at_most_200_of_each_and_counts_all(workerless: Server) -> None:
    for n in range(203):
        submit(workerless, "/add", {"x": n, "y": 0})
    body = workerless.http.get("/queue/").json()
    assert len(body["pending"]) == 200
    assert body["totals"]["pending"] == 203


def store_large(workerless: Server) -> None:
    """Three jobs of 0.9 MB."""
    env = {f"LARGE{number}": "x" * 100_000 for number in range(9)}
    body = {"script": "hello.py", "venv": ".venv", "env": env}
    for _ in range(3):
        assert workerless.http.post("/api/worker/jobs", json=body).status_code == 202


def test_large_jobs_are_listed_in_the_queue_like_small_ones(workerless: Server) -> None:
    store_large(workerless)
    listed = workerless.http.get("/queue").json()
    assert len(listed["pending"]) == listed["totals"]["pending"] == 3


def test_the_command_line_lists_large_jobs_like_small_ones(workerless: Server) -> None:
    store_large(workerless)
    jobs = [sys.executable, PROGRAM, "jobs", "--status", "pending", "--json", "-n"]
    for number in (2, 3, 4):
        answer = subprocess.run(
            [*jobs, str(number)],
            env=clean_environ(url=workerless.url),
            capture_output=True,
            check=True,
        )
        page = json.loads(answer.stdout)
        assert len(page["jobs"]) == min(number, 3)
        assert (page["nextCursor"] is None) == (number > 2)


def test_a_task_that_ended_is_not_in_the_queue(server: Server) -> None:
    task_id = submit(server, "/add", {"x": 1, "y": 2})
    server.wait_for(task_id)
    body = server.http.get("/queue/").json()
    assert task_id not in str({**body, "revoked": []})


# Revoke


@pytest.mark.parametrize("delay", [{}, {"delay": 3600}], ids=str)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_task_that_has_not_started_is_revoked(
    workerless: Server, delay: Dict[str, int], slash: str
) -> None:
    task_id = workerless.client.submit({**HELLO, **delay})["jobId"]
    for _ in range(2):  # saying it twice changes nothing
        answer = workerless.http.delete(f"/queue/{task_id}{slash}")
        body = {"task_id": task_id, "revoked": True}
        assert (answer.status_code, answer.json()) == (200, body)
    assert result_of(workerless, task_id)["status"] == "cancelled"


def test_a_task_that_runs_or_has_ended_cannot_be_revoked(server: Server) -> None:
    task_id = submit(server, "/fakejob", {"seconds": 600})
    server.wait_for(task_id, "running")
    refusal = problem(server.http.delete(f"/queue/{task_id}"), 409, "conflict")
    assert f"DELETE /api/worker/jobs/{task_id}" in refusal["detail"]
    assert server.client.get(task_id)["cancelRequestedAt"] is None
    server.client.cancel(task_id)
    server.wait_for(task_id)
    problem(server.http.delete(f"/queue/{task_id}"), 409, "conflict")
    done = submit(server, "/add", {"x": 1, "y": 2})
    server.wait_for(done)
    problem(server.http.delete(f"/queue/{done}"), 409, "conflict")
    assert result_of(server, done)["result"] == 3


# Flush


@pytest.mark.parametrize("path", ["/queue/flush", "/queue/flush/"])
def test_a_flush_cancels_all_waiting_tasks(workerless: Server, path: str) -> None:
    waiting = [submit(workerless, "/add", {"x": n, "y": 0}) for n in range(3)]
    waiting += [workerless.client.submit({**HELLO, "delay": 3600})["jobId"] for _ in range(2)]
    revoked = submit(workerless, "/fakejob")
    workerless.http.delete(f"/queue/{revoked}")
    before = workerless.client.get(revoked)
    answer = workerless.http.post(path)
    assert (answer.status_code, answer.json()) == (200, {"pending": 3, "scheduled": 2})
    assert {workerless.client.get(task_id)["status"] for task_id in waiting} == {"cancelled"}
    assert workerless.client.get(revoked) == before
    assert workerless.http.post(path).json() == {"pending": 0, "scheduled": 0}
    assert workerless.http.post(path, json={}).json() == {"pending": 0, "scheduled": 0}


def test_a_flush_does_not_touch_tasks_that_run_or_have_ended(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(workers=1)
    done = submit(server, "/add", {"x": 1, "y": 2})
    ended = server.wait_for(done)
    going = submit(server, "/fakejob", {"seconds": 0.8})
    server.wait_for(going, "running")
    waiting = submit(server, "/add", {"x": 3, "y": 4})
    assert server.http.post("/queue/flush/").json() == {"pending": 1, "scheduled": 0}
    assert server.client.get(done) == ended
    assert result_of(server, waiting)["status"] == "cancelled"
    assert result_of(server, going)["status"] == "completed"
    assert result_of(server, submit(server, "/add", {"x": 5, "y": 6}))["result"] == 11
