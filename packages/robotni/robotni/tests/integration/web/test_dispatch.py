"""Which thread serves which call, and how submits are gathered into one transaction."""

import asyncio
import json
import select
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Coroutine, Dict, Iterable, Iterator, List, Optional, Sequence

import pytest

from robotni.engine.submit import SubmitRequest
from robotni.errors import MachineFault
from robotni.system.locks import release_lock, take_lock
from robotni.tests.calls import HELLO, Wire, long_search, stored
from robotni.tests.conftest import House
from robotni.tests.processes import Server
from robotni.web.dispatch import MAX_BATCH, Batcher, Threads


def finished(call: Coroutine[Any, Any, Any]) -> Any:
    """Its result, within a time in which nothing that works is late."""
    return asyncio.run(asyncio.wait_for(call, 10))


# Endpoints in threads


@pytest.mark.parametrize("kind", ["read", "search", "write"])
def test_calls_of_a_kind_run_one_at_a_time_and_each_has_its_own_result(
    house: House, kind: str
) -> None:
    running, concurrent = [], []

    @getattr(Threads(house.engine), kind)  # type: ignore[misc]
    def endpoint(number: int, *, fails: bool = False) -> int:
        running.append(number)
        time.sleep(0.002)
        concurrent.append(len(running))
        running.remove(number)
        if fails:
            raise KeyError(number)
        return number

    async def call_20_times() -> Any:
        calls = (endpoint(number, fails=number == 7) for number in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = finished(call_20_times())
    assert repr(answers.pop(7)) == "KeyError(7)"
    assert answers == [*range(7), *range(8, 20)]
    assert max(concurrent) == 1


def test_a_read_waits_neither_for_a_search_nor_for_a_write(house: House) -> None:
    threads, go_on = Threads(house.engine), threading.Event()
    read = threads.read(lambda: "read")
    search, write = threads.search(go_on.wait), threads.write(go_on.wait)

    async def read_while_the_others_are_busy() -> Any:
        others = [asyncio.ensure_future(call(10)) for call in (search, write)]
        await asyncio.sleep(0.01)
        answer = await read()
        assert not any(other.done() for other in others)
        go_on.set()
        await asyncio.gather(*others)
        return answer

    assert finished(read_while_the_others_are_busy()) == "read"


def test_the_threads_close_their_connections_and_can_be_used_again(house: House) -> None:
    async def read_close_and_read() -> Any:
        threads = Threads(house.engine)
        read = threads.read(house.engine.counts)
        before = await read()
        await threads.close()
        return before == await read()

    assert finished(read_close_and_read())


# The batcher


class Storage:
    """Stands for the engine: `batches` has the names it was asked to store. `b` is refused, `x`
    fails its whole batch."""

    def __init__(self) -> None:
        self.batches: List[List[str]] = []
        self.writer = ThreadPoolExecutor(1)
        self.batcher = Batcher(self.writer, self.submit_all)

    def submit_all(self, requests: Sequence[SubmitRequest]) -> List[Any]:
        names = [str(request.key) for request in requests]
        self.batches.append(names)
        if "x" in names:
            raise OSError("broken")
        return [ValueError("refused") if name == "b" else name.upper() for name in names]

    async def submit(self, name: str) -> Any:
        return await self.batcher.submit(SubmitRequest(lambda: None, name))  # type: ignore[arg-type, return-value]

    async def submit_each(self, names: Iterable[str]) -> List[Any]:
        return await asyncio.gather(*map(self.submit, names), return_exceptions=True)

    @contextmanager
    def busy_writer(self) -> Iterator[Callable[[], None]]:
        """Has the writer do nothing else until the function that it yields is called."""
        go_on = threading.Event()
        busy: Future[bool] = self.writer.submit(go_on.wait, 10)
        yield go_on.set
        go_on.set()
        assert busy.result(10)


def test_submits_that_arrive_while_the_writer_is_busy_are_stored_together() -> None:
    storage = Storage()

    async def submit_one_by_one() -> Any:
        with storage.busy_writer() as go_on:
            submits = []
            for name in "acd":
                submits.append(asyncio.ensure_future(storage.submit(name)))
                await asyncio.sleep(0.01)
            go_on()
            return await asyncio.gather(*submits)

    assert finished(submit_one_by_one()) == ["A", "C", "D"]
    assert storage.batches == [["a", "c", "d"]]


def test_each_submit_of_a_batch_has_its_own_result() -> None:
    storage = Storage()

    async def submit_three() -> Any:
        with storage.busy_writer() as go_on:
            submits = asyncio.ensure_future(storage.submit_each("abc"))
            await asyncio.sleep(0.01)
            go_on()
            return await submits

    a, b, c = finished(submit_three())
    assert (a, str(b), c) == ("A", "refused", "C")
    assert storage.batches == [["a", "b", "c"]]


async def submit_while_the_writer_is_busy(storage: Storage, texts: str) -> Any:
    with storage.busy_writer() as go_on:
        submits = asyncio.ensure_future(storage.submit_each(texts))
        for _ in range(10):  # turns of the loop, in which all of them are submitted
            await asyncio.sleep(0)
        go_on()
        return await submits


def test_a_batch_that_cannot_be_stored_fails_each_of_its_submits_and_no_later_one() -> None:
    storage = Storage()
    errors = finished(submit_while_the_writer_is_busy(storage, "ax"))
    assert [str(error) for error in errors] == ["broken"] * 2
    assert finished(storage.submit_each("d")) == ["D"]


def test_many_submits_are_stored_in_bounded_batches() -> None:
    storage = Storage()
    submits = submit_while_the_writer_is_busy(storage, "a" * (3 * MAX_BATCH))
    assert finished(submits) == ["A"] * (3 * MAX_BATCH)
    assert [len(batch) for batch in storage.batches] == [MAX_BATCH] * 3


def test_a_write_waits_for_one_batch_of_submits_however_many_there_are() -> None:
    storage = Storage()

    async def write_between_submits() -> Any:
        with storage.busy_writer() as go_on:
            submits = asyncio.ensure_future(storage.submit_each("a" * (3 * MAX_BATCH)))
            for _ in range(10):  # turns of the loop, in which all of them are submitted
                await asyncio.sleep(0)
            write = storage.writer.submit(lambda: len(storage.batches))
            go_on()
            await submits
            return write.result()

    assert finished(write_between_submits()) == 1
    assert len(storage.batches) == 3


def test_a_submit_that_no_thread_can_be_started_for_fails_and_is_not_stored_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = Storage()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def submit_before_and_after() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            failed = await storage.submit_each("ac")
        return failed, await storage.submit_each("d")

    failed, later = finished(submit_before_and_after())
    assert [type(error) for error in failed] == [MachineFault] * 2
    assert str(failed[0]).startswith("the machine cannot start a thread (can't start new thread); ")
    assert later == ["D"]
    assert storage.batches == [["d"]]


def test_a_submit_whose_caller_was_cancelled_is_not_stored_and_others_are() -> None:
    storage = Storage()

    async def cancel_one_of_two() -> Any:
        with storage.busy_writer() as go_on:
            lost, kept = (asyncio.ensure_future(storage.submit(name)) for name in "ac")
            await asyncio.sleep(0.01)
            lost.cancel()
            await asyncio.sleep(0.01)
            go_on()
            return await kept

    assert finished(cancel_one_of_two()) == "C"
    assert storage.batches == [["c"]]


def test_submits_of_two_event_loops_are_each_answered_in_their_own() -> None:
    storage = Storage()
    with storage.busy_writer() as go_on, ThreadPoolExecutor(2) as pool:
        submits = [pool.submit(finished, storage.submit_each(names)) for names in ("ac", "de")]
        time.sleep(0.1)
        go_on()
        assert [submit.result() for submit in submits] == [["A", "C"], ["D", "E"]]


def test_an_event_loop_that_was_closed_does_not_keep_others_from_being_answered() -> None:
    storage = Storage()
    with storage.busy_writer():
        loop = asyncio.new_event_loop()
        submit = loop.create_task(storage.submit("a"))
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        loop.close()
        assert not submit.done()
    assert finished(storage.submit_each("c")) == ["C"]


# Over HTTP


JOBS = "/api/worker/jobs"
LATER = {**HELLO, "delay": 3600}
WRITES = 4


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", JOBS, LATER, 202),
        ("POST", f"{JOBS}/{{ended}}/retry", None, 202),
        ("DELETE", f"{JOBS}/{{waiting}}", None, 200),
        ("DELETE", "/queue/{waiting}", None, 200),
        ("POST", "/add/", {"x": 1, "y": 2}, 202),
        ("POST", "/fakejob/", None, 202),
        ("POST", "/queue/flush/", None, 200),
    ],
)
def test_while_writes_wait_for_the_database_reads_are_answered(
    make_server: Callable[..., Server],
    method: str,
    path: str,
    body: Optional[Dict[str, Any]],
    status: int,
) -> None:
    server = make_server(autostart=0)
    ended, *waiting = (server.client.submit(LATER)["jobId"] for _ in range(1 + WRITES))
    server.client.cancel(ended)

    content = b"" if body is None else json.dumps(body).encode()
    turn = take_lock(server.data / "write.lock", wait=True)
    with ExitStack() as wires:
        writes = [wires.enter_context(Wire(server)) for _ in waiting]
        try:
            for wire, job_id in zip(writes, waiting):
                url = path.format(ended=ended, waiting=job_id)
                head = (
                    f"{method} {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
                )
                wire.send(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content)
            time.sleep(0.2)  # the server has them, and waits for the lock
            for _ in range(5):
                assert server.http.get("/api/worker/status", timeout=5).status_code == 200
            assert stored(server) == 1 + WRITES
        finally:
            release_lock(turn)
        assert {wire.answer().status_code for wire in writes} == {status}


def test_reads_do_not_wait_for_searches_that_came_before_them(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(autostart=0)
    job_id = server.client.submit(LATER)["jobId"]
    search = long_search(server)
    head = "HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as wires:
        searching = [wires.enter_context(Wire(server)) for _ in range(100)]
        for wire in searching:  # each looks through all of the project
            wire.send(search)
        reading = wires.enter_context(Wire(server))
        paths = (f"{JOBS}/{job_id}", JOBS, "/api/worker/status", "/queue", "/readyz", "/metrics")
        for path in paths:
            reading.send(f"GET {path} {head}".encode())
            assert reading.answer().status_code == 200
        last = searching[-1]
        assert select.select([last.socket], [], [], 0)[0] == [], "answered before the read"
        assert last.answer().json() == {"jobs": [], "nextCursor": None}
