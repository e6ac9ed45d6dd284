"""A job as a client has it: the API's JSON as a dict that can also wait, follow, cancel and retry.

Polling keeps to the server's `Retry-After` and sends the ETag. A server that restarts is waited
for: while nobody answers, `wait` and `follow` go on for the client's `patience`. Sync and async.
"""

import asyncio
import time
from typing import TYPE_CHECKING, AsyncIterator, Callable, Iterator, Optional, Tuple

import httpx

from robotni import calls
from robotni.calls import Json
from robotni.errors import NotFound, Unreachable
from robotni.job import TERMINAL

if TYPE_CHECKING:
    from robotni.client import AsyncClient, Client

DEFAULT_POLL = 5.0
KNOCK_EVERY = 1.0  # seconds between two tries while nobody answers
QUICK, SLOW = 0.2, 1.0  # seconds between two looks at growing output


class Silence:
    """How long nobody has answered; `bear` raises once that is over `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: Optional[float] = None

    def __bool__(self) -> bool:
        return self._since is not None

    def bear(self, error: Unreachable) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._patience:
            raise error

    def end(self) -> None:
        self._since = None


class _JobBase(Json):
    """What both kinds of job know without asking."""

    _etag: Optional[str] = None
    _retry_after: float = DEFAULT_POLL
    _silence: Silence

    @property
    def id(self) -> str:
        return str(self["jobId"])

    @property
    def is_terminal(self) -> bool:
        return self["status"] in TERMINAL

    def _take(self, answer: httpx.Response) -> bool:
        self._silence.end()
        self._retry_after = float(answer.headers.get("Retry-After", DEFAULT_POLL))
        if answer.status_code == 304:
            return False
        body = calls.json_of(answer)
        self._etag = answer.headers.get("ETag")
        self.clear()
        self.update(body)
        return True

    def _pause(self, poll: Optional[float], deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"job {self.id} is still {self['status']}; it goes on")
        pause = self._retry_after if poll is None else poll
        return min(left, pause, KNOCK_EVERY if self._silence else pause)


class _Reading:
    """Where a follower is in the output of a job's attempts, and when it looks again."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.start = 0
        self.pause = 0.0
        self.is_over = False

    def where(self, job: _JobBase) -> Optional[Tuple[int, int]]:
        """(first byte, attempt) to ask for; None while that has not started."""
        return (self.start, self.attempt) if job["attempt"] >= self.attempt else None

    def took(self, job: _JobBase, data: bytes) -> bytes:
        self.start += len(data)
        self.pause = QUICK if data else min(SLOW, max(QUICK, self.pause * 1.2))
        if self.attempt < job["attempt"]:
            self.attempt, self.start, self.pause = self.attempt + 1, 0, 0.0
        else:
            self.is_over = job.is_terminal
        return data


class RemoteJob(_JobBase):
    """A job of a `Client`."""

    def __init__(self, client: "Client", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._silence = Silence(client.patience)
        self._take(answer)
        self._etag = None  # only a GET's ETag is one of GET's body

    def refresh(self) -> bool:
        """Asks once; whether anything has changed."""
        return self._take(self._client.call(calls.get(self.id, self._etag)))

    def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        seen: Callable[["RemoteJob"], None] = lambda job: None,
    ) -> "RemoteJob":
        """Polls until the job has ended; `seen` gets it each time it changed. TimeoutError after
        `timeout`. `poll` is the pause between two polls, the server's Retry-After by default."""
        deadline = time.monotonic() + timeout
        self._silence.end()
        seen(self)
        while not self.is_terminal:
            time.sleep(self._pause(poll, deadline))
            try:
                if self.refresh():
                    seen(self)
            except Unreachable as error:
                self._silence.bear(error)
        return self

    def follow(self, attempt: int = 1) -> "Follower":
        """Iterates over the output as it comes, from `attempt` on, until the job has ended."""
        return Follower(self, attempt)

    def cancel(self) -> "RemoteJob":
        self._take(self._client.call(calls.cancel(self.id)))
        self._etag = None
        return self

    def retry(self) -> "RemoteJob":
        """The new job; this one stays as it is."""
        return self._client.retry(self.id)

    def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output of an attempt, the last by default, from byte `start` to what is there now."""
        return self._client.output(self.id, start, attempt)


class Follower(Iterator[bytes]):
    """What a job prints, by ranges every 0.2 to 1 s; `b""` when a look found nothing new.

    The job is kept fresh. An iteration that was interrupted may be taken up again.
    """

    def __init__(self, job: RemoteJob, attempt: int) -> None:
        job._silence.end()
        self._job = job
        self._reading = _Reading(attempt)

    def __next__(self) -> bytes:
        job, reading = self._job, self._reading
        if reading.is_over:
            raise StopIteration
        try:
            if reading.pause:
                time.sleep(reading.pause)
                job.refresh()
            where = reading.where(job)
            data = job.output(*where) if where else b""
        except NotFound:  # the attempt was given back, since it had never started
            data = b""
        except Unreachable as error:
            job._silence.bear(error)
            reading.pause = KNOCK_EVERY
            return b""
        return reading.took(job, data)


class AsyncRemoteJob(_JobBase):
    """A job of an `AsyncClient`."""

    def __init__(self, client: "AsyncClient", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._silence = Silence(client.patience)
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
        reading = _Reading(attempt)
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
                reading.pause = KNOCK_EVERY
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
