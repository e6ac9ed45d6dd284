"""A client that leaves takes along what was not begun for it."""

import asyncio
import threading
from typing import Any, Callable, Dict, List

import psutil
import pytest
from starlette.requests import Request
from starlette.responses import Response

from robotni.abandoned import while_wanted
from robotni.tests.calls import Wire, long_search
from robotni.tests.processes import STACKS, Server
from robotni.threads import Lane

SEARCHES = 60


def asked(*messages: Dict[str, Any]) -> Request:
    """A request of which the server tells these messages, and then nothing more."""
    left = list(messages)

    async def receive() -> Dict[str, Any]:
        if not left:
            await asyncio.sleep(3600)
        return left.pop(0)

    return Request({"type": "http", "headers": []}, receive)


EMPTY = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


def test_what_was_not_begun_for_a_client_that_leaves_is_not_begun() -> None:
    begun: List[Request] = []
    lane, free = Lane("test"), threading.Event()

    @while_wanted
    @lane
    def endpoint(request: Request) -> Response:
        begun.append(request)
        return Response(status_code=202)

    def wait() -> None:
        free.wait(20)

    async def calls() -> None:
        lane.submit(wait)
        stays, leaves = asked(EMPTY), asked(EMPTY, GONE)
        first = asyncio.ensure_future(endpoint(stays))
        assert (await endpoint(leaves)).status_code == 503
        free.set()
        assert (await first).status_code == 202
        await lane(lambda: None)()
        assert begun == [stays]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(calls())


def test_what_ends_before_the_client_does_is_its_answer() -> None:
    class Refused(Exception):
        pass

    @while_wanted
    async def endpoint(request: Request, ok: bool) -> Response:
        await asyncio.sleep(0.01)
        if not ok:
            raise Refused
        return Response(status_code=202)

    async def calls() -> None:
        assert (await endpoint(asked(EMPTY), ok=True)).status_code == 202
        with pytest.raises(Refused):
            await endpoint(asked(EMPTY), ok=False)

    asyncio.run(calls())


def test_a_server_that_cannot_tell_who_leaves_answers() -> None:
    @while_wanted
    async def endpoint(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response(status_code=202)

    async def receive() -> Dict[str, Any]:
        raise RuntimeError("no more to receive")

    async def call() -> Response:
        return await endpoint(Request({"type": "http", "headers": []}, receive))

    assert asyncio.run(call()).status_code == 202


@pytest.mark.parametrize("stack", STACKS)
def test_searches_of_clients_that_left_cost_nothing(
    make_server: Callable[..., Server], stack: str
) -> None:
    server = make_server(stack=stack, autostart=0)
    search = long_search(server)
    assert server.process is not None
    process = psutil.Process(server.process.pid)

    def cost(leave: bool) -> float:
        """Seconds of CPU until the last of many searches is answered."""
        before = process.cpu_times()
        wires = [Wire(server) for _ in range(SEARCHES)]
        for wire in wires:
            wire.send(search)
        if leave:
            for wire in wires[:-1]:
                wire.socket.close()
        assert wires[-1].answer().status_code == 200
        for wire in wires:
            wire.socket.close()
        after = process.cpu_times()
        return after.user + after.system - before.user - before.system

    assert 2 * cost(leave=True) < cost(leave=False)
    assert "Traceback" not in server.log()
