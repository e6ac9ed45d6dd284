"""The client for asyncio: `robotni.client.sync`, with `await`."""

import asyncio
import time
import uuid
from typing import Any, AsyncIterator, Callable, Optional

import httpx

from robotni.client import transport as calls
from robotni.client.polling import (
    DEFAULT_URL,
    PATIENCE,
    RECONNECT_EVERY,
    JobBase,
    Reading,
    RetryBudget,
)
from robotni.client.transport import Call, Json
from robotni.errors import AnswerLost, NotFound, Unreachable


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

    async def submit(self, request: Json, key: Optional[str] = None) -> "AsyncRemoteJob":
        """As `Client.submit`."""
        call, silence = calls.submit(request, key or uuid.uuid4().hex), RetryBudget(self.patience)
        while True:
            try:
                return AsyncRemoteJob(self, await self.call(call))
            except Unreachable as error:
                if not (silence or isinstance(error, AnswerLost)):
                    raise  # it was never sent
                silence.bear(error)
            await asyncio.sleep(RECONNECT_EVERY)

    async def get(self, job_id: str) -> "AsyncRemoteJob":
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

    async def cancel(self, job_id: str) -> "AsyncRemoteJob":
        return AsyncRemoteJob(self, await self.call(calls.cancel(job_id)))

    async def retry(self, job_id: str) -> "AsyncRemoteJob":
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


class AsyncRemoteJob(JobBase):
    """A job of an `AsyncClient`."""

    def __init__(self, client: "AsyncClient", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._silence = RetryBudget(client.patience)
        self._take(answer)
        self._etag = None  # only a GET's ETag is one of GET's body

    async def refresh(self) -> bool:
        """Asks once; whether anything has changed."""
        return self._take(await self._client.call(calls.get(self.id, self._etag)))

    async def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        seen: Callable[["AsyncRemoteJob"], None] = lambda job: None,
    ) -> "AsyncRemoteJob":
        """As `RemoteJob.wait`, without blocking the event loop."""
        deadline = time.monotonic() + timeout
        self._silence.end()
        seen(self)
        while not self.is_terminal:
            await asyncio.sleep(self._pause(poll, deadline))
            try:
                if await self.refresh():
                    seen(self)
            except Unreachable as error:
                self._silence.bear(error)
        return self

    async def follow(self, attempt: int = 1) -> AsyncIterator[bytes]:
        """As `RemoteJob.follow`."""
        self._silence.end()
        reading = Reading(attempt)
        while not reading.is_over:
            data = b""
            try:
                if reading.pause:
                    await asyncio.sleep(reading.pause)
                    await self.refresh()
                where = reading.where(self)
                data = await self.output(*where) if where else b""
            except NotFound:  # the attempt was given back, since it had never started
                pass
            except Unreachable as error:
                self._silence.bear(error)
                reading.pause = RECONNECT_EVERY
                continue
            yield reading.took(self, data)

    async def cancel(self) -> "AsyncRemoteJob":
        self._take(await self._client.call(calls.cancel(self.id)))
        self._etag = None
        return self

    async def retry(self) -> "AsyncRemoteJob":
        """The new job; this one stays as it is."""
        return await self._client.retry(self.id)

    async def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output of an attempt, the last by default, from byte `start` to what is there now."""
        return await self._client.output(self.id, start, attempt)
