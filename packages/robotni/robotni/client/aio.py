"""The client for asyncio: the methods of `robotni.client.sync`, to be awaited."""

import asyncio
import time
from typing import Any, AsyncIterator, Callable, Optional

import httpx

from robotni.client import transport
from robotni.client.polling import RETRY_INTERVAL, JobBase, OutputCursor, RetryBudget
from robotni.client.transport import Call, ClientBase, Json, OutputPart
from robotni.errors import NotFound, Unreachable


class AsyncClient(ClientBase):
    """`Client` for asyncio."""

    _http_class = httpx.AsyncClient
    _http: httpx.AsyncClient

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def call(self, call: Call) -> httpx.Response:
        try:
            try:
                response = await self._http.request(call.method, call.path, **call.options)
            except transport.CLOSED:
                if call.method != "GET":
                    raise
                response = await self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise transport.no_response(self.url, error) from None
        return transport.raise_for_error(response)

    async def submit(self, request: Json, key: Optional[str] = None) -> "AsyncRemoteJob":
        call, budget = transport.submit(request, key), RetryBudget(self.retry_timeout)
        while True:
            try:
                return AsyncRemoteJob(self, await self.call(call))
            except Unreachable as error:
                budget.spend_on_submit(error)
            await asyncio.sleep(RETRY_INTERVAL)

    async def get(self, job_id: str) -> "AsyncRemoteJob":
        return AsyncRemoteJob(self, await self.call(transport.get(job_id)))

    async def list(self, **filters: Any) -> Json:
        return transport.json_from(await self.call(transport.list_(filters)))

    async def jobs(self, **filters: Any) -> AsyncIterator[Json]:
        cursor: Optional[str] = None
        while True:
            page = await self.list(cursor=cursor, **filters)
            for job in page["jobs"]:
                yield job
            cursor = page["nextCursor"]
            if cursor is None:
                return

    async def cancel(self, job_id: str) -> "AsyncRemoteJob":
        return AsyncRemoteJob(self, await self.call(transport.cancel(job_id)))

    async def retry(self, job_id: str) -> "AsyncRemoteJob":
        return AsyncRemoteJob(self, await self.call(transport.retry(job_id)))

    async def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        return transport.output_from(await self.call(transport.output(job_id, start, attempt)))

    async def status(self) -> Json:
        return transport.json_from(await self.call(transport.STATUS))

    async def types(self) -> Json:
        return transport.json_from(await self.call(transport.TYPES))


class AsyncRemoteJob(JobBase):
    """A job of an `AsyncClient`."""

    _client: AsyncClient

    async def refresh(self) -> bool:
        return self._load(await self._client.call(transport.get(self.id, self._etag)))

    async def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        on_change: Callable[["AsyncRemoteJob"], None] = lambda job: None,
    ) -> "AsyncRemoteJob":
        deadline = time.monotonic() + timeout
        self._budget.reset()
        on_change(self)
        while not self.is_terminal:
            await asyncio.sleep(self._pause(poll, deadline))
            try:
                if await self.refresh():
                    on_change(self)
            except Unreachable as error:
                self._budget.spend(error)
        return self

    async def follow(self, attempt: int = 1) -> AsyncIterator[bytes]:
        cursor = OutputCursor(self, attempt)
        while not cursor.is_at_end:
            part = None
            try:
                if cursor.pause:
                    await asyncio.sleep(cursor.pause)
                    await self.refresh()
                position = cursor.position()
                if position is not None:
                    part = await self._output_part(*position)
            except NotFound:  # the attempt never started, and its number was given back
                pass
            except Unreachable as error:
                yield cursor.fail(error)
                continue
            yield cursor.advance(part)

    async def cancel(self) -> "AsyncRemoteJob":
        self._load(await self._client.call(transport.cancel(self.id)))
        return self

    async def retry(self) -> "AsyncRemoteJob":
        return await self._client.retry(self.id)

    async def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        return await self._client.output(self.id, start, attempt)

    async def _output_part(self, start: int, attempt: int) -> OutputPart:
        call = transport.output_part(self.id, start, attempt)
        return transport.part_from(await self._client.call(call))
