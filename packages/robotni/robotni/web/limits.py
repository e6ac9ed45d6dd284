"""Whom a connection hangs up on: who begins a request and never finishes its head, sends on and on
without waiting for answers, or speaks no HTTP.

Alike for both parsers; it must not know which of them reads.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Optional

from robotni.web.problems import render
from robotni.web.security import HEADERS

HEADERS_WITHIN = 10.0  # seconds for the head of a request to arrive
MAX_AHEAD = 1 << 20  # bytes that wait while a request before them is answered
NO_HTTP = (400, "bad_request", "this is no HTTP request; send one as RFC 9112 has it")


class Impatient(asyncio.Protocol):
    """Goes before a protocol of uvicorn's, which has the attributes that are only named here."""

    loop: Any
    transport: Any
    cycle: Any  # the last request and its answer
    _timer: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.look()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.disarm()
        super().connection_lost(exc)

    @property
    def is_at_rest(self) -> bool:
        """Whether all that was asked so far is answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def look(self) -> None:
        """After all that was received: whether a head is waited for, and since when."""
        if not self.is_at_rest:
            self.disarm()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_WITHIN, self._give_up)

    def hang_up(self, status: int, code: str, detail: str) -> None:
        """What never reaches the guard is answered like everything else."""
        self.transport.write(_answer(status, code, detail))
        self.transport.close()

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.is_at_rest:
            self.transport.close()


def _answer(status: int, code: str, detail: str) -> bytes:
    body = render(status, code, detail)
    headers = [
        *HEADERS,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])
