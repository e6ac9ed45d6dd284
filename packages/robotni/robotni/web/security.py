"""The guard: who is refused, decided before the framework parses anything.

In this order: size, Host, Origin and Sec-Fetch-Site, token, Content-Type, and whether the body is
JSON that every Python reads alike. Nothing is kept of the body of who is refused. Plain ASGI, since
on Python 3.8 the framework takes a body without Content-Type for JSON, and any web page could then
run jobs. Puts its headers on all answers. It must not know what a job is.
"""

import hmac
import re
from typing import Any, Awaitable, Callable, Dict, Iterable, Optional, Tuple, Union

import psutil

from robotni.settings import PREFIX, Settings, is_loopback
from robotni.web.body import (
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    check_body,
    headers_fault,
    path_within,
    read_body,
    values_of,
)

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
    """ASGI middleware in front of everything. `problem` renders a refusal's body."""

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
        body = headers_fault(scope) or await self._body(scope, receive)
        if isinstance(body, Refusal):
            await self._answer(body, send)
        else:
            await self.app(scope, _replay(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> Union[bytes, Refusal]:
        refusal = self._refuse(scope)
        body = await read_body(scope, receive, kept=refusal is None)
        if isinstance(body, Refusal):  # for its size, which comes first
            return body
        return refusal or check_body(scope, body) or body

    def _refuse(self, scope: Scope) -> Optional[Refusal]:
        return (
            self._check_exposure(scope)
            or self._check_host(scope)
            or self._check_origin(scope)
            or self._check_token(scope)
        )

    def _check_exposure(self, scope: Scope) -> Optional[Refusal]:
        """A server started by somebody else on an address for all, and no token to show."""
        host, port = scope.get("server") or ("", None)
        if self._settings.token is not None or port is None:
            return None
        if (host, port) not in self._exposed:
            self._exposed[host, port] = not is_loopback(host) or _listens_beyond_loopback(port)
        if not self._exposed[host, port]:
            return None
        return Refusal(
            403,
            "exposed_without_token",
            "the server listens beyond this machine, or cannot tell; "
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
                "a page of another origin may not do this; if it is yours, add its origin to "
                f"{PREFIX}ALLOWED_ORIGINS",
            )
        sites = values_of(scope, b"sec-fetch-site")
        if all(site in ("same-origin", "none") for site in sites):
            return None
        return Refusal(
            403,
            "origin_not_allowed",
            "a page of another site may not do this; if it is yours, let it send its Origin and "
            f"add that to {PREFIX}ALLOWED_ORIGINS",
        )

    def _check_token(self, scope: Scope) -> Optional[Refusal]:
        token = self._settings.token
        path = path_within(scope).rstrip("/") or "/"
        if token is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        if _is_preflight(scope):
            return None  # browsers send it without; it does nothing
        shown = values_of(scope, b"authorization")
        scheme, _, value = (shown[0] if len(shown) == 1 else "").partition(" ")
        right = hmac.compare_digest(value.strip().encode("latin-1"), token.encode())
        if right and scheme.lower() == "bearer":
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
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in HEADERS if name not in present]
            message = {**message, "headers": headers}
        await send(message)

    return wrapped


def _listens_beyond_loopback(port: int) -> bool:
    """Whether this process has a socket listening on `port` for more than loopback; yes also where
    it cannot look, as with the /proc of another PID namespace."""
    try:
        connections: Iterable[Any] = psutil.Process().net_connections(kind="inet")
    except psutil.Error:
        return True
    listening = (c.laddr for c in connections if c.status == psutil.CONN_LISTEN)
    return any(a.port == port and not is_loopback(a.ip) for a in listening)


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and bool(values_of(scope, b"access-control-request-method"))
