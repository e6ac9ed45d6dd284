"""Query parameters: none is ignored."""

from typing import Any, Dict, Iterator

import pytest

from robotni.tests.calls import UNKNOWN_ID, problem, serving
from robotni.tests.processes import Server

JOBS = "/api/worker/jobs"
PAGES = ("/", "/webdemo", "/webdemo/app.js", "/docs", "/openapi.json")


@pytest.fixture(scope="module")
def workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("site"), autostart=0)


def calls(server: Server) -> Iterator[Any]:
    """Method and path of every call that the server has."""
    for path, operations in server.http.get("/openapi.json").json()["paths"].items():
        for method in operations:
            yield method.upper(), path.format(jobId=UNKNOWN_ID, task_id=UNKNOWN_ID)
    for path in PAGES:
        yield "GET", path


def errors(answer: Any) -> Dict[str, str]:
    body = problem(answer, 422, "invalid_request")
    return {error["pointer"]: error["detail"] for error in body["errors"]}


def test_every_call_refuses_an_unknown_parameter(workerless: Server) -> None:
    body = {"json": {"type": "add", "params": {"x": 1, "y": 2}}}
    for method, path in calls(workerless):
        options: Any = body if method == "POST" and path == JOBS else {}
        answer = workerless.http.request(method, f"{path}?nonsense=1", **options)
        assert "/nonsense" in errors(answer), (method, path)
    assert workerless.client.list()["jobs"] == []


@pytest.mark.parametrize(
    "path, found",
    [
        (
            f"{JOBS}?state=failed",
            {
                "/state": "'state' is unknown; this call takes type, status, project, q, limit, "
                "cursor"
            },
        ),
        (
            "/api/worker/status?x=1",
            {"/x": "'x' is unknown; this call takes no query parameters"},
        ),
        (f"{JOBS}?Status=failed&limit=1", {"/Status": "'Status' is unknown; "}),
        (f"{JOBS}?status%5B%5D=failed", {"/status[]": "'status[]' is unknown; "}),
        (f"{JOBS}?a/b~=", {"/a~1b~0": "'a/b~' is unknown; "}),
        (f"{JOBS}?a&b", {"/a": "'a' is unknown; ", "/b": "'b' is unknown; "}),
        (
            f"{JOBS}?status=failed&status=pending",
            {"/status": "status is given more than once; give it once"},
        ),
        (f"{JOBS}/{UNKNOWN_ID}/output?attempts=1", {"/attempts": "'attempts' is unknown; "}),
        (f"{JOBS}?status=", {"/status": "no state is named; leave status out, or name some of "}),
        (f"{JOBS}?status=,", {"/status": "no state is named; leave status out, or name some of "}),
    ],
)
def test_the_error_points_at_the_parameter_and_names_those_that_exist(
    workerless: Server, path: str, found: Dict[str, str]
) -> None:
    told = errors(workerless.http.get(path))
    assert sorted(told) == sorted(found)
    assert all(told[pointer].startswith(text) for pointer, text in found.items()), told


def test_a_thousand_unknown_parameters_get_a_short_answer(workerless: Server) -> None:
    query = "&".join(f"p{n}={n}" for n in range(1000))
    assert len(errors(workerless.http.get(f"{JOBS}?{query}"))) == 50


@pytest.mark.parametrize("query", ["?", "?&", "?limit=1&", "?q=", "?project="])
def test_a_query_without_an_unknown_name_is_served(workerless: Server, query: str) -> None:
    assert workerless.http.get(JOBS + query).status_code == 200


def test_the_clients_say_what_is_wrong_with_a_filter(workerless: Server) -> None:
    from robotni.errors import InvalidRequest

    with pytest.raises(InvalidRequest, match="'state' is unknown; this call takes type, status"):
        workerless.client.list(state="failed")
