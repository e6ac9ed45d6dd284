"""Clients of the HTTP API, sync and async: submit, then poll. Errors come back as classes.

    with Client() as client:
        job = client.submit({"script": "hello.py", "venv": ".venv"}).wait()
        print(job["status"], job["output"])

A job is the API's JSON as a dict that can also wait, cancel and retry. Polling keeps to the
server's `Retry-After` and sends the ETag, so an unchanged job costs a 304. Durations are seconds.
"""

import asyncio
import time
from types import MappingProxyType
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Type

import httpx

from robotni.errors import (
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
from robotni.job import TERMINAL

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_POLL = 5.0
_JOBS = "/api/worker/jobs"
_BY_CODE: Dict[str, Type[RobotniError]] = {
    error.code: error for error in (NotFound, Conflict, QueueFull, StorageFull, TokenRequired)
}

Json = Dict[str, Any]


class _Call(NamedTuple):
    """One request, built alike for both clients."""

    method: str
    path: str
    options: Mapping[str, Any] = MappingProxyType({})


def _submit(request: Json, key: Optional[str]) -> _Call:
    headers = {} if key is None else {"Idempotency-Key": key}
    return _Call("POST", _JOBS, {"json": request, "headers": headers})


def _get(job_id: str, etag: Optional[str] = None) -> _Call:
    return _Call("GET", f"{_JOBS}/{job_id}", {"headers": {"If-None-Match": etag} if etag else {}})


def _list(filters: Json) -> _Call:
    given = {name: value for name, value in filters.items() if value is not None}
    return _Call("GET", _JOBS, {"params": given})


def _cancel(job_id: str) -> _Call:
    return _Call("DELETE", f"{_JOBS}/{job_id}")


def _retry(job_id: str) -> _Call:
    return _Call("POST", f"{_JOBS}/{job_id}/retry")


def _output(job_id: str, start: int, attempt: Optional[int]) -> _Call:
    params = {} if attempt is None else {"attempt": attempt}
    headers = {"Range": f"bytes={start}-"}
    return _Call("GET", f"{_JOBS}/{job_id}/output", {"headers": headers, "params": params})


class _JobBase(Json):
    """What both kinds of job know without asking."""

    _etag: Optional[str] = None
    _retry_after: float = DEFAULT_POLL

    @property
    def id(self) -> str:
        return str(self["jobId"])

    @property
    def is_terminal(self) -> bool:
        return self["status"] in TERMINAL

    def _take(self, answer: httpx.Response) -> bool:
        self._retry_after = float(answer.headers.get("Retry-After", DEFAULT_POLL))
        if answer.status_code == 304:
            return False
        self._etag = answer.headers.get("ETag")
        self.clear()
        self.update(answer.json())
        return True

    def _pause(self, poll: Optional[float], deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"job {self.id} is still {self['status']}; it goes on")
        return min(left, self._retry_after if poll is None else poll)


class RemoteJob(_JobBase):
    """A job of a `Client`."""

    def __init__(self, client: "Client", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._take(answer)
        self._etag = None  # only a GET's ETag is one of GET's body

    def refresh(self) -> bool:
        """Asks once; whether anything has changed."""
        return self._take(self._client.call(_get(self.id, self._etag)))

    def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        seen: Callable[["RemoteJob"], None] = lambda job: None,
    ) -> "RemoteJob":
        """Polls until the job has ended; `seen` gets it each time it changed. TimeoutError after
        `timeout`. `poll` is the pause between two polls, the server's Retry-After by default."""
        deadline = time.monotonic() + timeout
        seen(self)
        while not self.is_terminal:
            time.sleep(self._pause(poll, deadline))
            if self.refresh():
                seen(self)
        return self

    def cancel(self) -> "RemoteJob":
        self._take(self._client.call(_cancel(self.id)))
        self._etag = None
        return self

    def retry(self) -> "RemoteJob":
        """The new job; this one stays as it is."""
        return self._client.retry(self.id)

    def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output of an attempt, the last by default, from byte `start` to what is there now."""
        return self._client.output(self.id, start, attempt)


class AsyncRemoteJob(_JobBase):
    """A job of an `AsyncClient`."""

    def __init__(self, client: "AsyncClient", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._take(answer)
        self._etag = None  # only a GET's ETag is one of GET's body

    async def refresh(self) -> bool:
        """Asks once; whether anything has changed."""
        return self._take(await self._client.call(_get(self.id, self._etag)))

    async def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        seen: Callable[["AsyncRemoteJob"], None] = lambda job: None,
    ) -> "AsyncRemoteJob":
        """As `RemoteJob.wait`, without blocking the event loop."""
        deadline = time.monotonic() + timeout
        seen(self)
        while not self.is_terminal:
            await asyncio.sleep(self._pause(poll, deadline))
            if await self.refresh():
                seen(self)
        return self

    async def cancel(self) -> "AsyncRemoteJob":
        self._take(await self._client.call(_cancel(self.id)))
        self._etag = None
        return self

    async def retry(self) -> "AsyncRemoteJob":
        """The new job; this one stays as it is."""
        return await self._client.retry(self.id)

    async def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output of an attempt, the last by default, from byte `start` to what is there now."""
        return await self._client.output(self.id, start, attempt)


class Client:
    """Calls one server. Every method raises the RobotniError the server's problem stands for."""

    def __init__(
        self, url: str = DEFAULT_URL, token: Optional[str] = None, timeout: float = 30
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(**_http_options(url, token, timeout))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, request: Json, key: Optional[str] = None) -> RemoteJob:
        """The stored job. With a `key`, sending it again gives the same job."""
        return RemoteJob(self, self.call(_submit(request, key)))

    def get(self, job_id: str) -> RemoteJob:
        return RemoteJob(self, self.call(_get(job_id)))

    def list(self, **filters: Any) -> Json:
        """One page: `{"jobs": […], "nextCursor": …}`; filters as in the API."""
        return _json(self.call(_list(filters)))

    def jobs(self, **filters: Any) -> Iterator[Json]:
        """All jobs, newest first, page by page."""
        cursor: Optional[str] = None
        while True:
            page = self.list(cursor=cursor, **filters)
            yield from page["jobs"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def cancel(self, job_id: str) -> RemoteJob:
        return RemoteJob(self, self.call(_cancel(job_id)))

    def retry(self, job_id: str) -> RemoteJob:
        return RemoteJob(self, self.call(_retry(job_id)))

    def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output from byte `start` to what is there now."""
        return _bytes(self.call(_output(job_id, start, attempt)))

    def status(self) -> Json:
        return _json(self.call(_Call("GET", "/api/worker/status")))

    def types(self) -> Json:
        return _json(self.call(_Call("GET", "/api/worker/types")))

    def call(self, call: _Call) -> httpx.Response:
        try:
            answer = self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        return _checked(answer)


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(
        self, url: str = DEFAULT_URL, token: Optional[str] = None, timeout: float = 30
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(**_http_options(url, token, timeout))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, request: Json, key: Optional[str] = None) -> AsyncRemoteJob:
        """The stored job. With a `key`, sending it again gives the same job."""
        return AsyncRemoteJob(self, await self.call(_submit(request, key)))

    async def get(self, job_id: str) -> AsyncRemoteJob:
        return AsyncRemoteJob(self, await self.call(_get(job_id)))

    async def list(self, **filters: Any) -> Json:
        """One page: `{"jobs": […], "nextCursor": …}`; filters as in the API."""
        return _json(await self.call(_list(filters)))

    async def jobs(self, **filters: Any) -> AsyncIterator[Json]:
        """All jobs, newest first, page by page."""
        cursor: Optional[str] = None
        while True:
            page = await self.list(cursor=cursor, **filters)
            for job in page["jobs"]:
                yield job
            cursor = page["nextCursor"]
            if cursor is None:
                return

    async def cancel(self, job_id: str) -> AsyncRemoteJob:
        return AsyncRemoteJob(self, await self.call(_cancel(job_id)))

    async def retry(self, job_id: str) -> AsyncRemoteJob:
        return AsyncRemoteJob(self, await self.call(_retry(job_id)))

    async def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output from byte `start` to what is there now."""
        return _bytes(await self.call(_output(job_id, start, attempt)))

    async def status(self) -> Json:
        return _json(await self.call(_Call("GET", "/api/worker/status")))

    async def types(self) -> Json:
        return _json(await self.call(_Call("GET", "/api/worker/types")))

    async def call(self, call: _Call) -> httpx.Response:
        try:
            answer = await self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        return _checked(answer)


def _http_options(url: str, token: Optional[str], timeout: float) -> Dict[str, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return {
        "base_url": url.rstrip("/"),
        "headers": headers,
        "timeout": timeout,
        "trust_env": False,  # a proxy of the environment has no business with a local server
    }


def _unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    return Unreachable(
        f"no robotni answers at {url} ({error}); start one with: robotni serve, or name another "
        "with --url"
    )


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error and answer.status_code != 416:
        raise error_of(answer)
    return answer


def _json(answer: httpx.Response) -> Json:
    value: Json = answer.json()
    return value


def _bytes(answer: httpx.Response) -> bytes:
    return b"" if answer.status_code == 416 else answer.content


def error_of(answer: httpx.Response) -> RobotniError:
    """The error a problem stands for; RobotniError itself when its code is not known here."""
    try:
        problem = answer.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        return RobotniError(
            f"{answer.url} answered {answer.status_code}, but not as robotni does; check the URL"
        )
    if answer.status_code == 422:
        errors = [FieldError(e["pointer"], e["detail"]) for e in problem.get("errors", ())]
        error: RobotniError = InvalidRequest(errors, detail)
    elif answer.status_code == 403:
        error = Refused(detail)
    else:
        error = _BY_CODE.get(code, RobotniError)(detail)
    error.code = code
    return error
