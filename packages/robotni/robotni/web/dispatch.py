"""The threads that serve calls: one that reads, one that searches, one that writes.

A write waits for its turn at the file and for the disk, and a search may take a second; a read does
neither, so it must not wait behind them. Of threads that compute only one runs at a time, and each
look at a file lets another one in, so more of them make all slower: with 32 connections the slowest
answers take a third longer by 2 readers than by one. What the writer is asked for while it waits
for the disk it then does together (`Together`). To go to a thread and back costs 70 us, by an
executor 100; what reads no file stays in the event loop.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from functools import partial, wraps
from queue import SimpleQueue
from typing import (
    Any,
    Awaitable,
    Callable,
    Deque,
    Generic,
    List,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from anyio import to_thread

from robotni import log

OTHERS = 2  # threads for what the framework runs in threads, such as long downloads
AT_ONCE = 64  # calls that are served together: some milliseconds

SubmitRequest = TypeVar("SubmitRequest")
Result = TypeVar("Result")
_Call = Tuple[Any, asyncio.AbstractEventLoop, Any]  # what is wanted, by whom, the future result


def limit_others() -> None:
    """In the event loop: what the framework runs in threads, it runs in OTHERS of them."""
    to_thread.current_default_thread_limiter().total_tokens = OTHERS


class Lane:
    """Decorates endpoints: they are called in a thread, one after another, as they came.

    A queue and a thread that waits at it, since an executor's bookkeeping costs as much as a read.
    It begins with the first call, anew in a process that was forked, and ends with this object.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = 0  # that has the thread
        self._works: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()

    def __call__(self, endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        @wraps(endpoint)
        async def in_turn(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Any] = loop.create_future()
            self.submit(partial(_answer, partial(endpoint, *args, **kwargs), loop, future))
            return await future

        return in_turn

    def submit(self, work: Callable[[], None]) -> None:
        """Has the thread do it, which must not raise; nobody is told when. RuntimeError when the
        thread cannot be started."""
        if self._process != os.getpid():
            self._start()
        self._works.put(work)

    def _start(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            works: SimpleQueue[Any] = SimpleQueue()
            threading.Thread(target=_serve, args=(works,), name=self._name, daemon=True).start()
            weakref.finalize(self, works.put, None)
            self._works, self._process = works, os.getpid()


def _serve(works: "SimpleQueue[Any]") -> None:
    while True:
        work = works.get()
        if work is None:
            return
        try:
            work()
        except BaseException:  # the thread must go on, whatever it was
            log.failed("call")
        del work  # what it holds is not kept until there is more


def _answer(call: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: Any) -> None:
    if future.cancelled():
        return
    try:
        result = call()
    except BaseException as error:
        result = error
    _hand_back(loop, [(future, result)])


def _hand_back(loop: asyncio.AbstractEventLoop, results: List[Tuple[Any, Any]]) -> None:
    try:
        loop.call_soon_threadsafe(_tell, results)
    except RuntimeError:  # closed meanwhile: nobody waits for an answer
        pass


class Together(Generic[SubmitRequest, Result]):
    """Calls that `work` serves several at a time: it is given what they want, and returns for each
    of them, in their order, its result or the exception that it shall raise.

    They gather while the thread is busy, and as long as the event loop has something to do, so
    that it needs not take turns with the thread."""

    def __init__(
        self,
        lane: Lane,
        work: Callable[[Sequence[SubmitRequest]], Sequence[Union[Result, Exception]]],
    ) -> None:
        self._lane = lane
        self._work = work
        self._waiting: Deque[_Call] = deque()
        self._called_by: Any = None  # the event loop that is about to call the thread
        self._process = os.getpid()

    async def __call__(self, wanted: SubmitRequest) -> Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if self._process != os.getpid():  # what waited at a fork is served where it came
            self._process, self._waiting, self._called_by = os.getpid(), deque(), None
        self._waiting.append((wanted, loop, future))
        if self._called_by is not loop:
            self._called_by = loop
            loop.call_soon(self._call)
        return await future

    def _call(self) -> None:
        try:
            self._lane.submit(self._serve)
        except RuntimeError as error:  # no thread can be started
            self._called_by = None
            some = self._gathered()
            self._hand_out(some, [error] * len(some))

    def _serve(self) -> None:
        self._called_by = None
        some = self._gathered()
        results: Sequence[Any]
        try:
            results = self._work([wanted for wanted, _, _ in some])
        except BaseException as error:
            results = [error] * len(some)
        self._hand_out(some, results)
        if self._waiting:  # after what other calls want of the thread
            self._lane.submit(self._serve)

    def _gathered(self) -> List[_Call]:
        return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]

    def _hand_out(self, some: List[_Call], results: Sequence[Any]) -> None:
        for loop in {loop for _, loop, _ in some}:
            _hand_back(loop, [(f, r) for (_, of, f), r in zip(some, results) if of is loop])


def _tell(results: List[Tuple[Any, Any]]) -> None:
    for future, result in results:
        if future.done():  # who asked has been cancelled
            continue
        if isinstance(result, StopIteration):  # which no future takes
            future.set_exception(RuntimeError(f"{result!r} came out of a call"))
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
