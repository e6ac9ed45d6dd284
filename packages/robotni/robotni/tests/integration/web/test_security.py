"""Which requests a real server refuses, and that nothing of a refused request is stored."""

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import urljoin

import psutil
import pytest

from robotni.settings import Settings
from robotni.tests.calls import HELLO, JSON, UNKNOWN_ID, Wire, problem, raw, serving, stored
from robotni.tests.paths import ENTRIES
from robotni.tests.processes import STACKS, Server, clean_environ, eventually, free_port, make_venv
from robotni.web.body import MAX_BODY
from robotni.web.problems import render
from robotni.web.security import SecurityMiddleware

JOBS = "/api/worker/jobs"
TOKEN = "a-token-to-be-kept-secret"
PAGE = "http://localhost:3000"


@pytest.fixture(scope="module", params=STACKS)
def stack(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def workerless(tmp_path_factory: pytest.TempPathFactory, stack: str) -> Iterator[Server]:
    """Starts no worker, so that what is stored stays pending."""
    yield from serving(tmp_path_factory.mktemp("workerless"), stack=stack, autostart=0)


@pytest.fixture(scope="module")
def with_token(tmp_path_factory: pytest.TempPathFactory, stack: str) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("with_token"), stack=stack, token=TOKEN)


@pytest.fixture(scope="module")
def with_settings(tmp_path_factory: pytest.TempPathFactory, stack: str) -> Iterator[Server]:
    project = tmp_path_factory.mktemp("with_settings")
    settings = {"allowed_origins": PAGE, "allowed_hosts": "Robotni.example, 127.0.0.1"}
    yield from serving(project, stack=stack, autostart=0, **settings)


def post(server: Server, headers: Dict[str, str], body: Any = HELLO) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    port = str(server.port)
    filled = {name: value.replace("PORT", port) for name, value in headers.items()}
    return server.http.post(JOBS, content=content, headers=filled)


