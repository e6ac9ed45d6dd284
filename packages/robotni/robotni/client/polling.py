"""What jobs of both clients share: their fields, when to poll next, and when to stop repeating.

It keeps to the server's `Retry-After` and sends the ETag, so polling an unchanged job costs a 304.
It sends nothing and does not sleep, so that `sync` and `aio` use it alike.
"""

import time
from typing import Any, Optional, Tuple

import httpx

from robotni.client import transport
from robotni.client.transport import Json, OutputPart
from robotni.errors import AnswerLost, Unreachable
from robotni.jobs.output import left_out
from robotni.jobs.states import TERMINAL

DEFAULT_POLL = 5.0
RETRY_INTERVAL = 1.0  # seconds between two tries while the server does not answer
# Seconds between two requests for growing output: after some has come, and at most.
MIN_FOLLOW_INTERVAL, MAX_FOLLOW_INTERVAL = 0.2, 1.0


class RetryBudget:
    """For how long calls may fail in a row before their error is raised: `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._failing_since: Optional[float] = None

    @property
    def is_failing(self) -> bool:
        return self._failing_since is not None

    def spend(self, error: Unreachable) -> None:
        """Counts a failed call; raises `error` when the budget is used up."""
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since >= self._timeout:
            raise error

    def spend_on_submit(self, error: Unreachable) -> None:
        """The same for a submit. One that never reached a server is not repeated."""
        if not (self.is_failing or isinstance(error, AnswerLost)):
            raise error
        self.spend(error)

    def reset(self) -> None:
        self._failing_since = None


class JobBase(Json):
    """A job as the API's JSON, with what both clients need in order to poll it."""

    def __init__(self, client: Any, response: httpx.Response) -> None:
        super().__init__()
        self._client = client
        self._budget = RetryBudget(client.retry_timeout)
        self._load(response)

    @property
    def id(self) -> str:
        return str(self["jobId"])

    @property
    def is_terminal(self) -> bool:
        return self["status"] in TERMINAL

    def _load(self, response: httpx.Response) -> bool:
        """Takes over the job in a response; whether it has changed."""
        self._budget.reset()
        self._retry_after = float(response.headers.get("Retry-After", DEFAULT_POLL))
        if response.status_code == 304:
            return False
        body = transport.json_from(response)
        is_get = response.request.method == "GET"  # an ETag stands for the body of a GET
        self._etag = response.headers.get("ETag") if is_get else None
        self.clear()
        self.update(body)
        return True

    def _pause(self, poll: Optional[float], deadline: float) -> float:
        """Seconds until the next poll; TimeoutError after the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"job {self.id} is still {self['status']}; it goes on")
        pause = self._retry_after if poll is None else poll
        return min(left, pause, RETRY_INTERVAL if self._budget.is_failing else pause)


class OutputCursor:
    """Where a follower is in the output of a job's attempts, and how long it pauses."""

    def __init__(self, job: JobBase, attempt: int) -> None:
        job._budget.reset()
        self._job = job
        self._attempt = attempt
        self._start = 0
        self.pause = 0.0
        self.is_at_end = False

    def position(self) -> Optional[Tuple[int, int]]:
        """(first byte, attempt) to read next; None while that attempt has not started."""
        has_started = self._job["attempt"] >= self._attempt
        return (self._start, self._attempt) if has_started else None

    def advance(self, part: Optional[OutputPart]) -> bytes:
        """Moves behind `part`, to the next attempt or to the end. Returns its data, after a line
        for what was left out before it."""
        data = b"" if part is None else self._take(part)
        slower = min(MAX_FOLLOW_INTERVAL, max(MIN_FOLLOW_INTERVAL, self.pause * 1.2))
        self.pause = MIN_FOLLOW_INTERVAL if data else slower
        if part is not None and self._start < part.size:
            self.pause = 0.0  # there is more already
        elif self._attempt < self._job["attempt"]:
            self._attempt, self._start, self.pause = self._attempt + 1, 0, 0.0
        elif self._job.is_terminal:
            self.is_at_end = True
            missing = 0 if part is None else self._job["outputBytes"] - self._start
            return data + (left_out(missing) if missing > 0 else b"")
        return data

    def _take(self, part: OutputPart) -> bytes:
        if not part.data:
            return b""
        missing, self._start = part.start - self._start, part.start + len(part.data)
        return (left_out(missing) if missing > 0 else b"") + part.data

    def fail(self, error: Unreachable) -> bytes:
        """Stays where it is; raises `error` when the retry budget is used up. No new bytes."""
        self._job._budget.spend(error)
        self.pause = RETRY_INTERVAL
        return b""
