"""Which requests are refused, decided before the framework parses anything.

Checked in this order: size, Host, Origin and Sec-Fetch-Site, token, Content-Type, and whether the
body is JSON that every Python reads in the same way. The body of a refused request is not kept. It
is plain ASGI, since the framework takes a body without Content-Type for JSON on Python 3.8, so that
any web page could run jobs. It adds security headers to all answers. It knows nothing of jobs.
"""

import hmac
import re
from typing import Any, Awaitable, Callable, Dict, Iterable, Optional, Tuple, Union

import psutil

from robotni.errors import MachineFault
from robotni.settings import PREFIX, Settings, is_loopback
from robotni.web.body import (
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    check_body,
    check_headers,
    path_within,
    read_body,
    values_of,
)
from robotni.web.problems import machine_fault

App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
OPEN_PATHS = frozenset(("/", "/livez", "/readyz", "/docs", "/openapi.json", "/webdemo"))
OPEN_PREFIX = "/webdemo/"
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?\Z")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"private, no-cache"),
)


class SecurityMiddleware:
    """ASGI middleware around the whole application. `problem(status, code, detail)` renders the
    body of a refusal."""

    def __init__(
        self, app: App, settings: Settings, problem: Callable[[int, str, str], bytes]
    ) -> None:
        self.app = app
        self._settings = settings
        self._problem = problem
        self._exposed: Dict[Tuple[str, int], bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        body = check_headers(scope) or await self._check_and_read(scope, receive)
        if isinstance(body, Refusal):
            await self._answer(body, send)
        else:
            await self.app(scope, _replay(body, receive), send)

    async def _check_and_read(self, scope: Scope, receive: Receive) -> Union[bytes, Refusal]:
        """The body of a request that may be served, or why it may not."""
        refusal = self._check_sender(scope)
        body = await read_body(scope, receive, keep=refusal is None)
        if isinstance(body, Refusal):  # for its size, which comes first
            return body
        return refusal or check_body(scope, body) or body

    def _check_sender(self, scope: Scope) -> Optional[Refusal]:
        return (
            self._check_exposure(scope)
            or self._check_host(scope)
            or self._check_origin(scope)
            or self._check_token(scope)
        )

    def _check_exposure(self, scope: Scope) -> Optional[Refusal]:
        """Refuses everything while a server that robotni did not start listens beyond loopback and
        no token is set."""
        host, port = scope.get("server") or ("", None)
        if self._settings.token is not None or port is None:
            return None
        if (host, port) not in self._exposed:
            try:
                self._exposed[host, port] = not is_loopback(host) or _listens_beyond_loopback(port)
            except OSError as error:
                return Refusal(503, MachineFault.code, str(machine_fault(error)))
        if not self._exposed[host, port]:
            return None
        return Refusal(
            403,
            "exposed_without_token",
            "the server listens beyond this machine, or cannot find out whether it does; "
            f"set {PREFIX}TOKEN, or bind to 127.0.0.1",
        )

    def _check_host(self, scope: Scope) -> Optional[Refusal]:
        hosts = values_of(scope, b"host")
        match = _HOST.match(hosts[0].lower()) if len(hosts) == 1 else None
        if match is not None and match["name"] in self._settings.allowed_hosts:
            return None
        return Refusal(
            403,
            "host_not_allowed",
            "this Host is not served; use one of the names in "
            f"{PREFIX}ALLOWED_HOSTS, or add yours to it",
        )

    def _check_origin(self, scope: Scope) -> Optional[Refusal]:
        if scope["method"] in SAFE_METHODS and not _is_preflight(scope):
            return None
        origins = values_of(scope, b"origin")
        if origins:
            host = values_of(scope, b"host")[0].lower()
            own = (f"http://{host}", f"https://{host}")
            if len(origins) == 1 and origins[0].lower() in (*own, *self._settings.allowed_origins):
                return None
            return Refusal(
                403,
                "origin_not_allowed",
                "a page of another origin may not do this; if the page is yours, add its origin to "
                f"{PREFIX}ALLOWED_ORIGINS",
            )
        sites = values_of(scope, b"sec-fetch-site")
        if all(site in ("same-origin", "none") for site in sites):
            return None
        return Refusal(
            403,
            "origin_not_allowed",
            "a page of another site may not do this; if the page is yours, let it send its Origin "
            f"and add that to {PREFIX}ALLOWED_ORIGINS",
        )

    def _check_token(self, scope: Scope) -> Optional[Refusal]:
        token = self._settings.token
        path = path_within(scope).rstrip("/") or "/"
        if token is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        if _is_preflight(scope):
            return None  # browsers send it without a token, and it changes nothing
        headers = values_of(scope, b"authorization")
        scheme, _, value = (headers[0] if len(headers) == 1 else "").partition(" ")
        is_right = hmac.compare_digest(value.strip().encode("latin-1"), token.encode())
        if is_right and scheme.lower() == "bearer":
            return None
        return Refusal(
            401,
            "token_required",
            f"send the header Authorization: Bearer …, with the value of {PREFIX}TOKEN",
            ((b"www-authenticate", b"Bearer"),),
        )

    async def _answer(self, refusal: Refusal, send: Send) -> None:
        body = self._problem(refusal.status, refusal.code, refusal.detail)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            *refusal.headers,
        ]
        if refusal.status in (400, 408, 413, 431):  # the body may not have been read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the application the body that has been read already."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in HEADERS if name not in present]
            message = {**message, "headers": headers}
        await send(message)

    return send_with_headers


def _listens_beyond_loopback(port: int) -> bool:
    """Whether a socket of this process listens on `port` beyond loopback. True also where that
    cannot be found out, as with the /proc of another PID namespace."""
    try:
        connections: Iterable[Any] = psutil.Process().net_connections(kind="inet")
    except psutil.Error:
        return True
    listening = (c.laddr for c in connections if c.status == psutil.CONN_LISTEN)
    return any(a.port == port and not is_loopback(a.ip) for a in listening)


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and bool(values_of(scope, b"access-control-request-method"))
