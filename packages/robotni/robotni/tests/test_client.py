"""The clients against a real server: what they return, raise, and how they poll."""

import asyncio
from typing import Any, Callable

import pytest

from robotni.client import AsyncClient, Client, error_of
from robotni.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    QueueFull,
    Refused,
    RobotniError,
    TokenRequired,
    Unreachable,
)
from robotni.tests.processes import Server, free_port

HELLO = {"script": "hello.py", "venv": ".venv"}


def test_submit_and_wait(server: Server) -> None:
    job = server.client.submit(HELLO).wait(poll=0.05)
    assert (job["status"], job["output"], job.is_terminal) == ("completed", "hello\n", True)
    assert job.output() == b"hello\n"
    assert job.output(2) == b"llo\n"
    assert job.output(99) == b""
    assert job.retry()["retryOf"] == job.id


def test_an_unchanged_job_costs_a_304(server: Server) -> None:
    job = server.client.submit(HELLO).wait(poll=0.05)
    assert job.refresh() in (True, False)  # the first asks without a tag of the final state
    assert job.refresh() is False
    assert job["status"] == "completed"


def test_polling_keeps_to_retry_after(server: Server) -> None:
    job = server.client.submit({**HELLO, "delay": 3600})
    assert job._retry_after == 5.0
    with pytest.raises(TimeoutError, match="still scheduled"):
        job.wait(timeout=0.2)
    assert job.cancel()["status"] == "cancelled"


def test_pages_are_walked_to_the_end(server: Server) -> None:
    ids = [server.client.submit(HELLO).id for _ in range(5)]
    assert [job["jobId"] for job in server.client.jobs(limit=2)] == ids[::-1]


def test_errors_come_back_as_classes(make_server: Callable[..., Server]) -> None:
    server = make_server(max_pending=1)
    client = server.client
    with pytest.raises(InvalidRequest) as invalid:
        client.submit({"script": "nowhere.py", "venv": ".venv"})
    assert invalid.value.errors[0].pointer == "/script"
    with pytest.raises(NotFound):
        client.get("0" * 32)
    job = client.submit(HELLO).wait(poll=0.05)
    with pytest.raises(Conflict):
        job.cancel()
    client.submit({**HELLO, "delay": 60})
    with pytest.raises(QueueFull):
        client.submit(HELLO)
    client._http.headers["Host"] = "evil.example"
    with pytest.raises(Refused, match="ROBOTNI_ALLOWED_HOSTS"):
        client.status()


def test_a_token_is_sent_and_missed(make_server: Callable[..., Server]) -> None:
    server = make_server(token="a-long-secret")
    assert server.client.status()["status"] == "ok"
    with Client(server.url, "wrong") as client, pytest.raises(TokenRequired, match="Bearer"):
        client.status()


def test_nobody_there_is_a_sentence() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}")
    with client, pytest.raises(Unreachable, match="start one with: robotni serve"):
        client.status()


def test_an_answer_of_somebody_else_is_a_sentence(server: Server) -> None:
    answer = server.http.get("/webdemo")
    answer.status_code = 502
    assert type(error_of(answer)) is RobotniError
    assert "check the URL" in str(error_of(answer))


def test_the_async_client_does_the_same(server: Server) -> None:
    async def talk() -> Any:
        async with AsyncClient(server.url) as client:
            jobs = await asyncio.gather(*(client.submit(HELLO) for _ in range(3)))
            done = await asyncio.gather(*(job.wait(poll=0.05) for job in jobs))
            assert [job["output"] for job in done] == ["hello\n"] * 3
            assert await done[0].output(1) == b"ello\n"
            assert (await done[0].retry())["retryOf"] == done[0].id
            listed = [job["jobId"] async for job in client.jobs(limit=2)]
            assert len(listed) == 4
            waiting = await client.submit({**HELLO, "delay": 60})
            with pytest.raises(TimeoutError):
                await waiting.wait(timeout=0.1)
            assert (await waiting.cancel())["status"] == "cancelled"
            with pytest.raises(NotFound):
                await client.get("0" * 32)
            return await client.status()

    assert asyncio.run(talk())["jobs"]["cancelled"] == 1