# Content-Type


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"]
)
def test_a_json_body_is_accepted(workerless: Server, kind: str) -> None:
    assert post(workerless, {"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": "text/json"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [JOBS, "/add/", "/fakejob", "/queue/flush/"])
def test_a_body_that_is_not_declared_as_json_is_refused(
    workerless: Server, path: str, headers: Dict[str, str]
) -> None:
    before = stored(workerless)
    answer = workerless.http.post(path, content=b'{"x": 5, "y": 3}', headers=headers)
    assert "Content-Type: application/json" in problem(answer, 415, "not_json")["detail"]
    assert stored(workerless) == before


def test_two_content_types_are_refused(workerless: Server) -> None:
    head = f"POST /add HTTP/1.1\r\nHost: 127.0.0.1:{workerless.port}\r\nContent-Length: 13\r\n"
    kinds = "Content-Type: application/json\r\nContent-Type: text/plain\r\n\r\n"
    problem(raw(workerless, (head + kinds + '{"x":1,"y":2}').encode()), 415)


@pytest.mark.parametrize("path", ["/fakejob/", "/queue/flush/"])
def test_a_post_without_a_body_needs_no_content_type(workerless: Server, path: str) -> None:
    answer = workerless.http.post(path)
    assert answer.status_code in (200, 202)


def test_a_retry_needs_no_content_type(with_token: Server) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    job_id = with_token.submit("")
    with_token.wait_for(job_id)
    assert with_token.http.post(f"{JOBS}/{job_id}/retry", headers=bearer).status_code == 202


# Origin


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:PORT"},
        {"Origin": "https://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_a_page_of_the_same_origin_may_submit(workerless: Server, headers: Dict[str, str]) -> None:
    assert post(workerless, {**JSON, **headers}).status_code == 202


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:PORT.evil.example"},
    {"Origin": "http://127.0.0.1:PORT@evil.example"},
    {"Origin": "http://127.0.0.1:PORT/"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:PORT"},
    {"Origin": "127.0.0.1:PORT"},
    {"Origin": "file://127.0.0.1:PORT"},
    {"Origin": "http://[evil"},
    {"Origin": "http://\u2100.example".encode().decode("latin-1")},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "something-new"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_origin_may_not_submit(
    workerless: Server, headers: Dict[str, str]
) -> None:
    before = stored(workerless)
    port = str(workerless.port)
    head = "".join(f"{n}: {v.replace('PORT', port)}\r\n" for n, v in headers.items())
    body = json.dumps(HELLO)
    request = (
        f"POST {JOBS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
    )
    refused = problem(raw(workerless, request.encode("latin-1")), 403, "origin_not_allowed")
    assert "ROBOTNI_ALLOWED_ORIGINS" in refused["detail"]
    assert stored(workerless) == before


def test_two_origins_are_refused(workerless: Server) -> None:
    own = f"Origin: http://127.0.0.1:{workerless.port}\r\n"
    head = f"POST /queue/flush HTTP/1.1\r\nHost: 127.0.0.1:{workerless.port}\r\n{own}"
    problem(raw(workerless, f"{head}Origin: https://evil.example\r\n\r\n".encode()), 403)


def test_a_delete_from_a_page_of_another_origin_does_not_touch_the_job(workerless: Server) -> None:
    job_id = workerless.client.submit(HELLO)["jobId"]
    for path in (f"{JOBS}/{job_id}", f"/queue/{job_id}"):
        answer = workerless.http.delete(path, headers={"Origin": "https://evil.example"})
        problem(answer, 403, "origin_not_allowed")
    job = workerless.client.get(job_id)
    assert (job["status"], job["cancelRequestedAt"]) == ("pending", None)


def test_a_page_of_another_origin_can_read_nothing(workerless: Server) -> None:
    answer = workerless.http.get(JOBS, headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_a_preflight_from_another_origin_is_refused(
    workerless: Server, with_settings: Server, method: str
) -> None:
    asks = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }
    for server in (workerless, with_settings):
        answer = server.http.options(JOBS, headers=asks)
        assert not [name for name in answer.headers if name.startswith("access-control-allow")]
        problem(answer, 403, "origin_not_allowed")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none", None])
def test_an_allowed_origin_is_served_whatever_the_fetch_site(
    with_settings: Server, site: str
) -> None:
    headers = {**JSON, "Origin": PAGE, **({"Sec-Fetch-Site": site} if site else {})}
    answer = post(with_settings, headers)
    assert answer.status_code == 202
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Location" in answer.headers["access-control-expose-headers"]


def test_an_allowed_origin_passes_its_preflight(with_settings: Server) -> None:
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    answer = with_settings.http.options(JOBS, headers=asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_origins_that_are_not_in_the_setting_are_refused(with_settings: Server) -> None:
    for origin in ("http://localhost:3001", "https://localhost:3000", f"{PAGE}.evil.example"):
        problem(post(with_settings, {**JSON, "Origin": origin}), 403, "origin_not_allowed")
    own = {**JSON, "Origin": with_settings.url}
    assert post(with_settings, own).status_code == 202


# Host


@pytest.mark.parametrize(
    "host", ["localhost:PORT", "LOCALHOST:PORT", "127.0.0.1", "[::1]:PORT", "localhost:9", "[::1]"]
)
def test_an_allowed_host_is_served_at_any_port(workerless: Server, host: str) -> None:
    named = host.replace("PORT", str(workerless.port))
    answer = raw(workerless, f"GET /livez HTTP/1.1\r\nHost: {named}\r\n\r\n".encode())
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:PORT",
        "127.0.0.1.evil.example",
        "localhost.evil.example:PORT",
        "evil.example.localhost",
        "0.0.0.0:PORT",
        "127.1:PORT",
        "[::]:PORT",
        "[::ffff:127.0.0.1]:PORT",
        "::1",
        "localhost:",
        "localhost:foo",
        "localhost:foo@evil",
        "localhost:PORT@evil.example",
        "user@localhost",
        "localhost/evil",
        "localhost\x01",
        "localhost:123456",
        "",
    ],
)
def test_another_host_is_refused(workerless: Server, host: str) -> None:
    named = host.replace("PORT", str(workerless.port))
    answer = raw(workerless, f"GET {JOBS} HTTP/1.1\r\nHost: {named}\r\n\r\n".encode())
    assert answer.status_code in (400, 403)
    refused = problem(answer, answer.status_code)
    assert answer.status_code == 400 or "ROBOTNI_ALLOWED_HOSTS" in refused["detail"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\n",
        b"GET /livez HTTP/1.0\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
    ],
)
def test_no_host_and_two_hosts_are_refused(workerless: Server, head: bytes) -> None:
    assert raw(workerless, head + b"\r\n").status_code in (400, 403)


def test_the_hosts_that_are_allowed_can_be_set(with_settings: Server) -> None:
    assert with_settings.http.get("/livez", headers={"Host": "robotni.example"}).status_code == 200
    problem(
        with_settings.http.get("/livez", headers={"Host": "localhost"}), 403, "host_not_allowed"
    )


@pytest.mark.parametrize(
    ("host", "exposed"), [("127.0.0.1", False), ("::1", False), ("192.0.2.1", True)]
)
def test_a_server_that_others_can_reach_needs_a_token(
    tmp_path: Path, host: str, exposed: bool
) -> None:
    for settings in (
        Settings(project_folder=tmp_path),
        Settings(project_folder=tmp_path, token=TOKEN),
    ):
        guard = SecurityMiddleware(lambda *_: None, settings, render)
        refusal = guard._check_exposure({"server": (host, free_port())})
        assert (refusal is not None) == (exposed and settings.token is None)


# Order


def test_checks_are_made_in_the_promised_order(with_token: Server) -> None:
    """A request that is wrong in every way, corrected step by step."""
    wrong: List[Tuple[Dict[str, str], int, str]] = [
        ({"Content-Length": str(MAX_BODY + 1)}, 413, "body_too_large"),
        ({"Host": "evil.example"}, 403, "host_not_allowed"),
        ({"Origin": "https://other.example"}, 403, "origin_not_allowed"),
        ({"Authorization": "Bearer wrong"}, 401, "token_required"),
        ({"Content-Type": "text/plain"}, 415, "not_json"),
    ]
    right = {
        "Host": f"127.0.0.1:{with_token.port}",
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
    }

    def ask(headers: Dict[str, str], body: str) -> Any:
        sent = {"Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return raw(with_token, f"POST {JOBS} HTTP/1.1\r\n{head}\r\n{body}".encode())

    outside = '{"script": "/etc/passwd", "venv": ".venv", "typo": 1}'
    for corrected, (_, status, code) in enumerate(wrong):
        headers = dict(right)
        for changes, _, _ in reversed(wrong[corrected:]):
            headers.update(changes)
        problem(ask(headers, "{"), status, code)
    problem(ask(right, "{"), 422, "invalid_json")
    assert problem(ask(right, outside), 422)["errors"][0]["pointer"] == "/typo"
    unknown = outside.replace(', "typo": 1', "")
    assert problem(ask(right, unknown), 422)["errors"][0]["pointer"] == "/script"


# Token


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("Authorization", "Bearer \xff\xfe")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer wrong")],
        [("X-Token", TOKEN)],
        [("Cookie", f"token={TOKEN}")],
    ],
    ids=str,
)
def test_without_the_token_nothing_is_served(with_token: Server, headers: Any) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    request = f"GET {JOBS} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode("latin-1")
    answer = raw(with_token, request)
    assert "Authorization: Bearer" in problem(answer, 401, "token_required")["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_everything_is_served(with_token: Server, scheme: str) -> None:
    bearer = {"Authorization": f"{scheme} {TOKEN}"}
    assert with_token.http.get(JOBS, headers=bearer).status_code == 200
    assert with_token.http.post("/add", json={"x": 1, "y": 2}, headers=bearer).status_code == 202


def test_a_token_in_the_url_does_not_count(with_token: Server) -> None:
    for name in ("token", "access_token", "Authorization"):
        problem(with_token.http.get(JOBS, params={name: TOKEN}), 401)
        problem(with_token.http.get(JOBS, params={name: f"Bearer {TOKEN}"}), 401)
    user = f"http://x:{TOKEN}@127.0.0.1:{with_token.port}{JOBS}"
    problem(with_token.http.get(user), 401)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/livez",
        "/livez/",
        "/readyz",
        "/docs",
        "/docs/",
        "/openapi.json",
        "/webdemo",
        "/webdemo/",
    ],
)
def test_open_paths_need_no_token(with_token: Server, path: str) -> None:
    assert with_token.http.get(path).status_code in (200, 307)


