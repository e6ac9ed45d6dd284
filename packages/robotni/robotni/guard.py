"""The guard: who is refused, decided before the framework parses anything.

In this order: size, Host, Origin and Sec-Fetch-Site, token, Content-Type, and whether the body is
JSON that every Python reads alike. Plain ASGI, since on Python 3.8 the framework takes a body
without Content-Type for JSON, and any web page could then run jobs. Puts its headers on all
answers. It must not know what a job is.
"""

import asyncio
import hmac
import json
import math
import re
from typing import (
    Any,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    List,
    MutableMapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import psutil

from robotni.settings import PREFIX, Settings, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1 << 20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_DEPTH = 100
BODY_WITHIN = 10.0  # seconds for a body to arrive
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


class Refusal(NamedTuple):
    """An answer instead of a service: status, code, and how to mend it."""

    status: int
    code: str
    detail: str
    headers: Sequence[Tuple[bytes, bytes]] = ()


_TOO_LARGE = Refusal(413, "body_too_large", "the body is over 1 MiB; send less")


class Guard:
    """ASGI middleware in front of everything. `problem` renders a refusal's body."""

    def __init__(
        self, app: App, settings: Settings, problem: Callable[[int, str, str], bytes]
    ) -> None:
        self.app = app
        self._settings = settings
        self._problem = problem
        self._exposed: Dict[int, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        body = _headers_fault(scope) or await _read_body(scope, receive)
        refusal = body if isinstance(body, Refusal) else self._refuse(scope, body)
        if refusal is not None:
            await self._answer(refusal, send)
        else:
            assert isinstance(body, bytes)
            await self.app(scope, _replay(body, receive), send)

    def _refuse(self, scope: Scope, body: bytes) -> Optional[Refusal]:
        return (
            self._check_exposure(scope)
            or self._check_host(scope)
            or self._check_origin(scope)
            or self._check_token(scope)
            or _check_body(scope, body)
        )

    def _check_exposure(self, scope: Scope) -> Optional[Refusal]:
        """A server started by somebody else on an address for all, and no token to show."""
        host, port = scope.get("server") or ("", None)
        if self._settings.token is not None or port is None:
            return None
        if port not in self._exposed:
            self._exposed[port] = _listens_beyond_loopback(port)
        if is_loopback(host) and not self._exposed[port]:
            return None
        return Refusal(
            403,
            "exposed_without_token",
            f"the server listens beyond this machine; set {PREFIX}TOKEN, or bind to 127.0.0.1",
        )

    def _check_host(self, scope: Scope) -> Optional[Refusal]:
        hosts = _all(scope, b"host")
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
        origins = _all(scope, b"origin")
        if origins:
            host = _all(scope, b"host")[0].lower()
            own = (f"http://{host}", f"https://{host}")
            if len(origins) == 1 and origins[0].lower() in (*own, *self._settings.allowed_origins):
                return None
            return Refusal(
                403,
                "origin_not_allowed",
                "a page of another origin may not do this; if it is yours, add its origin to "
                f"{PREFIX}ALLOWED_ORIGINS",
            )
        sites = _all(scope, b"sec-fetch-site")
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
        path = _path(scope).rstrip("/") or "/"
        if token is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        if _is_preflight(scope):
            return None  # browsers send it without; it does nothing
        shown = _all(scope, b"authorization")
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
        if refusal.status in (408, 413, 431):  # the body may not have been read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _headers_fault(scope: Scope) -> Optional[Refusal]:
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) <= MAX_HEADERS and size <= MAX_HEADER_BYTES:
        return None
    return Refusal(
        431,
        "headers_too_large",
        f"the request has over {MAX_HEADERS} headers or 16 KiB of them; send less",
    )


async def _read_body(scope: Scope, receive: Receive) -> "bytes | Refusal":
    lengths = _all(scope, b"content-length")
    if any(not length.isdecimal() or int(length[:12]) > MAX_BODY for length in lengths):
        return _TOO_LARGE
    if not lengths and not _all(scope, b"transfer-encoding"):
        return b""
    try:
        return await asyncio.wait_for(_receive_body(receive), BODY_WITHIN)
    except asyncio.TimeoutError:
        return Refusal(408, "body_too_slow", "the body did not arrive in 10 s; send it at once")


async def _receive_body(receive: Receive) -> "bytes | Refusal":
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":  # half a body may be valid JSON: not for us
            return Refusal(400, "body_incomplete", "the body ended early; send all of it")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return _TOO_LARGE
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _check_body(scope: Scope, body: bytes) -> Optional[Refusal]:
    if not body:
        return None
    kinds = _all(scope, b"content-type")
    kind = kinds[0].split(";")[0].strip().lower() if len(kinds) == 1 else ""
    if kind != "application/json":
        return Refusal(
            415, "not_json", "send the body as JSON, with the header Content-Type: application/json"
        )
    fault = json_fault(body)
    if fault is None:
        return None
    return Refusal(422, "invalid_json", f"the body is no usable JSON: {fault}; mend it")


def json_fault(body: bytes) -> Optional[str]:
    """What is wrong with a JSON text that must be UTF-8, finite and not too deep; or None."""
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_reject_constant, parse_float=_finite
        )
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deep(value):
            return "it is nested too deeply"
    except RecursionError:
        return "it is nested too deeply"
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    except ValueError as error:
        return str(error)[:200]
    return None


def _is_deep(value: Any) -> bool:
    """Whether values nest over MAX_DEPTH levels; level by level, since recursion has its limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        children = (v.values() if isinstance(v, dict) else v for v in level)
        level = [c for items in children for c in items if isinstance(c, (dict, list))]
        if not level:
            return False
    return True


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


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
    """Whether this process has a socket listening on `port` for more than loopback."""
    process = psutil.Process()
    connections: Iterable[Any] = process.net_connections(kind="inet")
    listening = (c.laddr for c in connections if c.status == psutil.CONN_LISTEN)
    return any(a.port == port and not is_loopback(a.ip) for a in listening)


def _all(scope: Scope, name: bytes) -> List[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _path(scope: Scope) -> str:
    """The path within this app, also when it is mounted below another."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and bool(_all(scope, b"access-control-request-method"))
