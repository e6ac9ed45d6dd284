"""The blocking client of the HTTP API: submit a job, then poll it.

    with Client() as client:
        job = client.submit({"script": "hello.py", "venv": ".venv"}).wait()
        print(job["status"], job["output"])

A job is the API's JSON as a dict that can also wait, follow, cancel and retry. Errors of the server
are raised as classes of `robotni.errors`. `wait`, `follow` and a `submit` whose answer got lost
repeat their calls for `retry_timeout` seconds, so a restart of the server does not end them; a
repeated submit carries the same idempotency key, so its job is stored once. Any call that only
reads is repeated once when its connection was closed, as servers do with idle ones. Every other
call raises Unreachable at once when no server answers. Durations are seconds.
"""

import time
from typing import Any, Callable, Iterator, Optional

import httpx

from robotni.client import transport
from robotni.client.polling import RETRY_INTERVAL, JobBase, OutputCursor, RetryBudget
from robotni.client.transport import Call, ClientBase, Json, OutputPart
from robotni.errors import NotFound, Unreachable


class Client(ClientBase):
    """Calls one server. Every method raises the RobotniError that an error answer stands for."""

    _http_class = httpx.Client
    _http: httpx.Client

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(self, call: Call) -> httpx.Response:
        """Sends one call; a GET twice, where the connection was closed before its answer."""
        try:
            try:
                response = self._http.request(call.method, call.path, **call.options)
            except transport.CLOSED:
                if call.method != "GET":
                    raise
                response = self._http.request(call.method, call.path, **call.options)
        except httpx.HTTPError as error:
            raise transport.no_response(self.url, error) from None
        return transport.raise_for_error(response)

    def submit(self, request: Json, key: Optional[str] = None) -> "RemoteJob":
        """Returns the stored job. A second submit with the same idempotency `key` returns the job
        of the first one."""
        call, budget = transport.submit(request, key), RetryBudget(self.retry_timeout)
        while True:
            try:
                return RemoteJob(self, self.call(call))
            except Unreachable as error:
                budget.spend_on_submit(error)
            time.sleep(RETRY_INTERVAL)

    def get(self, job_id: str) -> "RemoteJob":
        return RemoteJob(self, self.call(transport.get(job_id)))

    def list(self, **filters: Any) -> Json:
        """One page: `{"jobs": […], "nextCursor": …}`; filters as in the API."""
        return transport.json_from(self.call(transport.list_(filters)))

    def jobs(self, **filters: Any) -> Iterator[Json]:
        """All jobs, newest first; asks for one page after the other."""
        cursor: Optional[str] = None
        while True:
            page = self.list(cursor=cursor, **filters)
            yield from page["jobs"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def cancel(self, job_id: str) -> "RemoteJob":
        return RemoteJob(self, self.call(transport.cancel(job_id)))

    def retry(self, job_id: str) -> "RemoteJob":
        """Submits an ended job again; returns the new job."""
        return RemoteJob(self, self.call(transport.retry(job_id)))

    def output(self, job_id: str, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """The output, as far as it is written; by default of the last attempt. Past the server's
        MAX_OUTPUT the beginning and the end are kept, and a line stands for the rest. With `start`
        it begins at that byte, or behind what was left out there, and ends where more was."""
        return transport.output_from(self.call(transport.output(job_id, start, attempt)))

    def status(self) -> Json:
        return transport.json_from(self.call(transport.STATUS))

    def types(self) -> Json:
        return transport.json_from(self.call(transport.TYPES))


class RemoteJob(JobBase):
    """A job of a `Client`."""

    _client: Client

    def refresh(self) -> bool:
        """Polls once; whether the job has changed."""
        return self._load(self._client.call(transport.get(self.id, self._etag)))

    def wait(
        self,
        timeout: float = float("inf"),
        poll: Optional[float] = None,
        on_change: Callable[["RemoteJob"], None] = lambda job: None,
    ) -> "RemoteJob":
        """Polls until the job has ended, and calls `on_change` at the start and after each change.
        Raises TimeoutError after `timeout`. `poll` is the interval, by default Retry-After."""
        deadline = time.monotonic() + timeout
        self._budget.reset()
        on_change(self)
        while not self.is_terminal:
            time.sleep(self._pause(poll, deadline))
            try:
                if self.refresh():
                    on_change(self)
            except Unreachable as error:
                self._budget.spend(error)
        return self

    def follow(self, attempt: int = 1) -> "Follower":
        """Iterates over the output while it is written, from `attempt` on, until the job ends."""
        return Follower(self, attempt)

    def cancel(self) -> "RemoteJob":
        self._load(self._client.call(transport.cancel(self.id)))
        return self

    def retry(self) -> "RemoteJob":
        """Submits the ended job again; returns the new job, this one stays as it is."""
        return self._client.retry(self.id)

    def output(self, start: int = 0, attempt: Optional[int] = None) -> bytes:
        """As `Client.output`."""
        return self._client.output(self.id, start, attempt)

    def _output_part(self, start: int, attempt: int) -> OutputPart:
        return transport.part_from(
            self._client.call(transport.output_part(self.id, start, attempt))
        )


class Follower(Iterator[bytes]):
    """The output of a job, read every 0.2 to 1 s; `b""` when there was nothing new.

    Each step also refreshes the job. An iteration that was interrupted can be continued.
    """

    def __init__(self, job: RemoteJob, attempt: int) -> None:
        self._job = job
        self._cursor = OutputCursor(job, attempt)

    def __next__(self) -> bytes:
        cursor = self._cursor
        if cursor.is_at_end:
            raise StopIteration
        part = None
        try:
            if cursor.pause:
                time.sleep(cursor.pause)
                self._job.refresh()
            position = cursor.position()
            if position is not None:
                part = self._job._output_part(*position)
        except NotFound:  # the attempt never started, and its number was given back
            pass
        except Unreachable as error:
            return cursor.fail(error)
        return cursor.advance(part)