@pytest.mark.parametrize(
    "path",
    [
        JOBS,
        f"{JOBS}/",
        f"{JOBS}/{UNKNOWN_ID}",
        f"{JOBS}/{UNKNOWN_ID}/output",
        "/api/worker/status",
        "/api/worker/types",
        "/api/worker/stats",
        "/metrics",
        "/queue/",
        f"/result/{UNKNOWN_ID}",
        "/webdemo/../api/worker/jobs",
        "/livez/../api/worker/jobs",
        "/livezz",
        "/nothing-here",
    ],
)
def test_all_other_paths_need_the_token(with_token: Server, path: str) -> None:
    answer = raw(with_token, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if path.startswith("/webdemo/"):
        problem(answer, 404)
    else:
        problem(answer, 401, "token_required")


def test_the_token_is_in_no_log_and_in_no_script(with_token: Server) -> None:
    job_id = with_token.submit("import os\nprint(sorted(os.environ.items()))")
    job = with_token.wait_for(job_id)
    assert "ROBOTNI_JOB_ID" in job["output"]
    with_token.http.get(JOBS, params={"token": TOKEN})
    with_token.http.get(JOBS, headers={"Authorization": "Bearer a-wrong-token"})
    for text in (with_token.log(), with_token.worker_log(), job["output"]):
        assert TOKEN not in text
        assert "a-wrong-token" not in text
    for process in (*with_token.workers(), *with_token.shims()):
        assert TOKEN not in " ".join(process.environ().values())


# Size


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_a_body_of_300_mb_is_refused_and_not_kept(workerless: Server, way: str) -> None:
    assert workerless.process is not None
    process = psutil.Process(workerless.process.pid)
    problem(post(workerless, {}, b"x" * MAX_BODY), 415)  # as much as is ever read: warm
    before = process.memory_info().rss
    block = b"x" * 65536
    head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    framing = "Transfer-Encoding: chunked" if way == "chunked" else "Content-Length: 300000000"
    piece = b"10000\r\n" + block + b"\r\n" if way == "chunked" else block
    sent = 0
    with Wire(workerless) as wire:
        wire.send(f"{head}{framing}\r\n\r\n".encode())
        try:
            while sent < 300_000_000:
                wire.send(piece)
                sent += len(piece)
        except OSError:
            pass  # the server has had enough
        answer = wire.answer()
    problem(answer, 413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert sent < 50_000_000  # what fits into the buffers between us
    assert process.memory_info().rss - before < 5_000_000


def test_bodies_of_requests_without_the_token_are_not_kept(with_token: Server) -> None:
    assert with_token.process is not None
    process = psutil.Process(with_token.process.pid)
    head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ExitStack() as strangers:
        wires = [strangers.enter_context(Wire(with_token)) for _ in range(60)]
        before = process.memory_info().rss
        for wire in wires:
            wire.send(f"{head}Content-Length: {MAX_BODY}\r\n\r\n".encode() + b" " * (MAX_BODY - 1))
        assert with_token.http.get("/livez").is_success
        assert process.memory_info().rss - before < 30 * MAX_BODY
        for wire in wires:
            wire.send(b" ")
            problem(wire.answer(), 401, "token_required")


def test_a_body_of_one_mib_is_read_and_one_byte_more_is_not(workerless: Server) -> None:
    full = json.dumps({"x": 1, "y": 2}).encode().ljust(MAX_BODY)
    assert workerless.http.post("/add", content=full, headers=JSON).status_code == 202
    problem(workerless.http.post("/add", content=full + b" ", headers=JSON), 413)
    problem(workerless.http.post("/add", content=iter([full, b" "]), headers=JSON), 413)
    assert workerless.http.post("/add", content=iter([full[:9], full[9:]]), headers=JSON).is_success


@pytest.mark.parametrize("length", ["-1", "+5", "1e9", "0x10", "5, 6", "\xb2", "", "9" * 5000])
def test_an_invalid_content_length_is_refused(workerless: Server, length: str) -> None:
    head = f"POST /add HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{{}}"
    answer = raw(workerless, head.encode("latin-1"))
    assert answer.status_code in (400, 413)
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "lines", [["X: " + "a" * 100_000], ["X: " + "a" * 17_000], [f"X{n}: y" for n in range(2000)]]
)
def test_too_many_headers_are_refused(workerless: Server, lines: List[str]) -> None:
    head = "\r\n".join(["GET /livez HTTP/1.1", "Host: localhost", *lines])
    answer = raw(workerless, f"{head}\r\n\r\n".encode())
    assert answer.status_code in (400, 431)
    problem(answer, answer.status_code)


def test_the_headers_of_a_browser_are_accepted(workerless: Server) -> None:
    cookies = {"Cookie": "c" * 8000, **{f"X-{n}": "y" * 40 for n in range(60)}}
    assert workerless.http.get("/livez", headers=cookies).status_code == 200


# Bodies that are not valid


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
        b'{"script": "hello.py", "venv": ".venv", "params": {"x": '
        + b"[" * 300
        + b"]" * 300
        + b"}}",
        b'{"script": "hello.py", "venv": ".venv", "params": {"x": '
        + b"[" * 950
        + b"]" * 950
        + b"}}",
        b'{"script": "hello.py", "venv": ".venv", "params": ' + b'{"x":' * 200 + b"1" + b"}" * 201,
        b'{"script": "\xff.py", "venv": ".venv"}',
        b'{"script": "\xed\xa0\x80.py", "venv": ".venv"}',
        b'{"script": "\xc0\xae.py", "venv": ".venv"}',
        b'{"script": "hello.py", "venv": ".venv", "timeout": NaN}',
        b'{"script": "hello.py", "venv": ".venv", "timeout": Infinity}',
        b'{"script": "hello.py", "venv": ".venv", "timeout": -Infinity}',
        b'{"script": "hello.py", "venv": ".venv", "timeout": 1e400}',
        b'{"script": "hello.py", "venv": ".venv", "params": {"x": 1e400}}',
        b'{"script": "hello.py", "venv": ".venv", "params": {"x": [NaN]}}',
        b'{"script": "hello.py", "venv": ".venv", "args": ["\\ud800"]}',
        b'{"script": "hello.py", "venv": ".venv", "stdin": "\\udfff\\ud800"}',
        b'{"script": "hello.py", "venv": ".venv", "params": {"\\ud800": 1}}',
        b'\xef\xbb\xbf{"script": "hello.py", "venv": ".venv"}',
        '{"script": "hello.py", "venv": ".venv"}'.encode("utf-16"),
        '{"script": "hello.py", "venv": ".venv"}'.encode("utf-32"),
        b'{"script": "hello.py", "venv": ".venv"',
        b'{"script": "hello.py", "venv": ".venv"}}',
        b'{"script": "hello.py", "venv": ".venv"}{"a": 1}',
        b"{'script': 'hello.py', 'venv': '.venv'}",
        b'{"script": "hello.py", "venv": ".venv",}',
        b'{"script": "hel\nlo.py", "venv": ".venv"}',
        b'{"x": ' + b"9" * 200_000 + b', "y": 1}',
        b"\x00",
        b" ",
    ],
    ids=lambda body: repr(body[:60]),
)
@pytest.mark.parametrize("path", [JOBS, "/add", "/fakejob"])
def test_a_body_that_is_not_valid_json_is_refused(
    workerless: Server, path: str, body: bytes
) -> None:
    before = stored(workerless)
    problem(workerless.http.post(path, content=body, headers=JSON), 422)
    assert stored(workerless) == before
    assert workerless.http.get(JOBS).status_code == 200


