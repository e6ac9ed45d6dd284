"""The threads that serve calls: few, since each more of them makes all slower, and those that write
apart from those that read.

A write waits for its turn at the file and for the disk; a read never does, so it must not wait for
a thread behind writes. Of threads that compute only one runs at a time, so more of them wait for
each other, and a call of a hundred us takes twice as long: each look at a file lets another one in.
With 32 connections the slowest answers take a fifth less by 2 readers than by 4, and a third less
than by the framework's 40. A second reader is there so that one slow search does not hold up
everybody. There is one writer; what comes while it waits for the disk it then does together
(`Together`). To go to such a thread and back costs 70 us, by the framework's own way 100; what
reads no file stays in the event loop.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Awaitable, Callable, Deque, Generic, List, Sequence, Tuple, TypeVar, Union

from anyio import to_thread

READERS = 2
WRITERS = 1
AT_ONCE = 64  # calls that are served together: some milliseconds

Wanted = TypeVar("Wanted")
Result = TypeVar("Result")
_Call = Tuple[Any, asyncio.AbstractEventLoop, Any]  # what is wanted, by whom, the future result


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

    def submit(self, work: Callable[[], Any]) -> None:
        """Has one of the threads do it; nobody is told when, or what came of it."""
        self._pool.submit(work)


class Together(Generic[Wanted, Result]):
    """Calls that `work` serves several at a time: it is given what they want, and returns for each
    of them, in their order, its result or the exception that it shall raise.

    They gather while the thread is busy, and as long as the event loop has something to do, so
    that it needs not take turns with the thread."""

    def __init__(
        self,
        threads: Threads,
        work: Callable[[Sequence[Wanted]], Sequence[Union[Result, Exception]]],
    ) -> None:
        self._threads = threads
        self._work = work
        self._waiting: Deque[_Call] = deque()
        self._called_by: Any = None  # the event loop that is about to call the thread

    async def __call__(self, wanted: Wanted) -> Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((wanted, loop, future))
        if self._called_by is not loop:
            self._called_by = loop
            loop.call_soon(self._call)
        return await future

    def _call(self) -> None:
        try:
            self._threads.submit(self._serve)
        except RuntimeError as error:  # no thread can be started
            self._called_by = None
            some = self._gathered()
            self._hand_out(some, [error] * len(some))

    def _serve(self) -> None:
        self._called_by = None
        some = self._gathered()
        try:
            results = self._work([wanted for wanted, _, _ in some])
        except Exception as error:
            results = [error] * len(some)
        self._hand_out(some, results)
        if self._waiting:  # after what other calls want of the thread
            self._threads.submit(self._serve)

    def _gathered(self) -> List[_Call]:
        return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]

    def _hand_out(self, some: List[_Call], results: Sequence[Any]) -> None:
        for loop in {loop for _, loop, _ in some}:
            theirs = [(future, r) for (_, of, future), r in zip(some, results) if of is loop]
            try:
                loop.call_soon_threadsafe(_tell, theirs)
            except RuntimeError:  # closed meanwhile: nobody waits for an answer
                pass


def _tell(results: List[Tuple[Any, Any]]) -> None:
    for future, result in results:
        if future.done():  # who asked has been cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
