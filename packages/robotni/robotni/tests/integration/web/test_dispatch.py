"""Calls that write wait apart from those that read."""

import asyncio
import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Callable, Coroutine, Dict, Iterable, List, Optional, Sequence

import pytest

from robotni.system.locks import release_lock, take_lock
from robotni.tests.calls import HELLO, Wire, long_search, stored
from robotni.tests.processes import Server, eventually
from robotni.web.dispatch import AT_ONCE, Lane, Together


def test_calls_of_a_lane_run_one_after_another_and_each_has_its_own_result() -> None:
    inside, most = [], []
    lane = Lane("test")

    @lane
    def endpoint(number: int, *, fails: bool = False) -> int:
        inside.append(number)
        time.sleep(0.002)
        most.append(len(inside))
        inside.remove(number)
        if fails:
            raise KeyError(number)
        return number

    async def all_of_them() -> Any:
        calls = (endpoint(number, fails=number == 7) for number in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(all_of_them())
    assert repr(answers.pop(7)) == "KeyError(7)"
    assert answers == [*range(7), *range(8, 20)]
    assert max(most) == 1


def lanes() -> List[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("lane of")]


def test_a_lane_has_no_thread_before_its_first_call_and_none_after_its_end() -> None:
    lane = Lane("lane of a test")
    assert lanes() == []
    assert finished(lane(lambda: threading.current_thread().name)()) == "lane of a test"
    assert lanes() == ["lane of a test"]
    del lane
    eventually(lambda: lanes() == [])


def test_who_gives_up_before_the_turn_comes_is_not_called() -> None:
    lane, go_on, called = Lane("test"), threading.Event(), []

    async def give_up() -> None:
        lane.submit(lambda: bool(go_on.wait(10)))
        lost, kept = (asyncio.ensure_future(lane(called.append)(one)) for one in "ab")
        await asyncio.sleep(0.01)
        lost.cancel()
        go_on.set()
        await kept

    finished(give_up())
    assert called == ["b"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of a fork beside threads")
def test_a_fork_has_a_thread_of_its_own_in_the_lane() -> None:
    lane = Lane("test")

    @lane
    def endpoint() -> int:
        return os.getpid()

    assert finished(endpoint()) == os.getpid()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            os._exit(0 if finished(endpoint()) == os.getpid() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def finished(call: Coroutine[Any, Any, Any]) -> Any:
    """Its result, within a time in which nothing that works is late."""
    return asyncio.run(asyncio.wait_for(call, 10))


class Served:
    """What `Together` was asked to do, a list for each time; `b` is refused, `x` breaks all."""

    def __init__(self) -> None:
        self.batches: List[List[str]] = []
        self.lane = Lane("test")
        self.together: Together[str, str] = Together(self.lane, self.serve)

    def serve(self, wanted: Sequence[str]) -> List[Any]:
        self.batches.append(list(wanted))
        if "x" in wanted:
            raise OSError("broken")
        return [ValueError("refused") if one == "b" else one.upper() for one in wanted]

    async def all_of(self, wanted: Iterable[str]) -> List[Any]:
        return await asyncio.gather(*map(self.together, wanted), return_exceptions=True)


def test_what_is_wanted_at_once_is_served_at_once_and_each_has_its_own_result() -> None:
    served = Served()
    a, b, c = finished(served.all_of("abc"))
    assert (a, str(b), c) == ("A", "refused", "C")
    assert served.batches == [["a", "b", "c"]]
    assert [str(error) for error in finished(served.all_of("ax"))] == ["broken", "broken"]
    assert finished(served.all_of("d")) == ["D"]


def test_what_comes_while_the_thread_is_busy_is_served_together_next() -> None:
    served, begun, go_on = Served(), threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        go_on.wait(10)

    async def one_by_one() -> Any:
        served.lane.submit(block)
        begun.wait(10)
        asked = []
        for letter in "acd":
            asked.append(asyncio.ensure_future(served.together(letter)))
            await asyncio.sleep(0.01)
        go_on.set()
        return await asyncio.gather(*asked)

    assert finished(one_by_one()) == ["A", "C", "D"]
    assert [batch for batch in served.batches if batch] == [["a", "c", "d"]]


def test_a_crowd_lets_other_calls_of_the_thread_in_between() -> None:
    served, seen = Served(), []

    async def crowd() -> Any:
        asked = asyncio.ensure_future(served.all_of("a" * (3 * AT_ONCE)))
        await asyncio.sleep(0)
        served.lane.submit(lambda: seen.append(len(served.batches)))
        return await asked

    served.lane.submit(lambda: time.sleep(0.1))
    assert finished(crowd()) == ["A"] * (3 * AT_ONCE)
    assert [len(batch) for batch in served.batches if batch] == [AT_ONCE] * 3
    assert seen and seen[0] < 3


def test_while_no_thread_can_be_started_calls_fail_and_later_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def before_and_after() -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            failed = await served.all_of("ac")
        return failed, await served.all_of("d")

    failed, later = finished(before_and_after())
    assert [str(error) for error in failed] == ["can't start new thread"] * 2
    assert later == ["D"]


def test_a_lane_goes_on_whatever_a_work_raises(caplog: pytest.LogCaptureFixture) -> None:
    served = Served()

    def leave() -> None:
        raise SystemExit(3)

    served.lane.submit(leave)
    assert finished(served.all_of("a")) == ["A"]
    assert "failed call" in caplog.text


def test_what_no_future_takes_is_an_error_too() -> None:
    @Lane("test")
    def endpoint() -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        finished(asyncio.wait_for(endpoint(), 10))


def test_what_waits_at_a_fork_is_served_where_it_came() -> None:
    served, go_on = Served(), threading.Event()

    async def fork() -> List[str]:
        served.lane.submit(lambda: bool(go_on.wait(10)))
        asked = asyncio.ensure_future(served.all_of("ac"))
        await asyncio.sleep(0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fork beside threads
            child = os.fork()
        if child == 0:
            signal.alarm(10)
            with ThreadPoolExecutor(1) as another:  # with an event loop of its own
                answers = another.submit(finished, served.all_of("d")).result()
            os._exit(0 if (answers, served.batches) == (["D"], [["d"]]) else 1)
        go_on.set()
        assert os.waitpid(child, 0)[1] == 0
        return await asked

    assert finished(fork()) == ["A", "C"]


def test_who_gives_up_takes_nobody_along() -> None:
    served, go_on = Served(), threading.Event()

    async def one_of_two() -> Any:
        served.lane.submit(lambda: go_on.wait(10))
        lost, kept = (asyncio.ensure_future(served.together(letter)) for letter in "ac")
        await asyncio.sleep(0.01)
        lost.cancel()
        go_on.set()
        return await kept

    assert finished(one_of_two()) == "C"


def test_calls_of_two_event_loops_are_each_answered_in_their_own() -> None:
    served, go_on = Served(), threading.Event()
    served.lane.submit(lambda: go_on.wait(10))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(finished, served.all_of(letters)) for letters in ("ac", "de")]
        time.sleep(0.1)
        go_on.set()
    assert [one.result() for one in asked] == [["A", "C"], ["D", "E"]]


def test_an_event_loop_that_ended_keeps_no_other_from_being_served() -> None:
    served = Served()

    loop = asyncio.new_event_loop()
    asked = loop.create_task(served.together("a"))
    loop.call_soon(loop.stop)  # before the thread is called
    loop.run_forever()
    loop.close()
    assert not asked.done()
    assert finished(served.all_of("c")) == ["C"]


JOBS = "/api/worker/jobs"
LATER = {**HELLO, "delay": 3600}
TOGETHER = 4


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
def test_while_all_writers_wait_for_their_turn_reads_are_answered(
    make_server: Callable[..., Server],
    method: str,
    path: str,
    body: Optional[Dict[str, Any]],
    status: int,
) -> None:
    server = make_server(autostart=0)
    ended, *waiting = (server.client.submit(LATER)["jobId"] for _ in range(1 + TOGETHER))
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
            time.sleep(0.2)  # they are in the server, each as far as it comes
            for _ in range(5):
                assert server.http.get("/api/worker/status", timeout=5).status_code == 200
            assert stored(server) == 1 + TOGETHER
        finally:
            release_lock(turn)
        assert {wire.answer().status_code for wire in writes} == {status}


def test_reads_do_not_wait_for_searches_before_them(make_server: Callable[..., Server]) -> None:
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
