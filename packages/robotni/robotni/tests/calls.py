"""HTTP in tests: one server for a whole module, raw connections, the form of a problem document."""

import json
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any, Dict, Generator, NamedTuple, Optional

import h11

from robotni.jobs.models import Job, new_job_id
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.processes import Server, make_venv

HELLO = {"script": "hello.py", "venv": ".venv"}
JSON = {"Content-Type": "application/json"}
UNKNOWN_ID = "01936f3e8c7a7d1e9b2f4c5a6d7e8f90"


def serving(project: Path, **settings: Any) -> Generator[Server, None, None]:
    """For fixtures of module scope: `robotni serve` in a project folder, until they end."""
    make_venv(project / ".venv")
    (project / "hello.py").write_text('print("hello")\n')
    server = Server(project, kill_grace=1, **settings)
    try:
        yield server.start()
    finally:
        server.close()


def stored(server: Server) -> int:
    """The number of stored jobs."""
    return sum(server.client.status()["jobs"].values())


TITLES = {
    **{status.value: status.phrase for status in HTTPStatus},
    413: "Request Entity Too Large",  # Python 3.13 has a newer phrase
    422: "Unprocessable Entity",
}


def problem(answer: Any, status: int, code: Optional[str] = None) -> Dict[str, Any]:
    """The body of an error answer; asserts that it is a complete problem document."""
    body: Dict[str, Any] = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"title", "status", "detail", "code"} | (
        {"errors"} if status == 422 else set()
    )
    assert body["status"] == status
    assert body["title"] == TITLES[status]
    assert len(body["detail"]) > 15
    assert code is None or body["code"] == code
    for error in body.get("errors", ()):
        assert set(error) == {"pointer", "detail"}
        assert error["pointer"] == "" or error["pointer"].startswith("/")
    return body


class Answer(NamedTuple):
    """The part of `httpx.Response` that `problem` needs."""

    status_code: int
    headers: Dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Wire:
    """A TCP connection to a server, for requests that no HTTP client would send."""

    def __init__(self, server: Server, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next response, read from the connection."""
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
        status, headers, content = 0, {}, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(self.socket.recv(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {n.decode().lower(): v.decode() for n, v in event.headers}
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return Answer(status, headers, content)

    def is_closed(self) -> bool:
        """Whether the server has closed the connection; data that came before is dropped."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True


def raw(server: Server, data: bytes) -> Answer:
    """The response to one request, sent on a connection of its own."""
    with Wire(server) as wire:
        wire.send(data)
        return wire.answer()


def long_search(server: Server) -> bytes:
    """A request that takes about 10 ms: a search through 15,000 jobs that matches none."""
    store = Store(DataDir(server.data))
    old = [
        Job(job_id=new_job_id(1e9 + n), timestamp=1e9, status="completed", project=p, name=name)
        for p, names in (("web", [f"1{n}.py" for n in range(300)]), ("nightly", ["2.py"] * 15_000))
        for n, name in enumerate(names, len(names))
    ]
    store.insert_all(old, 10**6)
    store.close()
    return b"GET /api/worker/jobs?q=1&project=nightly HTTP/1.1\r\nHost: localhost\r\n\r\n"
