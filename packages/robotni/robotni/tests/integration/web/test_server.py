"""`robotni serve`: where it listens, what it answers, what it closes, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Optional

import psutil
import pytest

from robotni.tests.calls import Wire, problem, raw, serving
from robotni.tests.processes import PROGRAM, STACKS, Server, clean_environ, eventually, free_port
from robotni.web.body import BODY_TIMEOUT
from robotni.web.server import HEAD_TIMEOUT, KEEP_ALIVE

TOKEN = "a-token-for-everybody"


@pytest.fixture(scope="module", params=STACKS)
def workerless(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("workerless"), stack=request.param, autostart=0)


def serve(folder: Path, *options: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """Runs `robotni serve` where it is bound to fail."""
    return subprocess.run(
        [sys.executable, PROGRAM, "serve", *options],
        cwd=folder,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# Where it listens


@pytest.mark.parametrize(
    "options, host",
    [
        ([], "0.0.0.0"),
        (["--host", "0.0.0.0"], ""),
        ([], "::"),
        ([], "a.example"),
    ],
)
def test_it_does_not_start_beyond_loopback_without_a_token(
    tmp_path: Path, options: List[str], host: str
) -> None:
    settings = {"host": host} if host else {}
    answer = serve(tmp_path, *options, port=free_port(), **settings)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert "ROBOTNI_TOKEN" in line
    assert f"ROBOTNI_HOST={host or options[1]}" in line
    assert "listens on" not in answer.stdout


def test_it_starts_beyond_loopback_with_a_token(make_server: Callable[..., Server]) -> None:
    server = make_server(host="0.0.0.0", token=TOKEN, autostart=0)
    problem(server.http.get("/api/worker/jobs"), 401)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert server.http.get("/api/worker/jobs", headers=bearer).status_code == 200
    foreign = {**bearer, "Host": f"192.0.2.1:{server.port}"}
    problem(server.http.get("/api/worker/jobs", headers=foreign), 403, "host_not_allowed")
    assert TOKEN not in server.log()


def test_a_token_that_is_too_short_is_refused_and_not_shown(tmp_path: Path) -> None:
    answer = serve(tmp_path, token="hunter2")
    assert answer.returncode == 2
    assert "ROBOTNI_TOKEN" in answer.stderr
    assert "hunter2" not in answer.stderr + answer.stdout


def test_an_address_that_cannot_be_bound_is_an_error(tmp_path: Path) -> None:
    answer = serve(tmp_path, host="192.0.2.1", token=TOKEN)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "ROBOTNI_HOST" in line


def test_with_port_0_it_takes_a_free_port_and_prints_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "serve", "--port", "0"],
        cwd=tmp_path,
        env=clean_environ(autostart=0),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    assert port > 0
    eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def test_it_listens_on_loopback_only(workerless: Server) -> None:
    assert workerless.process is not None
    connections = psutil.Process(workerless.process.pid).net_connections(kind="inet")
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


# What it answers


def test_an_answer_is_not_delayed_by_the_network_stack(workerless: Server) -> None:
    """Head and body are two writes: without TCP_NODELAY the second waits for an ACK."""
    took = []
    for _ in range(50):
        began = time.monotonic()
        workerless.http.get("/livez")
        took.append(time.monotonic() - began)
    assert median(took) < 0.035


def test_requests_are_in_no_log(workerless: Server) -> None:
    workerless.http.get("/nothing-here", params={"q": "a-word-of-the-request"})
    workerless.http.post("/api/worker/jobs", json={"a-word-of-the-request": 1})
    assert "a-word-of-the-request" not in workerless.log()


def test_answers_do_not_name_the_server(workerless: Server) -> None:
    for path in ("/livez", "/nothing-here", "/webdemo"):
        assert "server" not in workerless.http.get(path).headers
    assert "server" not in raw(workerless, b"no HTTP\r\n\r\n").headers


@pytest.mark.parametrize(
    "request_",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /l\xc3\xadvez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX\xff: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"POST /add HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /add HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        b"\r\n\r\n\r\n\r\nx\r\n\r\n",
        b"A" * 200_000,
    ],
    ids=lambda request_: repr(request_[:50]),
)
def test_bytes_that_are_not_a_request_get_a_problem_and_no_traceback(
    workerless: Server, request_: bytes
) -> None:
    answer = raw(workerless, request_)
    assert 400 <= answer.status_code < 600
    problem(answer, answer.status_code)
    assert "Traceback" not in workerless.log()


def test_two_pipelined_requests_and_garbage_are_all_answered(workerless: Server) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Wire(workerless) as wire:
        wire.send(one + one.replace(b"livez", b"nope1") + b"garbage\r\n\r\n")
        data = b""
        while b"bad_request" not in data:
            part = wire.socket.recv(65536)
            assert part, data
            data += part
    assert [data.count(status) for status in (b" 200 OK", b" 404 Not", b" 400 Bad")] == [1, 1, 1]


# What it closes


class SlowClient:
    """A connection that begins something and never ends it. `piece` is sent again and again."""

    def __init__(self, server: Server, start: bytes, piece: Optional[bytes] = None) -> None:
        self.wire = Wire(server)
        self.seconds_open: Optional[float] = None
        self._opened_at = time.monotonic()
        self._piece = piece
        self.wire.send(start)

    def check(self) -> None:
        """Notes when the server has closed the connection; sends the next piece until then."""
        if self.seconds_open is None and self.wire.is_closed():
            self.seconds_open = time.monotonic() - self._opened_at
        if self.seconds_open is None and self._piece is not None:
            try:
                self.wire.send(self._piece)
            except OSError:
                pass  # closed meanwhile: the next check sees it


HEAD = b"POST /add HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_OPEN: Dict[str, Any] = {
    "nothing": (b"",),
    "one word": (b"GET",),
    "a head without its end": (HEAD,),
    "a head that drips": (HEAD, b"X: y\r\n"),
    "half a body": (HEAD + b"Content-Length: 1000\r\n\r\n{",),
    "a body that drips": (HEAD + b"Content-Length: 1000\r\n\r\n{", b" "),
    "half a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",),
    "half a second request": (WHOLE + b"GET /li",),
    "a second request that drips": (WHOLE + b"GET /li", b"v"),
}


def test_300_half_open_requests_are_closed_in_10_s_and_others_are_served(
    workerless: Server,
) -> None:
    clients = {
        kind: [SlowClient(workerless, *sent) for _ in range(300 // len(HALF_OPEN))]
        for kind, sent in HALF_OPEN.items()
    }
    clients["a head without its end"] += [SlowClient(workerless, HEAD) for _ in range(3)]
    every_client = [client for group in clients.values() for client in group]
    assert len(every_client) == 300
    calls: List[float] = []
    deadline = time.monotonic() + 3 * max(HEAD_TIMEOUT, BODY_TIMEOUT)
    while any(c.seconds_open is None for c in every_client) and time.monotonic() < deadline:
        began = time.monotonic()
        assert workerless.http.get("/api/worker/jobs").status_code == 200
        calls.append(time.monotonic() - began)
        for client in every_client:
            client.check()
        time.sleep(0.4)
    for kind, group in clients.items():
        seconds_open = [client.seconds_open for client in group]
        assert None not in seconds_open, f"{kind} is held open"
        assert max(filter(None, seconds_open)) < HEAD_TIMEOUT + 5, kind
    assert sorted(calls)[-2] < 1  # one may meet a moment in which the machine is busy
    for client in every_client:
        client.wire.socket.close()
    assert "Traceback" not in workerless.log()


def test_an_idle_connection_is_kept_longer_than_a_client_polls(workerless: Server) -> None:
    assert KEEP_ALIVE == 75
    with Wire(workerless) as wire:
        wire.send(WHOLE)
        assert wire.answer().status_code == 200
        time.sleep(HEAD_TIMEOUT + 1)
        wire.send(WHOLE)
        assert wire.answer().status_code == 200


QUICK = (
    "import sys; {plain}import robotni.web.server as server; server.WRITE_TIMEOUT = 2; "
    "server.KEEP_ALIVE = 4; from robotni.cli.main import main; main(['serve'])"
)


@pytest.mark.parametrize("plain", ["", "sys.modules['uvloop'] = None; "], ids=STACKS)
def test_clients_that_never_read_their_answer_are_dropped_and_one_that_reads_slowly_is_not(
    project: Path, plain: str
) -> None:
    server = Server(project)
    try:
        server.start(sys.executable, "-c", QUICK.format(plain=plain))
        size = 9_000_000
        job_id = server.submit(f"import sys; sys.stdout.write('x' * {size})")
        server.wait_for(job_id)
        ask = f"GET /api/worker/jobs/{job_id}/output HTTP/1.1\r\nHost: localhost\r\n"
        deaf = [SlowClient(server, f"{ask}\r\n".encode()) for _ in range(60)]
        closing = f"{ask}Range: bytes={size - 250_000}-\r\nConnection: close\r\n\r\n".encode()
        for _ in range(20):
            client = SlowClient(server, b"")
            client.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.wire.send(closing)
            deaf.append(client)
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        with Wire(server) as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.send(f"{ask}\r\n".encode())
            taken = 0
            began = time.monotonic()
            while time.monotonic() - began < 9:
                taken += len(slow.socket.recv(20_000))
                time.sleep(0.1)
            open_ = [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]
            assert len(open_) <= 3  # the slow one, and those of this test
            while taken < size:
                data = slow.socket.recv(1 << 20)
                assert data
                taken += len(data)
        for client in deaf:
            client.wire.socket.close()
        assert "Traceback" not in server.log()
    finally:
        server.close()


# How it ends


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_its_worker_and_says_what_goes_on_running(
    make_server: Callable[..., Server], signal_: signal.Signals, stack: str
) -> None:
    server = make_server(stack=stack)
    job_id = server.submit("import time\nprint('up')\ntime.sleep(600)")
    eventually(lambda: server.client.output(job_id) == b"up\n")
    assert server.process is not None
    server.process.send_signal(signal_)
    assert server.process.wait(20) == 0
    assert server.workers() == []
    assert len(server.scripts(job_id)) > 0
    assert "1 script goes on running" in server.log()
    assert "Traceback" not in server.log()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


# With secrets in its environment and umask 000

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "DATABASE_URL": "postgres://s3cret",
    "LD_PRELOAD": "libc.so.6",
    "LD_LIBRARY_PATH": "/s3cret",
    "PYTHONPATH": "/s3cret",
    "PYTHONDONTWRITEBYTECODE": "1",
    "BASH_ENV": "/dev/null",
}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started with secrets in its environment, and with umask 000."""
    running = serving(tmp_path_factory.mktemp("exposed"))
    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in SECRETS.items():
                patch.setenv(name, value)
            server = next(running)
    finally:
        os.umask(before)
    yield server
    running.close()


def test_scripts_do_not_see_the_environment_of_the_server(exposed: Server) -> None:
    job_id = exposed.submit("import json, os\nprint(json.dumps(dict(os.environ)))")
    seen = json.loads(exposed.wait_for(job_id)["output"])
    assert not set(SECRETS) & set(seen)
    venv = exposed.project / ".venv"
    assert seen["VIRTUAL_ENV"] == str(venv)
    assert seen["PATH"].split(os.pathsep)[0] == str(venv / "bin")
    assert "s3cret" not in exposed.log() + exposed.worker_log()


def test_under_umask_000_the_data_directory_is_closed_to_others(exposed: Server) -> None:
    job_id = exposed.submit("open('made', 'w').close()\nprint('x')")
    exposed.wait_for(job_id)
    found = [exposed.data, *exposed.data.rglob("*")]
    assert len(found) > 10
    assert [path for path in found if path.stat().st_mode & 0o077] == []
    assert (exposed.project / "made").stat().st_mode & 0o777 == 0o666
