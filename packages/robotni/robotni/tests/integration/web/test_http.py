"""HTTP on the wire, on both event loops: what is served, what is refused, and what is bounded."""

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import psutil
import pytest

from robotni.tests.calls import HELLO, Answer, Wire, problem, raw, serving, stored
from robotni.tests.processes import STACKS, Server, eventually
from robotni.web.server import MAX_PIPELINED

JOBS = "/api/worker/jobs"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /add HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ADD = b'{"x": 5, "y": 3}'
ADD_REQUEST = POST + b"Content-Length: 16\r\n\r\n" + ADD
FLUSH = (
    b"POST /queue/flush HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
SENT = 40_000_000  # bytes; a server that keeps them is seen to grow
MAX_GROWTH = 8_000_000


@pytest.fixture(scope="module", params=STACKS)
def server(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Server]:
    """Starts no worker, so that what is stored stays pending."""
    yield from serving(tmp_path_factory.mktemp("wire"), stack=request.param, autostart=0)


def statuses(server: Server, data: bytes) -> List[int]:
    """Of all answers to what is sent at once, until the server has closed."""
    with Wire(server) as wire:
        wire.send(data)
        received = b""
        while True:
            try:
                part = wire.socket.recv(65536)
            except ConnectionResetError:  # it closed with bytes of ours unread
                part = b""
            if not part:
                break
            received += part
    lines = [line for line in received.split(b"\r\n") if b"HTTP/1.1 " in line]
    return [int(line.rpartition(b"HTTP/1.1 ")[2][:3]) for line in lines]


def flood(server: Server, begin: bytes, piece: bytes) -> Tuple[int, Optional[Answer]]:
    """Sends piece after piece; how much the server grew, and its answer if it refused."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    server.http.get("/livez")
    before, sent, peak = process.memory_info().rss, 0, 0
    with Wire(server) as wire:
        try:
            wire.send(begin)
            while sent < SENT:
                wire.send(piece)
                sent += len(piece)
                peak = max(peak, process.memory_info().rss)
        except OSError:  # it has closed the connection
            return peak - before, wire.answer()
    return peak - before, None


def test_the_fast_stack_uses_uvloop_and_the_plain_one_does_not(server: Server) -> None:
    assert server.process is not None
    maps = psutil.Process(server.process.pid).memory_maps()
    loaded = {part for m in maps for part in Path(m.path).parts}
    assert ("uvloop" in loaded) == (server.stack == "fast")


# What is served


def test_a_connection_is_kept_and_a_head_may_come_byte_by_byte(server: Server) -> None:
    with Wire(server) as wire:
        for _ in range(2):
            for byte in GET + b"\r\n":
                wire.send(bytes([byte]))
            assert wire.answer().status_code == 200
        wire.send(CHUNKED)
        for byte in ADD:
            wire.send(b"1\r\n%c\r\n" % byte)
        wire.send(b"0\r\nX-Trailer: of no use\r\n\r\n")
        assert wire.answer().status_code == 202
        wire.send(b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET + b"\r\n")
        time.sleep(0.2)
        received = wire.socket.recv(65536)
        assert [received.count(status) for status in (b" 405 Method", b" 200 OK", b"{")] == [
            1,
            1,
            1,
        ]


def test_a_request_that_expects_100_gets_it_unless_it_is_refused(server: Server) -> None:
    expects = POST + b"Expect: 100-continue\r\n"
    with Wire(server) as wire:
        wire.send(expects + b"Content-Length: 16\r\n\r\n")
        assert wire.socket.recv(65536).startswith(b"HTTP/1.1 100 ")
        wire.send(ADD)
        assert wire.answer().status_code == 202
    with Wire(server) as wire:
        wire.send(expects + b"Content-Length: 2000000\r\n\r\n")
        assert wire.socket.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_500_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = GET + b"\r\n"
    other = one.replace(b"livez", b"nope1")
    last = GET + b"Connection: close\r\n\r\n"
    expected = [200, 404] * 250 + [200]
    assert statuses(server, (one + other) * 250 + last) == expected


def test_bodies_of_pipelined_requests_belong_to_their_requests(server: Server) -> None:
    before = stored(server)
    large = POST + b"Content-Length: 300000\r\n\r\n" + ADD.ljust(300_000)
    last = GET + b"Connection: close\r\n\r\n"
    assert statuses(server, ADD_REQUEST * 3 + large + ADD_REQUEST + last) == [202] * 5 + [200]
    assert stored(server) == before + 5


def test_a_request_for_an_upgrade_is_served_like_others(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n"
    last = GET + b"Connection: close\r\n\r\n"
    for protocol in (b"h2c", b"websocket"):
        asks = POST + upgrade % protocol + b"Content-Length: 16\r\n\r\n" + ADD
        assert statuses(server, asks + ADD_REQUEST + last) == [202, 202, 200]


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t  "])
def test_white_space_around_a_header_value_is_ignored(server: Server, space: bytes) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost:%slocalhost%s\r\n\r\n" % (space, space)
    assert raw(server, head).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        b"http://localhost/livez",
        b"http://evil.example/livez",
        b"//evil.example/livez",
        b"/livez#/fragment",
        b"/api/../livez",
        b"*",
        b"localhost:80",
    ],
)
def test_a_request_target_that_is_not_a_path_is_refused_or_not_found(
    server: Server, target: bytes
) -> None:
    answer = raw(server, GET.replace(b"/livez", target) + b"\r\n")
    assert answer.status_code in (400, 404)
    problem(answer, answer.status_code)


# What is refused


@pytest.mark.parametrize(
    "request_",
    [
        GET.replace(b"GET", b"get") + b"\r\n",
        GET.replace(b"GET", b"BREW") + b"\r\n",
        GET.replace(b"GET", b"CONNECT") + b"\r\n",
        GET.replace(b"HTTP/1.1", b"HTTP/11") + b"\r\n",
        GET.replace(b"HTTP/1.1", b"") + b"\r\n",
        b"GET /livez\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        GET.replace(b"Host:", b"Host :") + b"\r\n",
        GET.replace(b"Host:", b"Ho st:") + b"\r\n",
        GET.replace(b"localhost", b"localhost\r\n evil") + b"\r\n",
        GET.replace(b"localhost", b"evil\rHost: localhost") + b"\r\n",
        GET + b"Host: localhost\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET + b"X: a\rb\r\n\r\n",
        GET + b": a\r\n\r\n",
        GET + b"X\0: a\r\n\r\n",
        GET.replace(b"/livez", b"/livez?\xff") + b"\r\n",
        GET.replace(b"/livez", b"/li\tvez") + b"\r\n",
        POST + b"Content-Length: 16\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 16\r\n\r\n10\r\n" + ADD + b"\r\n0",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n10\r\n" + ADD + b"\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n10\r\n" + ADD + b"\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n10\r\n" + ADD + b"\r\n0\r\n\r\n",
        POST + b"Content-Length: 16\r\nContent-Length: 17\r\n\r\n" + ADD,
        POST + b"Content-Length: 0x10\r\n\r\n" + ADD,
        POST + b"Content-Length: 16, 17\r\n\r\n" + ADD,
        CHUNKED + b"-10\r\n" + ADD + b"\r\n0\r\n\r\n",
        CHUNKED + b"0x10\r\n" + ADD + b"\r\n0\r\n\r\n",
        CHUNKED + b"10\r\n" + ADD + b"xx0\r\n\r\n",
        CHUNKED + b"fffffffffffffffffffffffffffff0\r\n" + ADD + b"\r\n0\r\n\r\n",
    ],
    ids=lambda request_: repr(request_[:30] + request_[75:])[:70],
)
def test_a_request_that_is_malformed_or_ambiguous_is_refused(
    server: Server, request_: bytes
) -> None:
    before = stored(server)
    answer = raw(server, request_)
    assert answer.status_code in (400, 403, 405)
    problem(answer, answer.status_code)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert stored(server) == before
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", CHUNKED + b"ZZ\r\n"])
def test_bytes_that_are_not_http_are_answered_after_the_requests_before_them(
    server: Server, garbage: bytes
) -> None:
    before = stored(server)
    assert statuses(server, ADD_REQUEST * 2 + garbage + ADD_REQUEST) == [202, 202, 400]
    assert statuses(server, garbage) == [400]
    with Wire(server) as wire:
        wire.send(ADD_REQUEST)
        wire.answer()
        wire.send(garbage)
        problem(wire.answer(), 400, "bad_request")
    assert stored(server) == before + 3


def test_a_trailer_is_not_taken_for_a_header(server: Server) -> None:
    trailers = b"Content-Type: text/plain\r\nHost: evil.example\r\nOrigin: null\r\n\r\n"
    with Wire(server) as wire:
        wire.send(CHUNKED + b"10\r\n" + ADD + b"\r\n0\r\n" + trailers)
        assert wire.answer().status_code == 202
    bare = b"POST /add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + ADD + b"\r\n0\r\n"
    answer = raw(server, bare + b"Host: localhost\r\nContent-Type: application/json\r\n\r\n")
    assert answer.status_code in (400, 403)


# What is bounded


@pytest.mark.parametrize(
    "begin, piece",
    [
        (b"GET /", b"a" * 5000),
        (GET + b"X: ", b"a" * 5000),
        (GET, b"X: y\r\n" * 800),
        (GET + b"X", b"a" * 5000),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 800),
        (CHUNKED + b"0\r\nX: ", b"a" * 5000),
        (CHUNKED + b"1;", b"a" * 5000),
        (CHUNKED + b"0;", b"a" * 5000),
    ],
    ids=lambda piece: repr(piece[-20:]),
)
def test_a_head_or_trailer_without_end_is_refused(
    server: Server, begin: bytes, piece: bytes
) -> None:
    growth, answer = flood(server, begin, piece)
    assert growth < MAX_GROWTH
    assert answer is not None
    problem(answer, answer.status_code)
    assert answer.status_code in (400, 431)


def test_a_body_of_tiny_chunks_is_bounded_like_any_other(server: Server) -> None:
    growth, answer = flood(server, CHUNKED, b"4\r\nxxxx\r\n" * 500)
    problem(answer, 413, "body_too_large")
    assert growth < MAX_GROWTH
    growth, _ = flood(server, CHUNKED, b"1;" + b"a" * 5000 + b"\r\nx\r\n")
    assert growth < MAX_GROWTH  # hardly any of it is body; it ends when the time for a body does


def test_a_client_that_pipelines_without_end_does_not_fill_the_memory(server: Server) -> None:
    """A server that reads a body reads what is behind it, too."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    server.http.get("/livez")
    before, sent = process.memory_info().rss, 0
    with Wire(server) as wire:
        wire.socket.settimeout(5)
        try:
            while sent < SENT:
                wire.send(FLUSH * 1000)
                sent += len(FLUSH) * 1000
        except OSError:  # closed, or read no further
            pass
        assert process.memory_info().rss - before < MAX_PIPELINED + MAX_GROWTH
    assert server.http.get("/livez").status_code == 200


def test_clients_that_disconnect_leave_no_connection_and_no_traceback(server: Server) -> None:
    now = struct.pack("ii", 1, 0)
    for number in range(120):
        wire = Wire(server)
        wire.send(FLUSH * (1 + number % 3) + FLUSH[:-1] * (number % 2))
        time.sleep(0.001 * (number % 4))
        if number % 2:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)  # a reset
        wire.socket.close()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    eventually(
        lambda: len(process.net_connections(kind="tcp")) <= 3
    )  # it listens, and keeps our two clients
    assert "Traceback" not in server.log()


def test_a_notification_of_the_stop_fifo_ends_the_server(
    make_server: Callable[..., Server],
) -> None:
    for stack in STACKS:
        server = make_server(stack=stack, autostart=0)
        (server.data / "stop_server").write_bytes(b"\0")
        assert server.process is not None
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log()


def test_answers_are_the_same_on_both_stacks(make_server: Callable[..., Server]) -> None:
    seen = []
    for stack in STACKS:
        server = make_server(stack=stack, autostart=0)
        answers = [
            server.http.get("/livez"),
            server.http.get("/nothing"),
            server.http.get("/api/worker/types", headers={"If-None-Match": "*"}),
            server.http.head("/livez"),
            server.http.post("/add", content=json.dumps(HELLO)),
        ]
        answered = [
            (a.status_code, {n: v for n, v in a.headers.items() if n != "date"}, a.text)
            for a in answers
        ]
        seen.append([*answered, raw(server, b"no HTTP\r\n\r\n")])
        server.stop()
    assert seen[0] == seen[1]
