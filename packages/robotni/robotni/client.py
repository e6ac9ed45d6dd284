"""Clients of the HTTP API, sync and async: submit, then poll. Errors come back as classes.

    with Client() as client:
        job = client.submit({"script": "hello.py", "venv": ".venv"}).wait()
        print(job["status"], job["output"])

A job is the API's JSON as a dict that can also wait, cancel and retry. Polling keeps to the
server's `Retry-After` and sends the ETag, so an unchanged job costs a 304. A server that restarts
is waited for: `wait` and `follow` go on for `patience` seconds while nobody answers, and so does a
`submit` whose answer got lost, which carries an idempotency key, so the job is stored once. Where
nobody listens at all, every call says so at once. Durations are seconds.
"""

import asyncio
import time
import uuid
from typing import Any, AsyncIterator, Iterator, Optional

import httpx

from robotni import calls
from robotni.calls import Call, Json
from robotni.errors import AnswerLost, Unreachable
from robotni.remote import KNOCK_EVERY, AsyncRemoteJob, RemoteJob, Silence

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE = 60.0

__all__ = ["DEFAULT_URL", "PATIENCE", "AsyncClient", "AsyncRemoteJob", "Client", "RemoteJob"]


class Client:
    """Calls one server. Every method raises the RobotniError the server's problem stands for."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: Optional[str] = None,
        timeout: float = 30,
        patience: float = PATIENCE,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self._http = httpx.Client(**calls.connection(url, token, timeout))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, request: Json, key: Optional[str] = None) -> RemoteJob:
        """The stored job. With a `key`, sending it again gives the same job; without, it has one
        of its own, for the case that the answer gets lost."""
        call, silence = calls.submit(request, key or uuid.uuid4().hex), Silence(self.patience)
        while True:
            try:
                return RemoteJob(self, self.call(call))
            except Unreachable as error:
                if not (silence or isinstance(error, AnswerLost)):
                    raise  # it was never sent
                silence.bear(error)
            time.sleep(KNOCK_EVERY)

    def get(self, job_id: str) -> RemoteJob:
        return RemoteJob(self, self.call(calls.get(job_id)))

    def list(self, **filters: Any) -> Json:
        """One page: `{"jobs": […], "nextCursor": …}`; filters as in the API."""
        return calls.json_of(self.call(calls.list_(filters)))

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
        return RemoteJob(self, self.call(calls.cancel(job_id)))

    def retry(self, job_id: str) -> RemoteJob:
        return RemoteJob(self, self.call(calls.retry(job_id)))

    def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output from byte `start` to what is there now."""
        return calls.bytes_of(self.call(calls.output(job_id, start, attempt)))

    def status(self) -> Json:
        return calls.json_of(self.call(calls.STATUS))

    def types(self) -> Json:
        return calls.json_of(self.call(calls.TYPES))

    def call(self, call: Call) -> httpx.Response:
        try:
            answer = self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise calls.unanswered(self.url, error) from None
        return calls.checked(answer)


class AsyncClient:
    """`Client` for asyncio."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: Optional[str] = None,
        timeout: float = 30,
        patience: float = PATIENCE,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self._http = httpx.AsyncClient(**calls.connection(url, token, timeout))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, request: Json, key: Optional[str] = None) -> AsyncRemoteJob:
        """As `Client.submit`."""
        call, silence = calls.submit(request, key or uuid.uuid4().hex), Silence(self.patience)
        while True:
            try:
                return AsyncRemoteJob(self, await self.call(call))
            except Unreachable as error:
                if not (silence or isinstance(error, AnswerLost)):
                    raise  # it was never sent
                silence.bear(error)
            await asyncio.sleep(KNOCK_EVERY)

    async def get(self, job_id: str) -> AsyncRemoteJob:
        return AsyncRemoteJob(self, await self.call(calls.get(job_id)))

    async def list(self, **filters: Any) -> Json:
        """One page: `{"jobs": […], "nextCursor": …}`; filters as in the API."""
        return calls.json_of(await self.call(calls.list_(filters)))

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
        return AsyncRemoteJob(self, await self.call(calls.cancel(job_id)))

    async def retry(self, job_id: str) -> AsyncRemoteJob:
        return AsyncRemoteJob(self, await self.call(calls.retry(job_id)))

    async def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output from byte `start` to what is there now."""
        return calls.bytes_of(await self.call(calls.output(job_id, start, attempt)))

    async def status(self) -> Json:
        return calls.json_of(await self.call(calls.STATUS))

    async def types(self) -> Json:
        return calls.json_of(await self.call(calls.TYPES))

    async def call(self, call: Call) -> httpx.Response:
        try:
            answer = await self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise calls.unanswered(self.url, error) from None
        return calls.checked(answer)
