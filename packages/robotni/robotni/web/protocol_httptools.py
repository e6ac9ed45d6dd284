"""HTTP as httptools reads it: quicker than h11, but with no bounds of its own.

So what h11 bounds is bounded here: 64 KiB of what is no body (a head, a chunk's line, trailers);
requests that are sent ahead are parsed a few at a time; and what is no HTTP is answered after all
that came before it. A request means what it means to h11, or is refused. Two kinds are handed over
to h11: who asks for an upgrade (some clients do at every first request), since httptools would take
the body of that for another request; and methods that httptools does not know, which the routes
refuse.
"""

from functools import partial
from typing import Any, Callable, Optional, Tuple
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from robotni.web.limits import MAX_AHEAD, NO_HTTP, Impatient

MAX_HEAD = 64 * 1024  # bytes that bring neither the end of a head nor a part of a body
AT_ONCE = 4096  # bytes that are parsed between two looks at what they brought
_TOO_LONG = (431, "headers_too_large", "a head or a trailer is over 64 KiB; send less")
_TOO_MUCH = (400, "bad_request", "over 1 MiB was sent ahead of the answers; wait for them")


class Calm:
    """A transport that takes what is written after its end: asyncio's does, uvloop's raises."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(Impatient, HttpToolsProtocol):
    _unread = b""
    _barren = 0  # bytes since those that brought the end of a head or a part of a body
    _before: Any = None  # the request before the last one
    _end: Optional[Callable[[], None]] = None  # to be done when all before it is answered

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Calm(transport))

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > MAX_AHEAD:
            self._refuse(_TOO_MUCH)
        self._read_on()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if (self._unread or self._end) and not self.transport.is_closing():
            self._read_on()

    def _read_on(self) -> None:
        """Parses until requests wait for their turn; what is left comes after their answers."""
        while self._unread and not self.pipeline and self._end is None:
            self._unset_keepalive_if_required()
            piece, self._unread = self._unread[:AT_ONCE], self._unread[AT_ONCE:]
            self._parse(piece)
        self.look()
        if self._end is not None and self.is_at_rest:
            self._end()

    def _parse(self, piece: bytes) -> None:
        self._barren += len(piece)
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._unread = self._head() + piece[upgrade.args[0] :] + self._unread
            self._end = self._hand_over
        except HttpParserInvalidMethodError:
            if self._barren == len(piece):  # else where it began is not known any more
                self._unread, self._end = piece + self._unread, self._hand_over
            else:
                self._refuse(NO_HTTP)
        except HttpParserError:
            self._refuse(NO_HTTP)
        if self._barren > MAX_HEAD:
            self._refuse(_TOO_LONG)

    def _refuse(self, fault: Tuple[int, str, str]) -> None:
        """Reads no further; a request of which only a part has come is given up."""
        self._end, self._unread = partial(self.hang_up, *fault), b""
        self.flow.pause_reading()
        if self.cycle is not None and self.cycle.more_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.cycle = self._before

    def _should_upgrade(self) -> bool:
        return True  # as far as the parser goes; then it is handed over

    def _head(self) -> bytes:
        """The head that was read, less its wish for an upgrade."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _hand_over(self) -> None:
        from robotni.web import protocol_h11  # 1 MB that most servers never need

        self._unset_keepalive_if_required()
        self.disarm()
        self.flow.resume_reading()
        self.connections.discard(self)
        heir = protocol_h11.Protocol(self.config, self.server_state, self.app_state)
        heir.connection_made(self.transport)
        self.transport.set_protocol(heir)
        heir.data_received(self._unread)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self._barren, self._before = 0, self.cycle
        super().on_headers_complete()
        if self.parser.should_upgrade():
            return
        # As it stands: no host and no fragment is taken off, which the guard would not see.
        path, _, query = self.url.partition(b"?")
        self.scope["path"], self.scope["raw_path"] = unquote(path.decode("ascii")), path
        self.scope["query_string"] = query
        self.headers = []  # trailers go where nobody reads them

    def on_body(self, body: bytes) -> None:
        self._barren = 0
        super().on_body(body)
