"""`robotni serve`: the application under uvicorn, from the listening socket to a clean end.

It does not listen beyond this machine without a token, ends in the same way on SIGINT, SIGTERM and
`robotni stop`, and bounds what a client can hold open before a request reaches the application.
It speaks HTTP/1.1 by h11, on uvloop where that is installed.
"""

import asyncio
import errno
import os
import signal
import socket
from importlib import import_module
from typing import Any, List, Optional

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from robotni.errors import RobotniError, SettingsError
from robotni.settings import PREFIX, Settings
from robotni.system.datadir import DataDir
from robotni.system.server_address import announced
from robotni.system.wakeup import listen
from robotni.web.problems import render
from robotni.web.security import HEADERS

KEEP_ALIVE = 75  # seconds that an idle connection is kept: longer than any client's poll interval
HEAD_TIMEOUT = 10.0  # seconds for the head of a request to arrive
WRITE_TIMEOUT = 30.0  # seconds in which a client must take some of what is sent to it
MAX_PIPELINED = 1 << 20  # bytes of further requests that may wait while one is answered


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, with four limits that uvicorn has no option for.

    uvicorn offers no hook for a request that has not arrived in full, so this is the one place that
    builds on its class: on `conn`, `cycle`, `loop`, `transport`, `handle_events` and
    `send_400_response`, which are not documented.
    """

    cycle: Any  # the last request and its answer; None before the first
    _head_timer: Optional[asyncio.TimerHandle] = None
    _write_timer: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # paused means that something is not written yet
        self._limit_head()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._cancel_head_timer()
        self._cancel_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_write()

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def handle_events(self) -> None:
        """Called after each receive, and after each answer when more requests have arrived."""
        super().handle_events()
        self._limit_head()
        self._limit_pipeline()

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are not HTTP with a problem, like every other error."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            detail = "this is not an HTTP request; send one as RFC 9112 describes it"
            body = render(400, "bad_request", detail)
            headers = [
                *HEADERS,
                (b"content-type", b"application/problem+json"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _limit_head(self) -> None:
        """Starts the timer when a head is awaited: the first one, or one that has begun."""
        is_awaited = self.conn.their_state is h11.IDLE and (
            self.cycle is None or len(self.conn.trailing_data[0]) > 0
        )
        if not is_awaited:
            self._cancel_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _limit_write(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self._check_written, left)

    def _check_written(self, left: int) -> None:
        """Drops a client that has taken nothing, also one whose connection is being closed, which
        would wait for it without end."""
        if self.transport.get_write_buffer_size() < left:
            self._limit_write()
        else:
            self.transport.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _limit_pipeline(self) -> None:
        """Closes after this answer when too much waits behind it: each request that is answered
        lets uvicorn read more, so a client that never waits for answers would fill the memory."""
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) > MAX_PIPELINED:
            self.cycle.keep_alive = False


class Server(uvicorn.Server):
    """Ends on SIGINT, on SIGTERM, and when `stop_fifo` becomes readable."""

    def __init__(self, config: uvicorn.Config, stop_fifo: int) -> None:
        super().__init__(config)
        self._stop_fifo = stop_fifo

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._stop_fifo, self._stop)

    async def shutdown(self, sockets: Optional[List[socket.socket]] = None) -> None:
        """Also when it is forced, the application is told, which else ends with a traceback."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    def _stop(self) -> None:
        """Leaves the byte in the FIFO, so that it ends every server of the data directory."""
        asyncio.get_running_loop().remove_reader(self._stop_fifo)
        self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """uvicorn's own raises the signal again after the end, which would cut off what `robotni
        serve` still does. A second signal does not wait for open calls."""
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: Any, listener: socket.socket, datadir: DataDir, url: str) -> None:
    """Serves until SIGINT, SIGTERM, or a notification of the data directory's `stop_server`.
    Meanwhile the commands of the project find the server at `url`. Afterwards SIGINT is ignored."""
    stop_fifo = listen(datadir.stop_server)
    config = uvicorn.Config(
        app,
        http=Connection,
        loop="uvloop" if has_uvloop() else "asyncio",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        log_config=None,  # its lines go through our handlers
        log_level="error",  # no line for each request that is not HTTP
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address of a client is not used
        lifespan="on",
    )
    try:
        # uvicorn puts this back when it has ended. What follows takes some seconds at most.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with announced(datadir, url):
            Server(config, stop_fifo).run(sockets=[listener])
    finally:
        listener.close()
        os.close(stop_fifo)


def has_uvloop() -> bool:
    """Whether the extra `fast` is installed."""
    try:
        import_module("uvloop")
    except ImportError:
        return False
    return True


def bind(settings: Settings) -> socket.socket:
    """The listening socket; RobotniError names the next free port when this one is taken."""
    if not settings.is_loopback and settings.token is None:
        raise SettingsError(
            [
                f"{PREFIX}HOST={settings.host} is reachable from other machines; set "
                f"{PREFIX}TOKEN to a secret of at least 8 characters, or listen on 127.0.0.1"
            ]
        )
    try:
        return _bind_to(settings.host, settings.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise RobotniError(
                f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
                f"choose others with {PREFIX}HOST and {PREFIX}PORT"
            ) from None
    free_port = _next_free_port(settings)
    raise RobotniError(
        f"port {settings.port} is taken; port {free_port} is free: robotni serve --port {free_port}"
    )


def _bind_to(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without, an answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by connections. The kernel takes more as soon as the client has taken 64 KiB,
        # not a third of some megabytes, so a slow client is not taken for one that reads nothing.
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every system
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, 128 * 1024)
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _next_free_port(settings: Settings) -> int:
    for port in range(settings.port + 1, 65536):
        try:
            _bind_to(settings.host, port).close()
        except OSError:
            continue
        return port
    return 0
