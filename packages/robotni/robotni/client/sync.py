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

import time
import uuid
from typing import Any, Callable, Iterator, Optional

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

    def submit(self, request: Json, key: Optional[str] = None) -> "RemoteJob":
        """The stored job. With a `key`, sending it again gives the same job; without, it has one
        of its own, for the case that the answer gets lost."""
        call, silence = calls.submit(request, key or uuid.uuid4().hex), RetryBudget(self.patience)
        while True:
            try:
                return RemoteJob(self, self.call(call))
            except Unreachable as error:
                if not (silence or isinstance(error, AnswerLost)):
                    raise  # it was never sent
                silence.bear(error)
            time.sleep(RECONNECT_EVERY)

    def get(self, job_id: str) -> "RemoteJob":
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

    def cancel(self, job_id: str) -> "RemoteJob":
        return RemoteJob(self, self.call(calls.cancel(job_id)))

    def retry(self, job_id: str) -> "RemoteJob":
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


class RemoteJob(JobBase):
    """A job of a `Client`."""

    def __init__(self, client: "Client", answer: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._silence = RetryBudget(client.patience)
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
        self._reading = Reading(attempt)

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
            reading.pause = RECONNECT_EVERY
            return b""
        return reading.took(job, data)
