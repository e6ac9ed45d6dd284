"""One call of the HTTP API: how it is made, what its answer means; alike for both clients.

An answer is a response, or one of robotni's errors as a class. Whether a call may be repeated is
the caller's business.
"""

from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Type
from urllib.parse import quote

import httpx

from robotni.errors import (
    AnswerLost,
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    QueueFull,
    Refused,
    RobotniError,
    StorageFull,
    TokenRequired,
    Unreachable,
)

Json = Dict[str, Any]
_JOBS = "/api/worker/jobs"
_BY_CODE: Dict[str, Type[RobotniError]] = {
    error.code: error for error in (NotFound, Conflict, QueueFull, StorageFull, TokenRequired)
}
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
_BY_A_PROXY = (502, 503, 504)  # what stands in front says so while the server restarts


class Call(NamedTuple):
    """One request."""

    method: str
    path: str
    options: Mapping[str, Any] = MappingProxyType({})


STATUS = Call("GET", "/api/worker/status")
TYPES = Call("GET", "/api/worker/types")


def submit(request: Json, key: str) -> Call:
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest([], "the idempotency key must be 1 to 255 visible ASCII characters")
    return Call("POST", _JOBS, {"json": request, "headers": {"Idempotency-Key": key}})


def get(job_id: str, etag: Optional[str] = None) -> Call:
    return Call("GET", _path(job_id), {"headers": {"If-None-Match": etag} if etag else {}})


def list_(filters: Json) -> Call:
    given = {name: value for name, value in filters.items() if value is not None}
    return Call("GET", _JOBS, {"params": given})


def cancel(job_id: str) -> Call:
    return Call("DELETE", _path(job_id))


def retry(job_id: str) -> Call:
    return Call("POST", f"{_path(job_id)}/retry")


def output(job_id: str, start: int, attempt: Optional[int]) -> Call:
    params = {} if attempt is None else {"attempt": attempt}
    headers = {"Range": f"bytes={start}-"}
    return Call("GET", f"{_path(job_id)}/output", {"headers": headers, "params": params})


def _path(job_id: str) -> str:
    if not job_id.strip("./ "):  # it would name another path
        raise NotFound("an empty id names no job; ids come from a submit or from a list")
    return f"{_JOBS}/{quote(job_id, safe='')}"


def connection(url: str, token: Optional[str], timeout: float) -> Json:
    """The options of an httpx client; Unreachable for a URL that is none."""
    if token is not None and not (token.isascii() and token.isprintable()):
        raise TokenRequired(
            "the token is no line of visible ASCII characters, so no server takes it; look at "
            "ROBOTNI_TOKEN"
        )
    if not _is_web(url):
        raise Unreachable(f"{url!r} is no URL of a server; write it as http://127.0.0.1:8000")
    return {
        "base_url": url.rstrip("/"),
        "headers": {} if token is None else {"Authorization": f"Bearer {token}"},
        "timeout": timeout,
        "trust_env": False,  # a proxy of the environment has no business with a local server
    }


def _is_web(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and parts.host != "" and (parts.port or 1) < 65536


def unanswered(url: str, error: httpx.HTTPError) -> Unreachable:
    """What it means that no answer came."""
    if isinstance(error, _NEVER_SENT):
        return Unreachable(
            f"no robotni answers at {url} ({error}); start one with: robotni serve, or name "
            "another with --url"
        )
    why = str(error) or type(error).__name__
    return AnswerLost(
        f"{url} was asked, but its answer got lost ({why}); see with robotni status whether it "
        "lives, and repeat the command"
    )


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, unless it stands for an error."""
    if answer.is_error and answer.status_code != 416:
        raise error_of(answer)
    return answer


def json_of(answer: httpx.Response) -> Json:
    try:
        value: Json = answer.json()
    except ValueError:
        raise _not_ours(answer) from None
    return value


def bytes_of(answer: httpx.Response) -> bytes:
    return b"" if answer.status_code == 416 else answer.content


def error_of(answer: httpx.Response) -> RobotniError:
    """The error a problem stands for; RobotniError itself when its code is not known here."""
    try:
        problem = answer.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        return _not_ours(answer)
    if answer.status_code == 422:
        errors = [FieldError(e["pointer"], e["detail"]) for e in problem.get("errors", ())]
        error: RobotniError = InvalidRequest(errors, detail)
    elif answer.status_code == 403:
        error = Refused(detail)
    else:
        error = _BY_CODE.get(code, RobotniError)(detail)
    error.code = code
    return error


def _not_ours(answer: httpx.Response) -> RobotniError:
    if answer.status_code in _BY_A_PROXY:
        return AnswerLost(
            f"the proxy at {answer.url.host} has no answer of robotni ({answer.status_code}); "
            "start it with: robotni serve"
        )
    return RobotniError(
        f"{answer.url} answered {answer.status_code}, but not as robotni does; check the URL, and "
        "the path robotni is mounted under, if it is"
    )
