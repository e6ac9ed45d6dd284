"""A web process that has no file descriptors left says so; it does not answer something wrong."""

import os
import resource
import sys
import time
from typing import Any, Dict, Iterator, Tuple

import pytest

from robotni.errors import MachineFault
from robotni.tests.calls import HELLO, problem
from robotni.tests.processes import Server

JOBS = "/api/worker/jobs"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit is a call of Linux")


@pytest.fixture
def done(server: Server) -> Tuple[Server, str]:
    """A server with a job that has ended, and a connection that stays open."""
    job_id = server.submit("print('hello')")
    server.wait_for(job_id)
    assert server.http.get(f"{JOBS}/{job_id}").json()["output"] == "hello\n"
    return server, job_id


def set_limit(server: Server, soft: int) -> None:
    assert server.process is not None
    pid, kind = server.process.pid, resource.RLIMIT_NOFILE
    resource.prlimit(pid, kind, (soft, resource.prlimit(pid, kind)[1]))


@pytest.fixture
def exhausted(done: Tuple[Server, str]) -> Iterator[Tuple[Server, str]]:
    """The same; the server can open nothing more."""
    server, _ = done
    assert server.process is not None
    looks = []
    for _ in range(10):  # others are open for a moment only
        looks.append({int(fd) for fd in os.listdir(f"/proc/{server.process.pid}/fd")})
        time.sleep(0.02)
    numbers = set.intersection(*looks)
    set_limit(server, next(n for n in range(10_000) if n not in numbers))
    yield done
    set_limit(server, 1024)


def fault(answer: Any) -> Dict[str, Any]:
    body = problem(answer, 503, "machine_fault")
    assert "Too many open files" in body["detail"] or "unable to open" in body["detail"]
    assert "open files" in body["detail"] and body["detail"].endswith("and try again")
    assert answer.headers["retry-after"] == "5"
    return body


def test_without_descriptors_it_is_not_ready_and_stores_nothing(
    exhausted: Tuple[Server, str],
) -> None:
    server, _ = exhausted
    fault(server.http.get("/readyz"))
    fault(server.http.post("/add/", json={"x": 1, "y": 2}))
    fault(server.http.get("/docs"))
    assert server.http.get("/livez").status_code == 200
    assert server.http.get("/nowhere").status_code == 404
    assert server.http.get(f"{JOBS}?state=failed").status_code == 422
    set_limit(server, 1024)
    assert server.http.get("/readyz").status_code == 200
    assert sum(server.http.get("/api/worker/status").json()["jobs"].values()) == 1


def test_the_client_raises_it_as_a_fault_of_the_machine(exhausted: Tuple[Server, str]) -> None:
    server, _ = exhausted
    own = server.client._http
    server.client._http = server.http  # whose connection is open
    with pytest.raises(MachineFault, match="Too many open files"):
        server.client.submit({"type": "add", "params": {"x": 1, "y": 2}})
    own.close()  # only now, since the server has a descriptor for it


def test_without_descriptors_no_output_is_called_empty_and_no_venv_missing(
    exhausted: Tuple[Server, str],
) -> None:
    server, job_id = exhausted
    fault(server.http.get(f"{JOBS}/{job_id}"))
    fault(server.http.get(f"{JOBS}/{job_id}/output"))
    fault(server.http.get(f"{JOBS}/{job_id}/output", headers={"Range": "bytes=0-"}))
    fault(server.http.post(JOBS, json=HELLO))