def test_a_pair_of_surrogates_is_one_character(workerless: Server) -> None:
    body = b'{"script": "hello.py", "venv": ".venv", "args": ["\\ud83d\\ude00"]}'
    assert post(workerless, JSON, body).json()["args"] == ["\N{GRINNING FACE}"]


def test_the_last_of_two_equal_keys_is_checked_and_run(workerless: Server) -> None:
    inside, outside = b'"script": "hello.py"', b'"script": "/etc/passwd"'
    answer = post(workerless, JSON, b"{%s, %s, %s}" % (outside, inside, b'"venv": ".venv"'))
    assert answer.json()["script"] == str(workerless.project / "hello.py")
    before = stored(workerless)
    refused = post(workerless, JSON, b"{%s, %s, %s}" % (inside, outside, b'"venv": ".venv"'))
    assert problem(refused, 422)["errors"][0]["pointer"] == "/script"
    assert stored(workerless) == before


def test_the_deepest_allowed_nesting_can_be_read_back(workerless: Server) -> None:
    params: Any = 1
    for _ in range(95):
        params = [params]
    job = post(workerless, JSON, {**HELLO, "params": {"x": params}}).json()
    assert workerless.client.get(job["jobId"])["params"] == {"x": params}


def test_a_body_that_ends_early_is_refused_though_it_is_valid_json(workerless: Server) -> None:
    before = stored(workerless)
    with Wire(workerless) as wire:
        head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        wire.send(f"{head}Content-Length: 1000\r\n\r\n{json.dumps(HELLO)}".encode())
        time.sleep(0.2)
    time.sleep(0.3)
    assert stored(workerless) == before


