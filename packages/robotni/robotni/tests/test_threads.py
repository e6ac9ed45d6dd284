"""Calls that write wait apart from those that read."""

import asyncio
import json
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict, Optional

import pytest

from robotni.datadir import release_lock, take_lock
from robotni.tests.calls import HELLO, Wire, stored
from robotni.tests.processes import Server
from robotni.threads import READERS, WRITERS, Threads


def test_of_many_calls_so_many_run_at_once_and_all_are_answered() -> None:
    inside, most = [], []
    threads = Threads(2, "test")

    @threads
    def endpoint(number: int) -> int:
        inside.append(number)
        time.sleep(0.01)
        most.append(len(inside))
        inside.remove(number)
        return number

    async def all_of_them() -> Any:
        return await asyncio.gather(*map(endpoint, range(20)))

    assert asyncio.run(all_of_them()) == list(range(20))
    assert max(most) == 2


JOBS = "/api/worker/jobs"
LATER = {**HELLO, "delay": 3600}
TOGETHER = 2 * max(READERS, WRITERS)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", JOBS, LATER, 202),
        ("POST", f"{JOBS}/{{ended}}/retry", None, 202),
        ("DELETE", f"{JOBS}/{{waiting}}", None, 200),
        ("DELETE", "/queue/{waiting}", None, 200),
        ("POST", "/add/", {"x": 1, "y": 2}, 202),
        ("POST", "/fakejob/", None, 202),
        ("POST", "/queue/flush/", None, 200),
    ],
)
def test_while_all_writers_wait_for_their_turn_reads_are_answered(
    make_server: Callable[..., Server],
    method: str,
    path: str,
    body: Optional[Dict[str, Any]],
    status: int,
) -> None:
    server = make_server(autostart=0)
    ended, *waiting = (server.client.submit(LATER)["jobId"] for _ in range(1 + TOGETHER))
    server.client.cancel(ended)

    content = b"" if body is None else json.dumps(body).encode()
    turn = take_lock(server.data / "write.lock", wait=True)
    with ExitStack() as wires:
        writes = [wires.enter_context(Wire(server)) for _ in waiting]
        try:
            for wire, job_id in zip(writes, waiting):
                url = path.format(ended=ended, waiting=job_id)
                head = (
                    f"{method} {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
                )
                wire.send(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content)
            time.sleep(0.2)  # they are in the server, each as far as it comes
            for _ in range(5):
                assert server.http.get("/api/worker/status", timeout=5).status_code == 200
            assert stored(server) == 1 + TOGETHER
        finally:
            release_lock(turn)
        assert {wire.answer().status_code for wire in writes} == {status}
