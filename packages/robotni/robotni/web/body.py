"""What a request brings along: its headers and its body, bounded in size, time and depth.

Nothing over 1 MiB is read, nothing unfinished is taken for a body, and what passes is JSON that
every Python reads alike. It must not know who may send it; that is the guard's.
"""

import asyncio
import json
import math
from typing import (
    Any,
    Awaitable,
    Callable,
    List,
    MutableMapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from robotni.jobs.request import MAX_DEPTH, nests_deeper

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "robotni.json"  # where in a scope the value of a body is, if it has one
MAX_BODY = 1 << 20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
BODY_WITHIN = 10.0  # seconds for a body to arrive


class Refusal(NamedTuple):
    """An answer instead of a service: status, code, and how to mend it."""

    status: int
    code: str
    detail: str
    headers: Sequence[Tuple[bytes, bytes]] = ()


_TOO_LARGE = Refusal(413, "body_too_large", "the body is over 1 MiB; send less")


def headers_fault(scope: Scope) -> Optional[Refusal]:
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        return Refusal(
            431,
            "headers_too_large",
            f"the request has over {MAX_HEADERS} headers or 16 KiB of them; send less",
        )
    codings = values_of(scope, b"transfer-encoding")
    lengths = values_of(scope, b"content-length")
    if codings and (lengths or [coding.lower() for coding in codings] != ["chunked"]):
        return Refusal(
            400,
            "bad_request",
            "two readers may see two ends of this body; send Content-Length, or else "
            "Transfer-Encoding: chunked",
        )
    return None


async def read_body(scope: Scope, receive: Receive, kept: bool = True) -> Union[bytes, Refusal]:
    """All of it; unless it is to be `kept` it is thrown away as it comes, for no bytes."""
    lengths = values_of(scope, b"content-length")
    if any(not length.isdecimal() or int(length[:12]) > MAX_BODY for length in lengths):
        return _TOO_LARGE
    if not lengths and not values_of(scope, b"transfer-encoding"):
        return b""
    patience = Patience(BODY_WITHIN)
    try:
        return await _receive_body(receive, kept)
    except asyncio.CancelledError:
        if not patience.was_all():
            raise
        return Refusal(408, "body_too_slow", "the body did not arrive in 10 s; send it at once")
    finally:
        patience.end()


class Patience:
    """Cancels what the running task waits for after so many seconds. `wait_for` has the same done
    by a task of its own, and most bodies are there already."""

    def __init__(self, seconds: float) -> None:
        self._is_over = False
        self._task: Any = asyncio.current_task()
        self._before = self._task.cancelling() if hasattr(self._task, "cancelling") else 0
        self._timer = asyncio.get_running_loop().call_later(seconds, self._lose)

    def _lose(self) -> None:
        self._is_over = True
        self._task.cancel()

    def was_all(self) -> bool:
        """Whether it was this that cancelled the task, and nobody else did."""
        uncancel = getattr(self._task, "uncancel", None)  # from Python 3.11 on
        return self._is_over and (uncancel is None or uncancel() <= self._before)

    def end(self) -> None:
        self._timer.cancel()


async def _receive_body(receive: Receive, kept: bool) -> Union[bytes, Refusal]:
    body, size = b"", 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":  # half a body may be valid JSON: not for us
            return Refusal(400, "body_incomplete", "the body ended early; send all of it")
        some = message.get("body", b"")
        size += len(some)
        if size > MAX_BODY:
            return _TOO_LARGE
        if kept:
            body += some
        if not message.get("more_body", False):
            return body


def check_body(scope: Scope, body: bytes) -> Optional[Refusal]:
    """Leaves what the body says in the scope, so that nobody has to parse it again."""
    if not body:
        return None
    kinds = values_of(scope, b"content-type")
    kind = kinds[0].split(";")[0].strip().lower() if len(kinds) == 1 else ""
    if kind != "application/json":
        return Refusal(
            415, "not_json", "send the body as JSON, with the header Content-Type: application/json"
        )
    try:
        scope[JSON] = parsed(body)
    except ValueError as error:
        fault = str(error)[:200]
        return Refusal(422, "invalid_json", f"the body is no usable JSON: {fault}; mend it")
    return None


def parsed(body: bytes) -> Any:
    """The value of a JSON text; ValueError unless it is UTF-8, finite and not too deep."""
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_reject_constant, parse_float=_finite
        )
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and nests_deeper(value, MAX_DEPTH):
            raise ValueError("it is nested too deeply")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return value


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def path_within(scope: Scope) -> str:
    """The path within this app, less the prefix it is mounted or proxied under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def values_of(scope: Scope, name: bytes) -> List[str]:
    """The values of a header; ASGI has the names in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
