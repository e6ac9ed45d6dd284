"""Threads of a worker that have nothing to do: one sleeps at the FIFO, the others wait for it."""

import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, List

from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.system.wakeup import notify
from robotni.tests.conftest import House
from robotni.tests.processes import eventually
from robotni.tests.unit.consumer.test_huey_queue import huey_of

THREADS = 4


@contextmanager
def idle_threads(house: House, once: bool = False) -> Iterator[List[Any]]:
    """Threads that take runs to adopt and messages as a worker's do; what they have got. `once`:
    each looks once, and what it has got then may be None."""
    storage, got = huey_of(house).storage, []
    storage.open_wakeup()

    def take() -> None:
        found = None
        while found is None and not house.executor.stop_signal.is_set():
            found = house.executor.recovery.next_to_adopt() or storage.dequeue()
            if once:
                break
        got.append(found)
        house.store.close()

    threads = [threading.Thread(target=take) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # all have looked, and wait
    try:
        yield got
    finally:
        house.executor.stop_signal.set()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
        storage.close_wakeup()
        storage.close()


def submit(house: House, count: int) -> None:
    for _ in range(count):
        house.engine.submit(JobRequest(script="hello.py", venv=".venv"))


def test_a_wake_up_for_one_job_wakes_one_thread(house: House) -> None:
    with idle_threads(house, once=True) as got:
        submit(house, 1)
        notify(house.datadir.wakeup)
        eventually(lambda: got)
        time.sleep(0.2)
        assert len(got) == 1 and got[0] is not None
    assert got[1:] == [None] * (THREADS - 1)  # all stop when told to


def test_one_wake_up_is_enough_for_many_jobs(house: House) -> None:
    with idle_threads(house) as got:
        submit(house, THREADS - 1)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS - 1)
        assert len(set(got)) == THREADS - 1
        submit(house, 1)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)


def test_a_wake_up_for_nothing_loses_none_that_follows(house: House) -> None:
    with idle_threads(house) as got:
        for _ in range(50):
            notify(house.datadir.wakeup)
        submit(house, 2)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == 2)
        for _ in range(50):
            notify(house.datadir.wakeup)
        submit(house, 2)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)


def test_each_run_to_adopt_gets_a_thread(house: House) -> None:
    with idle_threads(house) as got:
        runs = [Job.model_construct(job_id=str(number)) for number in range(THREADS)]
        house.executor.recovery._to_adopt.extend(runs)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)
        assert {job.job_id for job in got} == {job.job_id for job in runs}


def test_a_job_waits_while_there_is_a_run_to_adopt(house: House) -> None:
    """A run to adopt occupies a slot: with a job in its stead, too many would run."""
    with idle_threads(house, once=True) as got:
        submit(house, 1)
        house.executor.recovery._to_adopt.append(Job.model_construct(job_id="0"))
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)
    assert got == [None] * THREADS
    assert house.engine.counts()["pending"] == 1