# Headers of answers


def test_every_answer_has_the_security_headers(workerless: Server, with_token: Server) -> None:
    job_id = workerless.client.submit(HELLO)["jobId"]
    http = workerless.http
    tag = http.get(f"{JOBS}/{job_id}").headers["etag"]
    answers = [
        http.get(f"{JOBS}/{job_id}"),
        http.get(f"{JOBS}/{job_id}", headers={"If-None-Match": tag}),
        http.get(f"{JOBS}/{job_id}/output"),
        http.get(f"{JOBS}/{job_id}/output", headers={"Range": "bytes=0-"}),
        http.get(JOBS),
        http.post(JOBS, json=HELLO),
        http.post(JOBS, json={}),
        http.post(JOBS, content=b"{"),
        http.post(JOBS, content=b"x" * (MAX_BODY + 1)),
        http.post(f"{JOBS}/{job_id}/retry"),
        http.delete(f"{JOBS}/{UNKNOWN_ID}"),
        http.get("/api/worker/status"),
        http.get("/api/worker/types"),
        http.post("/add", json={"x": 1, "y": 2}),
        http.get("/queue"),
        http.put("/queue"),
        http.get("/nothing-here"),
        http.get("/"),
        http.get("/webdemo"),
        http.get("/docs"),
        http.get("/openapi.json"),
        http.get("/livez"),
        http.get("/livez", headers={"Host": "evil.example"}),
        http.post("/add", headers={"Origin": "null"}),
        with_token.http.get(JOBS),
        raw(workerless, b"no HTTP at all\r\n\r\n"),
    ]
    seen = {answer.status_code for answer in answers}
    assert seen == {200, 202, 304, 307, 400, 401, 403, 404, 405, 409, 413, 415, 416, 422}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "no-cache" in answer.headers["cache-control"]
        assert not any(letter.isdigit() for letter in answer.headers.get("server", ""))
    for answer in answers[:6]:
        assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["/webdemo", "/docs"])
