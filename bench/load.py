"""The load generator, a process of its own: many keep-alive connections at once.

On stdin `{"port", "connections", "seconds", "pause", "requests": [[name, text], …]}`. Each
connection sends its next request when the answer to the last is in, and after `pause` seconds; the
requests are taken in turn, each connection beginning elsewhere. On stdout, once time is up,
`{"milliseconds": {name: […]}, "statuses": {status: count}}`.

Bare protocols, no streams, no client library: with two cores it takes its share from the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from wire import content_length


class Connection(asyncio.Protocol):
    def __init__(self, order: dict[str, Any], offset: int, until: float, out: Any) -> None:
        self._requests = [(name, text.encode()) for name, text in order["requests"]]
        self._next = offset
        self._pause = order["pause"]
        self._until = until
        self._milliseconds, self._statuses = out
        self._data = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        delay = self._pause * (self._next % 32) / 32  # not all at once
        asyncio.get_running_loop().call_later(delay, self._send)

    def _send(self) -> None:
        if time.monotonic() > self._until:
            self._transport.close()
            return
        self._name, data = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._began = time.monotonic()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or len(self._data) < end + 4 + content_length(self._data[:end]):
            return
        self._milliseconds[self._name].append(1000 * (time.monotonic() - self._began))
        self._statuses[self._data[9:12].decode()] += 1
        self._data = b""
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def main() -> None:
    order = json.load(sys.stdin)
    loop = asyncio.get_running_loop()
    out: Any = (defaultdict(list), Counter())
    until = time.monotonic() + order["seconds"]
    count = order["connections"]
    step = max(1, len(order["requests"]) // count)
    found = [
        await loop.create_connection(
            lambda i=i: Connection(order, i * step, until, out), "127.0.0.1", order["port"]
        )
        for i in range(count)
    ]
    await asyncio.gather(*(connection.done for _, connection in found))
    print(json.dumps({"milliseconds": out[0], "statuses": out[1]}))


if __name__ == "__main__":
    asyncio.run(main())
