"""One keep-alive connection to a server, as cheap as a client gets in Python.

On two cores the client competes with what it measures; httpx would cost more than the server.
"""

from __future__ import annotations

import json
import select
import socket
from typing import Any


class Wire:
    """Calls one after another; the answers of both servers measured carry a Content-Length.

    A server closes a connection on which nothing was asked for some seconds; it is opened again.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if select.select([self._socket], [], [], 0)[0]:  # nothing is due: it is the end
            self._socket.close()
            self._connect()
        self._socket.sendall(request(method, path, body))
        head, rest = b"", b""
        while b"\r\n\r\n" not in head:
            head += self._receive()
        head, _, rest = head.partition(b"\r\n\r\n")
        length = content_length(head)
        while len(rest) < length:
            rest += self._receive()
        return int(head[9:12]), rest

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer that must be a success."""
        status, answer = self.call(method, path, body)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer)

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def request(method: str, path: str, body: Any = None) -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    data = json.dumps(body).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"{head}\r\n".encode() + data


def content_length(head: bytes) -> int:
    """Of the head of an answer; 0 when there is none, as with 304."""
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