def test_pages_have_a_strict_content_security_policy(workerless: Server, path: str) -> None:
    rules = {}
    for rule in workerless.http.get(path).headers["content-security-policy"].split(";"):
        name, *values = rule.split()
        rules[name] = values
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == ["'none'"]


# Under a server that robotni did not start


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Server]]:
    """`uvicorn main:app`, as the README has it: open to all, open with a token, and on loopback."""
    kinds: Dict[str, Any] = {
        "open": ({}, ["--host", "0.0.0.0"]),
        "token": ({"token": TOKEN}, ["--host", "0.0.0.0"]),
        "loopback": ({}, ["--root-path", "/robotni"]),
    }
    servers: Dict[str, Server] = {}
    processes = []
    for kind, (settings, options) in kinds.items():
        project = tmp_path_factory.mktemp(kind)
        make_venv(project / ".venv")
        (project / "hello.py").touch()
        server = servers[kind] = Server(project, port=free_port())
        places = {"data_dir": project / "data", "script_roots": project, "autostart": 0}
        with open(project / "server.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "main:app", "--port", str(server.port), *options],
                cwd=ENTRIES,
                env=clean_environ(**places, **settings),
                stdout=log,
                stderr=log,
            )
        processes.append(process)
    try:
        for server in servers.values():
            eventually(lambda port=server.port: is_open(port))
        yield servers
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for server in servers.values():
            server.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("path", ["/livez", "/webdemo", "/docs", JOBS, "/queue"])
