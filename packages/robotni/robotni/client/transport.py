"""The HTTP calls of the API: how each request is written, and what its response means.

It sends nothing itself; `sync` and `aio` do. A response becomes JSON or bytes, or is raised as the
RobotniError that its problem document stands for. For how long a failed call is sent again is
decided in `polling`.
"""

import re
import uuid
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Type
from urllib.parse import quote

import httpx

from robotni.errors import (
    AnswerLost,
    Conflict,
    DatabaseReplaced,
    FieldError,
    InvalidRequest,
    MachineFault,
    NotFound,
    QueueFull,
    Refused,
    RobotniError,
    StorageFull,
    TokenRequired,
    Unreachable,
)

Json = Dict[str, Any]
DEFAULT_URL = "http://127.0.0.1:8000"
RETRY_TIMEOUT = 60.0
_JOBS = "/api/worker/jobs"
_BY_CODE: Dict[str, Type[RobotniError]] = {
    error.code: error
    for error in (
        NotFound,
        Conflict,
        QueueFull,
        StorageFull,
        DatabaseReplaced,
        MachineFault,
        TokenRequired,
    )
}
_PLACE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)\Z", re.ASCII)  # Content-Range
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
# How a call fails on a connection that the server, or a proxy, closed while it was idle.
CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_PROXY_STATUSES = (502, 503, 504)  # what a reverse proxy answers while the server restarts


class Call(NamedTuple):
    """One request; `options` are keyword arguments of httpx."""

    method: str
    path: str
    options: Mapping[str, Any] = MappingProxyType({})


class OutputPart(NamedTuple):
    """`data` are the bytes from `start` on, in an output that has `size` bytes so far."""

    start: int
    data: bytes
    size: int


STATUS = Call("GET", "/api/worker/status")
TYPES = Call("GET", "/api/worker/types")


def submit(request: Json, key: Optional[str]) -> Call:
    """Without a `key` it has a random one, so that it may be sent again."""
    key = key or uuid.uuid4().hex
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest([], "the idempotency key must be 1 to 255 visible ASCII characters")
    return Call("POST", _JOBS, {"json": request, "headers": {"Idempotency-Key": key}})


def get(job_id: str, etag: Optional[str] = None) -> Call:
    return Call("GET", _path(job_id), {"headers": {"If-None-Match": etag} if etag else {}})


def list_(filters: Json) -> Call:
    params = {name: value for name, value in filters.items() if value is not None}
    return Call("GET", _JOBS, {"params": params})


def cancel(job_id: str) -> Call:
    return Call("DELETE", _path(job_id))


def retry(job_id: str) -> Call:
    return Call("POST", f"{_path(job_id)}/retry")


def output(job_id: str, start: int, attempt: Optional[int]) -> Call:
    """The output from byte `start` on. With a range the response says where it begins: at `start`,
    or behind what was left out there. Without one, for `start` 0, a line stands for that."""
    return output_part(job_id, start, attempt) if start else _output(job_id, attempt, {})


def output_part(job_id: str, start: int, attempt: Optional[int]) -> Call:
    return _output(job_id, attempt, {"Range": f"bytes={start}-"})


def _output(job_id: str, attempt: Optional[int], headers: Mapping[str, str]) -> Call:
    params = {} if attempt is None else {"attempt": attempt}
    return Call("GET", f"{_path(job_id)}/output", {"headers": headers, "params": params})


def _path(job_id: str) -> str:
    if not job_id.strip("./ "):  # as a part of a path it would name another resource
        raise NotFound(f"{job_id!r} is not a job id; to see the ids: robotni jobs")
    return f"{_JOBS}/{quote(job_id, safe='')}"


class ClientBase:
    """The configuration of a client. A subclass names the httpx class that sends its calls."""

    _http_class: Any
    _http: Any

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: Optional[str] = None,
        timeout: float = 30,
        retry_timeout: float = RETRY_TIMEOUT,
    ) -> None:
        """`timeout`: seconds to wait for one response. `retry_timeout`: seconds for which a call
        that may be repeated is repeated while the server does not answer."""
        if token is not None and not (token.isascii() and token.isprintable()):
            raise TokenRequired(
                "the token has characters that are not visible ASCII, so no server accepts it; "
                "correct ROBOTNI_TOKEN"
            )
        if not _is_server_url(url):
            raise Unreachable(
                f"{url!r} is not the URL of a server; write it like http://127.0.0.1:8000"
            )
        self.url = url.rstrip("/")
        self.retry_timeout = retry_timeout
        self._http = self._http_class(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=timeout,
            trust_env=False,  # a proxy from the environment must not see calls to a local server
        )


def _is_server_url(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and parts.host != "" and (parts.port or 1) < 65536


def no_response(url: str, error: httpx.HTTPError) -> Unreachable:
    """The error of a call that got no response: AnswerLost when the server may have received it."""
    if isinstance(error, _NEVER_SENT):
        return Unreachable(
            f"no robotni server answers at {url} ({error}); start one with: robotni serve, or name "
            "another one with --url"
        )
    reason = str(error) or type(error).__name__
    return AnswerLost(
        f"the request to {url} got no answer ({reason}) and may have been carried out; check with: "
        "robotni jobs, and repeat the command if it was not"
    )


def raise_for_error(response: httpx.Response) -> httpx.Response:
    """The response, unless it stands for an error. 416 does not: there is no output to read yet."""
    if response.is_error and response.status_code != 416:
        raise error_from(response)
    return response


def json_from(response: httpx.Response) -> Json:
    try:
        value: Json = response.json()
    except ValueError:
        raise _not_from_robotni(response) from None
    return value


def output_from(response: httpx.Response) -> bytes:
    return b"" if response.status_code == 416 else response.content


def part_from(response: httpx.Response) -> OutputPart:
    """The part of the output in a response to a request with a range; at its end, an empty one."""
    place = _PLACE.match(response.headers.get("Content-Range", ""))
    if place is None:
        raise _not_from_robotni(response)
    start, size = int(place[1] or place[2]), int(place[2])
    return OutputPart(start, output_from(response), size)


def error_from(response: httpx.Response) -> RobotniError:
    """The error that a problem document stands for; RobotniError itself for an unknown code."""
    try:
        problem = response.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        return _not_from_robotni(response)
    if response.status_code == 422:
        errors = [FieldError(e["pointer"], e["detail"]) for e in problem.get("errors", ())]
        error: RobotniError = InvalidRequest(errors, detail)
    elif response.status_code == 403:
        error = Refused(detail)
    else:
        error = _BY_CODE.get(code, RobotniError)(detail)
    error.code = code
    return error


def _not_from_robotni(response: httpx.Response) -> RobotniError:
    if response.status_code in _PROXY_STATUSES:
        return AnswerLost(
            f"the proxy at {response.url.host} answered {response.status_code}, so it did not "
            "reach robotni; start it with: robotni serve"
        )
    return RobotniError(
        f"{response.url} answered {response.status_code}, but the answer is not from robotni; "
        "check the URL, with the path under which robotni is mounted"
    )
