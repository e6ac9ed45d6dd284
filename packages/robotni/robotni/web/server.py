"""`robotni serve`: the web application under uvicorn, and the goodbye on Ctrl-C."""

import asyncio
import errno
import os
import select
import socket
import threading
import time
from email.utils import formatdate
from importlib import import_module
from typing import Any, List, Optional, Sequence, Tuple

import uvicorn
from uvicorn.server import ServerState

from robotni.errors import RobotniError, SettingsError
from robotni.settings import PREFIX, Settings
from robotni.system.datadir import DataDir
from robotni.system.wakeup import listen

FAST = ("httptools", "uvloop")  # what the extra `fast` brings


class Dated(ServerState):
    """What connections share, with the date of the second in which it is asked for. uvicorn's own
    is told the time every second, which is half of what an idle server costs."""

    _second = 0
    _date: Sequence[Tuple[bytes, bytes]] = ()

    @property
    def default_headers(self) -> List[Tuple[bytes, bytes]]:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._date = ((b"date", formatdate(now, usegmt=True).encode()),)
        return list(self._date)

    @default_headers.setter
    def default_headers(self, told: Any) -> None:
        pass


class Server(uvicorn.Server):
    """Ends on SIGINT and SIGTERM alike; uvicorn's own raises them again, before our goodbye.

    It wakes when it is called, and when it is to end; uvicorn's own ten times a second."""

    _loop: Optional[asyncio.AbstractEventLoop] = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = Dated()

    async def main_loop(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        if not self.should_exit:
            await self._ending.wait()

    def end(self) -> None:
        """From any thread, or a signal's handler."""
        self.should_exit = True
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._ending.set)
        except RuntimeError:  # it has ended meanwhile
            pass

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.force_exit = self.should_exit
        self.end()


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
    raise RobotniError(
        f"port {settings.port} is taken; port {_next_free(settings)} is free: "
        f"robotni serve --port {_next_free(settings)}"
    )


def _bind_to(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without, an answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _next_free(settings: Settings) -> int:
    for port in range(settings.port + 1, 65536):
        try:
            _bind_to(settings.host, port).close()
        except OSError:
            continue
        return port
    return 0


def is_fast() -> bool:
    """Whether the extra `fast` is there; in part is not."""
    try:
        for name in FAST:
            import_module(name)
    except ImportError:
        return False
    return True


def _protocol(fast: bool) -> Any:
    if fast:
        from robotni.web import protocol_httptools

        return protocol_httptools.Protocol
    from robotni.web import protocol_h11

    return protocol_h11.Protocol


def serve(app: Any, listener: socket.socket, datadir: DataDir) -> None:
    """Serves until SIGINT, SIGTERM, or a ring of the data directory's `stop`."""
    fast = is_fast()
    config = uvicorn.Config(
        app,
        http=_protocol(fast),
        loop="uvloop" if fast else "asyncio",
        ws="none",
        log_config=None,  # its lines go where ours go, and look alike
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is, or how it came
        lifespan="on",
    )
    server = Server(config)
    bell = listen(datadir.stop_server)
    over, end = os.pipe()
    listening = threading.Thread(target=_end_on_ring, args=(server, bell, over), daemon=True)
    listening.start()
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        os.close(end)
        listening.join()  # a bell somebody waits at stays open, closed or not
        os.close(over)
        os.close(bell)


def _end_on_ring(server: Server, bell: int, over: int) -> None:
    if bell in select.select([bell, over], [], [])[0]:
        server.end()
