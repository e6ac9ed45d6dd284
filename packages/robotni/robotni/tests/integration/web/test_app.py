"""The application as a whole: errors, the OpenAPI document, slashes, pages and health."""

import json
import re
import sqlite3
from contextlib import closing
from typing import Any, Callable, Dict, Iterator, List, Tuple
from urllib.parse import urljoin

import pytest
from jsonschema import Draft202012Validator

from robotni import __version__
from robotni.tests.calls import HELLO, JSON, UNKNOWN_ID, problem, raw, serving, stored
from robotni.tests.processes import Server, eventually

JOBS = "/api/worker/jobs"


@pytest.fixture(scope="module")
def workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts no worker, so that what is stored stays pending."""
    yield from serving(tmp_path_factory.mktemp("project"), autostart=0)


# Errors


@pytest.mark.parametrize(
    "method, path, options, status, code, says",
    [
        ("GET", "/nothing-here", {}, 404, "not_found", "/docs"),
        ("GET", "/api", {}, 404, "not_found", "/docs"),
        ("GET", "/webdemo/nothing-here.js", {}, 404, "not_found", "/webdemo"),
        ("GET", "/webdemo/..%2f..%2fapi.py", {}, 404, "not_found", "/webdemo"),
        ("GET", "/webdemo//etc/passwd", {}, 404, "not_found", "/webdemo"),
        ("GET", f"{JOBS}/{UNKNOWN_ID}", {}, 404, "not_found", "/api/worker/jobs"),
        ("GET", f"{JOBS}/{UNKNOWN_ID}/output", {}, 404, "not_found", "/api/worker/jobs"),
        ("DELETE", f"{JOBS}/{UNKNOWN_ID}", {}, 404, "not_found", "/api/worker/jobs"),
        ("POST", f"{JOBS}/{UNKNOWN_ID}/retry", {}, 404, "not_found", "/api/worker/jobs"),
        ("GET", f"/result/{UNKNOWN_ID}", {}, 404, "not_found", "/api/worker/jobs"),
        ("DELETE", f"/queue/{UNKNOWN_ID}", {}, 404, "not_found", "/api/worker/jobs"),
        ("PUT", JOBS, {}, 405, "method_not_allowed", "Allow"),
        ("POST", JOBS, {"content": b"x" * 2_000_000}, 413, "body_too_large", "1 MiB"),
        ("POST", JOBS, {"content": b"{}"}, 415, "not_json", "Content-Type: application/json"),
        (
            "POST",
            JOBS,
            {"headers": {"Host": "x"}},
            403,
            "host_not_allowed",
            "ROBOTNI_ALLOWED_HOSTS",
        ),
        (
            "POST",
            JOBS,
            {"headers": {"Origin": "x"}},
            403,
            "origin_not_allowed",
            "ROBOTNI_ALLOWED_ORI",
        ),
        ("POST", JOBS, {}, 422, "invalid_request", "missing"),
        ("POST", JOBS, {"json": {}}, 422, "invalid_request", ".venv"),
        ("POST", JOBS, {"json": []}, 422, "invalid_request", "JSON object"),
        ("POST", JOBS, {"json": {**HELLO, "scirpt": 1}}, 422, "invalid_request", "/scirpt"),
        ("POST", "/add", {}, 422, "invalid_request", "missing"),
        ("POST", "/add", {"json": 5}, 422, "invalid_request", "JSON object"),
        ("POST", "/add", {"json": {"x": 1}}, 422, "invalid_request", "/y"),
        ("POST", "/add", {"json": {"x": 1, "y": 2, "z": 3}}, 422, "invalid_request", "/z"),
        ("POST", "/add", {"content": b"{", "headers": JSON}, 422, "invalid_json", "JSON"),
        ("GET", f"{JOBS}?limit=0", {}, 422, "invalid_request", "/limit"),
    ],
)
def test_every_error_is_a_problem_that_says_what_to_do(
    workerless: Server, method: str, path: str, options: Any, status: int, code: str, says: str
) -> None:
    answer = workerless.http.request(method, path, **options)
    assert says in problem(answer, status, code)["detail"]


def test_an_unknown_field_of_one_request_is_not_explained_by_the_fields_of_another(
    workerless: Server,
) -> None:
    body = problem(workerless.http.post("/add", json={"x": 1, "y": 2, "z": 3}), 422)
    assert "script" not in body["detail"]


def test_bytes_that_are_not_http_are_answered_with_a_problem(workerless: Server) -> None:
    answer = raw(workerless, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    problem(answer, 400, "bad_request")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "path, methods",
    [
        (JOBS, "GET, POST"),
        (f"{JOBS}/{UNKNOWN_ID}", "GET, DELETE"),
        (f"{JOBS}/{UNKNOWN_ID}/output", "GET"),
        (f"{JOBS}/{UNKNOWN_ID}/retry", "POST"),
        ("/api/worker/status", "GET"),
        ("/add", "POST"),
        ("/add/", "POST"),
        ("/queue", "GET"),
        ("/queue/flush/", "POST"),
        (f"/queue/{UNKNOWN_ID}", "DELETE"),
        ("/webdemo", "GET"),
        ("/livez", "GET"),
    ],
)
def test_the_answer_to_a_wrong_method_lists_the_right_ones(
    workerless: Server, path: str, methods: str
) -> None:
    for method in ("PUT", "PATCH", "BREW"):
        answer = workerless.http.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == methods


def test_a_crash_is_a_problem_with_every_header_and_stores_nothing(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(autostart=0)
    hide, show = "ALTER TABLE tally RENAME TO hidden", "ALTER TABLE hidden RENAME TO tally"
    with closing(sqlite3.connect(server.data / "robotni.db")) as database:
        database.execute(hide)
        answer = server.http.post(JOBS, json=HELLO)
        problem(server.http.get("/readyz"), 500)
        database.execute(show)
    assert "log" in problem(answer, 500, "internal_error")["detail"]
    assert str(server.data) not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-cache"
    eventually(lambda: "OperationalError" in server.log())
    assert stored(server) == 0
    assert server.http.get("/livez").status_code == 200


# TrailingSlashMiddleware


@pytest.mark.parametrize(
    "method, path, options, status",
    [
        ("POST", "/add", {"json": {"x": 5, "y": 3}}, 202),
        ("POST", "/fakejob", {}, 202),
        ("POST", "/fakejob", {"json": {"seconds": 1}}, 202),
        ("GET", "/queue", {}, 200),
        ("POST", "/queue/flush", {}, 200),
        ("GET", f"/result/{UNKNOWN_ID}", {}, 404),
        ("DELETE", f"/queue/{UNKNOWN_ID}", {}, 404),
        ("GET", JOBS, {}, 200),
        ("POST", JOBS, {"json": HELLO}, 202),
        ("GET", f"{JOBS}/{UNKNOWN_ID}", {}, 404),
        ("POST", f"{JOBS}/{UNKNOWN_ID}/retry", {}, 404),
        ("GET", "/api/worker/status", {}, 200),
        ("GET", "/api/worker/types", {}, 200),
        ("GET", "/livez", {}, 200),
        ("GET", "/readyz", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", "/nothing-here", {}, 404),
    ],
)
def test_a_path_is_served_with_and_without_a_trailing_slash(
    workerless: Server, method: str, path: str, options: Any, status: int
) -> None:
    plain = workerless.http.request(method, path, **options)
    slashed = workerless.http.request(method, f"{path}/", **options)
    assert (plain.status_code, slashed.status_code) == (status, status)
    assert plain.headers["content-type"] == slashed.headers["content-type"]


# Pages and health


@pytest.mark.parametrize("path", ["/", "/webdemo", "/webdemo/", "/docs", "/docs/"])
def test_pages_are_served(workerless: Server, path: str) -> None:
    answer = workerless.http.get(path, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in answer.headers


def test_the_root_redirects_to_the_page(workerless: Server) -> None:
    assert urljoin("/", workerless.http.get("/").headers["location"]) == "/webdemo"


@pytest.mark.parametrize("path", ["/webdemo", "/docs"])
def test_a_page_loads_only_files_of_this_server(workerless: Server, path: str) -> None:
    page = workerless.http.get(path).text
    for link in re.findall(r"(?:src|href)=\"([^\"#]+)\"", page):
        assert "//" not in link
        assert workerless.http.get(urljoin(path, link)).status_code == 200, link
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", page)


@pytest.mark.parametrize("path", ["/webdemo", "/docs", "/api/worker/types", JOBS])
def test_what_has_not_changed_is_not_sent_again(workerless: Server, path: str) -> None:
    tag = workerless.http.get(path).headers["etag"]
    again = workerless.http.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_server_says_that_it_is_alive_and_ready(workerless: Server, path: str) -> None:
    answer = workerless.http.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_nothing_is_pushed(workerless: Server) -> None:
    head = f"GET /webdemo HTTP/1.1\r\nHost: localhost:{workerless.port}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    answer = raw(workerless, f"{head}{upgrade}Sec-WebSocket-Key: eHh4\r\n\r\n".encode())
    assert answer.status_code == 200


# The OpenAPI document

OPERATIONS = {
    ("post", "/api/worker/jobs"): "submitJob",
    ("get", "/api/worker/jobs"): "listJobs",
    ("get", "/api/worker/jobs/{jobId}"): "getJob",
    ("get", "/api/worker/jobs/{jobId}/output"): "getJobOutput",
    ("delete", "/api/worker/jobs/{jobId}"): "cancelJob",
    ("post", "/api/worker/jobs/{jobId}/retry"): "retryJob",
    ("get", "/api/worker/status"): "getStatus",
    ("get", "/api/worker/stats"): "getStats",
    ("get", "/api/worker/types"): "listTypes",
    ("post", "/add/"): "addNumbers",
    ("post", "/fakejob/"): "startFakeJob",
    ("get", "/result/{task_id}"): "getResult",
    ("get", "/queue/"): "getQueue",
    ("delete", "/queue/{task_id}"): "revokeTask",
    ("post", "/queue/flush/"): "flushQueue",
    ("get", "/livez"): "isAlive",
    ("get", "/readyz"): "isReady",
    ("get", "/metrics"): "getMetrics",
}


@pytest.fixture(scope="module")
def document(workerless: Server) -> Dict[str, Any]:
    answer = workerless.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: Dict[str, Any] = answer.json()
    return found


def operations(document: Dict[str, Any]) -> Iterator[Tuple[str, str, Dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def values_in(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list)):
            yield from values_in(child)


def test_the_document_is_plain_json_of_a_known_version(document: Dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__
    json.dumps(document, allow_nan=False)


def test_every_operation_is_named_as_a_client_would_call_it(document: Dict[str, Any]) -> None:
    named = {(method, path): op["operationId"] for method, path, op in operations(document)}
    missing = {key: name for key, name in OPERATIONS.items() if named.get(key) != name}
    assert not missing
    assert len(set(named.values())) == len(named)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in named.values())
    assert all(op["summary"] and op["tags"] for _, _, op in operations(document))


def test_every_reference_has_a_target(document: Dict[str, Any]) -> None:
    references = [v["$ref"] for v in values_in(document) if isinstance(v, dict) and "$ref" in v]
    assert references
    for reference in references:
        target = document
        for part in reference[2:].split("/"):
            target = target[part]


def test_every_schema_is_a_json_schema(document: Dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def examples(document: Dict[str, Any], operation: Dict[str, Any]) -> List[Tuple[Any, Any]]:
    """(example, its schema), of request, parameters and answers."""
    found = []
    holders = [*operation.get("parameters", ())]
    for content in (operation.get("requestBody", {}), *operation["responses"].values()):
        holders += content.get("content", {}).values()
    for holder in holders:
        schema = holder.get("schema", {})
        named = schema
        while "$ref" in named or "anyOf" in named:
            named = named["anyOf"][0] if "anyOf" in named else resolve(document, named["$ref"])
        given = [place["example"] for place in (holder, schema, named) if "example" in place]
        given += schema.get("examples", ())
        found += [(example, schema) for example in given]
    return found


def resolve(document: Dict[str, Any], reference: str) -> Any:
    return document["components"]["schemas"][reference.rsplit("/", 1)[1]]


def test_every_operation_has_an_example_that_its_schema_allows(document: Dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        found = examples(document, operation)
        assert found, f"{method} {path} has no example"
        for example, schema in found:
            whole = {**schema, "components": document["components"]}
            Draft202012Validator(whole).validate(example)


def test_a_request_with_a_body_has_an_example_that_works(
    workerless: Server, document: Dict[str, Any]
) -> None:
    (workerless.project / "jobs").mkdir(exist_ok=True)
    (workerless.project / "jobs" / "hello.py").touch()
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        schema = content["schema"]
        schema = schema.get("anyOf", [schema])[0]
        example = content.get("example") or resolve(document, schema["$ref"])["example"]
        assert workerless.http.request(method, path, json=example).status_code == 202, path


def test_every_error_answer_is_described_as_a_problem(document: Dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        errors = {s: r for s, r in operation["responses"].items() if s >= "400"}
        if path not in ("/livez", "/readyz"):
            assert {"401", "403", "422"} <= set(errors), path
        if "{" in path:
            assert "404" in errors
        if method == "post" and "requestBody" in operation:
            assert {"413", "415", "429", "507"} <= set(errors)
        for status, described in errors.items():
            assert list(described["content"]) == ["application/problem+json"], (path, status)
            assert len(described["description"]) > 15
    problem_schema = resolve(document, "#/components/schemas/Problem")
    assert set(problem_schema["required"]) == {"title", "status", "detail", "code"}


@pytest.mark.parametrize("name", ["Job", "JobItem", "Attempt", "WorkerType"])
def test_a_field_that_is_always_present_is_required(document: Dict[str, Any], name: str) -> None:
    """Or every field of a generated client may be undefined."""
    schema = document["components"]["schemas"][name]
    assert set(schema["required"]) == set(schema["properties"])


def test_a_real_problem_matches_its_schema(workerless: Server, document: Dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for answer in (workerless.http.post(JOBS, json={"x": 1}), workerless.http.get("/nothing-here")):
        Draft202012Validator(schema).validate(answer.json())