def test_a_foreign_server_that_is_exposed_without_a_token_answers_403(
    foreign: Dict[str, Server], path: str
) -> None:
    answer = foreign["open"].http.get(path)
    assert "ROBOTNI_TOKEN" in problem(answer, 403, "exposed_without_token")["detail"]
    problem(foreign["open"].http.post(path, json=HELLO), 403, "exposed_without_token")


def test_a_server_that_cannot_find_out_where_it_listens_counts_as_exposed() -> None:
    """In a PID namespace of its own with the /proc of another one."""
    look = "from robotni.web.security import _listens_beyond_loopback as look; print(look(1))"
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", look]
    try:
        seen = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if "unshare failed" in seen.stderr:
        pytest.skip("who may make no namespace cannot try it")
    assert (seen.returncode, seen.stdout) == (0, "True\n"), seen.stderr


def test_a_foreign_server_that_is_exposed_serves_requests_with_the_token(
    foreign: Dict[str, Server],
) -> None:
    problem(foreign["token"].http.get(JOBS), 401)
    answer = foreign["token"].http.get(JOBS, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["server"] == "uvicorn"


def test_a_token_in_the_url_is_in_no_log_of_a_foreign_server_either(
    foreign: Dict[str, Server],
) -> None:
    problem(foreign["token"].http.get(JOBS, params={"q": "x", "token": TOKEN}), 401)
    eventually(lambda: f'"GET {JOBS} HTTP/1.1" 401' in foreign["token"].log())
    assert TOKEN not in foreign["token"].log()


def test_under_a_foreign_server_requests_are_checked_before_the_framework_parses(
    foreign: Dict[str, Server],
) -> None:
    http = foreign["loopback"].http
    problem(http.post("/robotni/add", content=b'{"x": 1, "y": 2}'), 415)
    problem(http.post("/add", content=b'{"x": 1, "y": 2}'), 415)
    problem(http.get("/livez", headers={"Host": "evil.example"}), 403)
    assert http.get("/livez").status_code == 200


def test_under_a_root_path_links_include_it(foreign: Dict[str, Server]) -> None:
    http = foreign["loopback"].http
    assert urljoin("/robotni/", http.get("/").headers["location"]) == "/robotni/webdemo"
    folder = foreign["loopback"].project
    here = {"script": str(folder / "hello.py"), "venv": str(folder / ".venv"), "cwd": str(folder)}
    location = http.post(JOBS, json=here).headers["location"]
    assert location.startswith("/robotni/api/worker/jobs/")
    assert http.get(location[len("/robotni") :]).status_code == 200  # as a proxy strips it
    for path in ("/add", "/add/"):
        assert http.post(path, json={"x": 1, "y": 2}).status_code == 202
    answer = http.get(JOBS, params={"limit": 1})
    following = answer.links["next"]["url"]
    assert following.startswith("/robotni/api/worker/jobs?")
