"""A body that does not arrive: for how long it is waited for, and what is left of that."""

import asyncio
import sys
import time
from typing import Any

import pytest

from robotni.web import body
from robotni.web.body import Refusal, read_body

SCOPE = {"headers": [(b"content-length", b"3")]}
FOREVER = 60.0


async def never() -> Any:
    await asyncio.sleep(FOREVER)


async def at_once() -> Any:
    return {"type": "http.request", "body": b"abc", "more_body": False}


def status(found: Any) -> int:
    assert isinstance(found, Refusal)
    return found.status


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_WITHIN", 0.05)


def test_a_task_that_has_given_up_goes_on_as_any_other() -> None:
    async def twice() -> Any:
        first = status(await read_body(SCOPE, never))
        await asyncio.sleep(0.1)  # nothing of it is left that could end this
        return first, await read_body(SCOPE, at_once), status(await read_body(SCOPE, never))

    assert asyncio.run(twice()) == (408, b"abc", 408)


def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(read_body(SCOPE, never))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task counts its cancels from 3.11 on")
def test_a_patience_around_it_ends_as_its_own() -> None:
    async def bounded() -> None:
        async with asyncio.timeout(0.2):
            assert status(await read_body(SCOPE, never)) == 408
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        asyncio.run(bounded())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task counts its cancels from 3.11 on")
def test_a_cancel_at_the_moment_of_giving_up_is_heeded() -> None:
    async def at_once_with_it() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(read_body(SCOPE, never))
        loop.call_later(0.02, time.sleep, 0.1)  # so that both are due in one turn of the loop
        loop.call_later(0.07, task.cancel)
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(at_once_with_it())
