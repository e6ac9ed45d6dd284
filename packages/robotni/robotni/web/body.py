"""What a request consists of, its headers and its body, bounded in size, time and depth.

No body over 1 MiB is read to its end, no unfinished body is used, and what passes is JSON that
every Python reads in the same way. Who may send a request is decided elsewhere, in `security.py`.
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

JSON = "robotni.json"  # the key in a scope for the parsed body
MAX_BODY = 1 << 20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
BODY_TIMEOUT = 10.0  # seconds for a body to arrive


class Refusal(NamedTuple):
    """The answer to a request that is not served. `detail` tells the client what to change."""

    status: int
    code: str
    detail: str
    headers: Sequence[Tuple[bytes, bytes]] = ()


_TOO_LARGE = Refusal(413, "body_too_large", "the body is over 1 MiB; send less")


def check_headers(scope: Scope) -> Optional[Refusal]:
    """Refuses too many headers, and a body whose end is ambiguous."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        return Refusal(
            431,
            "headers_too_large",
            f"the request has over {MAX_HEADERS} headers or 16 KiB of them; send less",
        )
    encodings = values_of(scope, b"transfer-encoding")
    lengths = values_of(scope, b"content-length")
    if encodings and (lengths or [encoding.lower() for encoding in encodings] != ["chunked"]):
        return Refusal(
            400,
            "bad_request",
            "where the body ends is ambiguous; send either Content-Length or "
            "Transfer-Encoding: chunked",
        )
    return None


async def read_body(scope: Scope, receive: Receive, keep: bool = True) -> Union[bytes, Refusal]:
    """The whole body, or why it is refused. Without `keep` it is read and dropped: an empty one."""
    lengths = values_of(scope, b"content-length")
    if any(not length.isdecimal() or int(length[:12]) > MAX_BODY for length in lengths):
        return _TOO_LARGE
    if not lengths and not values_of(scope, b"transfer-encoding"):
        return b""
    try:
        return await asyncio.wait_for(_receive_body(receive, keep), BODY_TIMEOUT)
    except asyncio.TimeoutError:
        detail = f"the body did not arrive in {BODY_TIMEOUT:g} s; send it at once"
        return Refusal(408, "body_too_slow", detail)


async def _receive_body(receive: Receive, keep: bool) -> Union[bytes, Refusal]:
    body, size = b"", 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":  # half a body may be valid JSON: not used
            return Refusal(400, "body_incomplete", "the body ended early; send all of it")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            return _TOO_LARGE
        if keep:
            body += chunk
        if not message.get("more_body", False):
            return body


def check_body(scope: Scope, body: bytes) -> Optional[Refusal]:
    """Refuses a body that is not JSON; the value of one that is goes into the scope."""
    if not body:
        return None
    content_types = values_of(scope, b"content-type")
    media_type = content_types[0].split(";")[0].strip().lower() if len(content_types) == 1 else ""
    if media_type != "application/json":
        return Refusal(
            415, "not_json", "send the body as JSON, with the header Content-Type: application/json"
        )
    try:
        scope[JSON] = parse_json(body)
    except ValueError as error:
        reason = str(error)[:200]
        return Refusal(422, "invalid_json", f"the body is not valid JSON: {reason}; correct it")
    return None


def parse_json(body: bytes) -> Any:
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
    """The path within this app, without the prefix it is mounted or proxied under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def values_of(scope: Scope, name: bytes) -> List[str]:
    """The values of a header, whose `name` is in lower case, as ASGI has them."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
