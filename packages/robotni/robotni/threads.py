"""The threads that serve calls: few, since each more of them makes all slower, and those that write
apart from those that read.

A write waits for its turn at the file and for the disk; a read never does, so it must not wait for
a thread behind writes. Of threads that compute only one runs at a time, so more of them wait for
each other. With 32 connections the slowest answers take a fifth less by 2 readers than by 4, and a
third less than by the framework's 40. A second reader is there so that one slow search does not
hold up everybody. A second writer prepares while the first waits for the disk, and what both want
written is written together: it starts no-ops 4 % faster than 1, and a third one adds nothing. To go
to such a thread and back costs 70 us, by the framework's own way 100; what reads no file stays in
the event loop.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Awaitable, Callable

from anyio import to_thread

READERS = 2
WRITERS = 2


def limit_others() -> None:
    """In the event loop: what the framework runs in threads, it runs in READERS of them."""
    to_thread.current_default_thread_limiter().total_tokens = READERS


class Threads:
    """Decorates endpoints: they run in one of `count` threads, as they came."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    def __call__(self, endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(endpoint)
        async def in_turn(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, partial(endpoint, *args, **kwargs))

        return in_turn
