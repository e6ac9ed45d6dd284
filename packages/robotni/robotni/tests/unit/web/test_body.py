"""A body that does not arrive: how long it is waited for."""

import asyncio
from typing import Any

import pytest

from robotni.web import body
from robotni.web.body import Refusal, read_body

SCOPE = {"headers": [(b"content-length", b"3")]}


async def receive_nothing() -> Any:
    await asyncio.sleep(60)


async def receive_at_once() -> Any:
    return {"type": "http.request", "body": b"abc", "more_body": False}


def status(answer: Any) -> int:
    assert isinstance(answer, Refusal)
    return answer.status


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_TIMEOUT", 0.05)


def test_a_body_that_does_not_arrive_is_refused_and_the_task_goes_on() -> None:
    async def read_three_times() -> Any:
        first = status(await read_body(SCOPE, receive_nothing))
        await asyncio.sleep(0.1)  # nothing is left that could cancel this
        second = await read_body(SCOPE, receive_at_once)
        return first, second, status(await read_body(SCOPE, receive_nothing))

    assert asyncio.run(read_three_times()) == (408, b"abc", 408)


def test_a_task_that_is_cancelled_while_it_waits_for_a_body_is_cancelled() -> None:
    async def cancel_while_reading() -> None:
        task = asyncio.ensure_future(read_body(SCOPE, receive_nothing))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel_while_reading())
