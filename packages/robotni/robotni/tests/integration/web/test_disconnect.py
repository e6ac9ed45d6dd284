"""A client that leaves takes along what was not begun for it."""

from typing import Any, Callable, Dict

import psutil
import pytest
from starlette.requests import Request
from starlette.responses import Response

from robotni.tests.calls import Wire, long_search
from robotni.tests.processes import STACKS, Server
from robotni.web.disconnect import keep_exchange, while_wanted

SEARCHES = 60


def test_only_who_has_left_for_sure_is_not_served() -> None:
    class Exchange:
        def __init__(self, disconnected: Any) -> None:
            self.disconnected = disconnected

        async def receive(self) -> Any:
            raise AssertionError("nobody may be asked for a message")

    async def receive() -> Any:
        raise AssertionError("nobody may be asked for a message")

    @while_wanted
    def endpoint(request: Request) -> Response:
        return Response(status_code=202)

    def status(receive: Any) -> int:
        scope: Dict[str, Any] = {"type": "http", "headers": []}
        keep_exchange(scope, receive)
        return endpoint(Request(scope)).status_code

    assert status(Exchange(True).receive) == 499
    for stays in (Exchange(False).receive, Exchange(lambda: True).receive, receive):
        assert status(stays) == 202


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
    assert 'status="5xx"' not in server.http.get("/metrics").text
    assert "Traceback" not in server.log()
