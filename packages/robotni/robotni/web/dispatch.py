"""Which thread serves which call: reads, searches and writes have one thread each.

A write waits for its turn at the database file and for the disk, and a search may take a second; a
read must wait for neither. More threads for one kind make it slower, not faster: they compute in
turns. Each thread has its own connection to the database, so there are few of both.

Submits that arrive while the writer is busy are stored together, in one transaction.
"""

import asyncio
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Awaitable, Callable, Deque, List, Sequence, Tuple

from robotni.engine.engine import Engine
from robotni.engine.submit import SubmitRequest, SubmitResult, Submitted
from robotni.errors import MachineFault

MAX_BATCH = 64  # submits in one transaction: some milliseconds

_Waiting = Tuple[SubmitRequest, "Future[Submitted]"]
Endpoint = Callable[..., Any]
AsyncEndpoint = Callable[..., Awaitable[Any]]


class Threads:
    """The threads of one application. They start with the first call of their kind."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = ThreadPoolExecutor(1, "reader")
        self._searcher = ThreadPoolExecutor(1, "searcher")
        self._writer = ThreadPoolExecutor(1, "writer")
        self._batcher = Batcher(self._writer, engine.submit_all)

    def read(self, endpoint: Endpoint) -> AsyncEndpoint:
        """Decorates an endpoint that reads a bounded number of rows or bytes."""
        return _run_in(self._reader, endpoint)

    def search(self, endpoint: Endpoint) -> AsyncEndpoint:
        """Decorates an endpoint that may look through many rows."""
        return _run_in(self._searcher, endpoint)

    def write(self, endpoint: Endpoint) -> AsyncEndpoint:
        """Decorates an endpoint that changes the database, other than by a submit."""
        return _run_in(self._writer, endpoint)

    async def submit(self, request: SubmitRequest) -> Submitted:
        """Stores a job, together with other submits that wait."""
        return await self._batcher.submit(request)

    async def close(self) -> None:
        """Closes the database connections of the threads; the next call opens them again."""
        loop = asyncio.get_running_loop()
        for executor in (self._reader, self._searcher, self._writer):
            await loop.run_in_executor(executor, self._engine.close)


class Batcher:
    """Gathers submits. `submit_all` stores some, and returns for each, in their order, what came
    of it. `writer` must have one thread."""

    def __init__(
        self,
        writer: Executor,
        submit_all: Callable[[Sequence[SubmitRequest]], Sequence[SubmitResult]],
    ) -> None:
        self._writer = writer
        self._submit_all = submit_all
        self._waiting: Deque[_Waiting] = deque()
        self._is_scheduled = False  # whether a batch, with all that wait now, is still to be taken

    async def submit(self, request: SubmitRequest) -> Submitted:
        future: Future[Submitted] = Future()
        self._waiting.append((request, future))
        try:
            self._schedule()
        except RuntimeError as error:  # no thread can be started: it must not be stored later
            self._is_scheduled = False
            future.cancel()
            raise _no_thread(error) from error
        return await asyncio.wrap_future(future)

    def _schedule(self) -> None:
        """One batch at a time waits for the writer, so that other writes get their turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._writer.submit(self._store_batch)

    def _store_batch(self) -> None:
        self._is_scheduled = False
        batch = self._take_batch()
        if self._waiting:
            self._schedule()
        if not batch:
            return
        try:
            results = self._submit_all([request for request, _ in batch])
        except Exception as error:  # whatever it is, each caller must get an answer
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _take_batch(self) -> "List[_Waiting]":
        """The submits that waited longest, without those whose caller was cancelled."""
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        return [waiting for waiting in batch if waiting[1].set_running_or_notify_cancel()]


def _run_in(executor: Executor, endpoint: Endpoint) -> AsyncEndpoint:
    @wraps(endpoint)
    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(executor, partial(endpoint, *args, **kwargs))
        except RuntimeError as error:
            raise _no_thread(error) from error
        return await future

    return in_thread


def _no_thread(error: RuntimeError) -> MachineFault:
    return MachineFault(
        f"the machine cannot start a thread ({error}); raise the limit of processes, or end some, "
        "and try again"
    )
