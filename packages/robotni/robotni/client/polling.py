"""A job as a client has it: the API's JSON as a dict that can also wait, follow, cancel and retry.

Polling keeps to the server's `Retry-After` and sends the ETag. A server that restarts is waited
for: while nobody answers, `wait` and `follow` go on for the client's `patience`. Sync and async.
"""

import time
from typing import Optional, Tuple

import httpx

from robotni.client import transport as calls
from robotni.client.transport import Json
from robotni.errors import Unreachable
from robotni.jobs.states import TERMINAL

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE = 60.0
DEFAULT_POLL = 5.0
RECONNECT_EVERY = 1.0  # seconds between two tries while nobody answers
QUICK, SLOW = 0.2, 1.0  # seconds between two looks at growing output


class RetryBudget:
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


class JobBase(Json):
    """What both kinds of job know without asking."""

    _etag: Optional[str] = None
    _retry_after: float = DEFAULT_POLL
    _silence: RetryBudget

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
        return min(left, pause, RECONNECT_EVERY if self._silence else pause)


class Reading:
    """Where a follower is in the output of a job's attempts, and when it looks again."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.start = 0
        self.pause = 0.0
        self.is_over = False

    def where(self, job: JobBase) -> Optional[Tuple[int, int]]:
        """(first byte, attempt) to ask for; None while that has not started."""
        return (self.start, self.attempt) if job["attempt"] >= self.attempt else None

    def took(self, job: JobBase, data: bytes) -> bytes:
        self.start += len(data)
        self.pause = QUICK if data else min(SLOW, max(QUICK, self.pause * 1.2))
        if self.attempt < job["attempt"]:
            self.attempt, self.start, self.pause = self.attempt + 1, 0, 0.0
        else:
            self.is_over = job.is_terminal
        return data
