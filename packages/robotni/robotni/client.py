"""A client of the HTTP API: submit, then poll. The server's errors come back as classes.

client = Client("http://127.0.0.1:8000")
job = client.wait(client.submit({"script": "hello.py", "venv": ".venv"})["jobId"])
"""

import time
from typing import Any, Callable, Dict, Optional, Type

import httpx

from robotni.errors import (
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    QueueFull,
    RobotniError,
    StorageFull,
)
from robotni.job import TERMINAL

DEFAULT_URL = "http://127.0.0.1:8000"
_BY_CODE: Dict[str, Type[RobotniError]] = {
    error.code: error for error in (NotFound, Conflict, QueueFull, StorageFull)
}


class Unreachable(RobotniError):
    """Nobody answers at the URL."""

    code = "unreachable"


class Client:
    """Calls one server. Jobs are the API's JSON as dicts; durations are seconds."""

    def __init__(
        self, url: str = DEFAULT_URL, token: Optional[str] = None, timeout: float = 30
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=False
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, request: Dict[str, Any], key: Optional[str] = None) -> Dict[str, Any]:
        """The stored job. With a `key`, sending it again gives the same job."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._json("POST", "/api/worker/jobs", json=request, headers=headers)

    def get(self, job_id: str) -> Dict[str, Any]:
        return self._json("GET", f"/api/worker/jobs/{job_id}")

    def list(self, **filters: Any) -> Dict[str, Any]:
        return self._json("GET", "/api/worker/jobs", params=filters)

    def cancel(self, job_id: str) -> Dict[str, Any]:
        return self._json("DELETE", f"/api/worker/jobs/{job_id}")

    def retry(self, job_id: str) -> Dict[str, Any]:
        return self._json("POST", f"/api/worker/jobs/{job_id}/retry")

    def status(self) -> Dict[str, Any]:
        return self._json("GET", "/api/worker/status")

    def output(self, job_id: str, start: int = 0) -> bytes:
        """The output from byte `start` to what is there now."""
        headers = {"Range": f"bytes={start}-"}
        answer = self._call("GET", f"/api/worker/jobs/{job_id}/output", headers=headers)
        return b"" if answer.status_code == 416 else answer.content

    def wait(
        self,
        job_id: str,
        poll: float = 1.0,
        seen: Callable[[Dict[str, Any]], None] = lambda job: None,
    ) -> Dict[str, Any]:
        """Polls every `poll` seconds until the job has ended; `seen` gets every answer."""
        while True:
            job = self.get(job_id)
            seen(job)
            if job["status"] in TERMINAL:
                return job
            time.sleep(poll)

    def _json(self, method: str, path: str, **options: Any) -> Dict[str, Any]:
        value: Dict[str, Any] = self._call(method, path, **options).json()
        return value

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"no robotni answers at {self.url} ({error}); start one with: robotni serve"
            ) from None
        if answer.is_error and answer.status_code != 416:
            raise error_of(answer)
        return answer


def error_of(answer: httpx.Response) -> RobotniError:
    """The error a problem stands for; RobotniError itself when its code is not known here."""
    try:
        problem = answer.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        return RobotniError(f"the server answered {answer.status_code} without saying why")
    if code == InvalidRequest.code:
        errors = [FieldError(e["pointer"], e["detail"]) for e in problem.get("errors", ())]
        return InvalidRequest(errors, detail)
    error = _BY_CODE.get(code, RobotniError)(detail)
    error.code = code
    return error
