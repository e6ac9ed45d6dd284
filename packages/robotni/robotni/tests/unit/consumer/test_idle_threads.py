"""Threads of a worker that have nothing to do: one sleeps at the bell, the others behind it."""

import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, List

from robotni.jobs.models import Job, new_job_id
from robotni.system.wakeup import notify
from robotni.tests.conftest import House
from robotni.tests.processes import eventually
from robotni.tests.unit.consumer.test_huey_queue import huey_of

THREADS = 4


@contextmanager
def waiting(house: House, once: bool = False) -> Iterator[List[Any]]:
    """Threads that take orphans and tickets as a worker's do; what they have got. `once`: each
    looks once, and what it has got then may be None."""
    storage, got = huey_of(house).storage, []
    storage.open_wakeup()

    def take() -> None:
        found = None
        while found is None and not house.executor.stop_signal.is_set():
            found = house.maintenance.next_orphan() or storage.dequeue()
            if once:
                break
        got.append(found)
        house.store.close()

    threads = [threading.Thread(target=take) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # all have looked and wait
    try:
        yield got
    finally:
        house.executor.stop_signal.set()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
        storage.close_wakeup()
        storage.close()


def add_tickets(house: House, count: int) -> None:
    for number in range(count):
        house.store.add_ticket(new_job_id(1_790_000_000.0 + number))


def test_a_ring_for_one_ticket_wakes_one_thread(house: House) -> None:
    with waiting(house, once=True) as got:
        add_tickets(house, 1)
        notify(house.datadir.wakeup)
        eventually(lambda: got)
        time.sleep(0.2)
        assert len(got) == 1 and got[0] is not None
    assert got[1:] == [None] * (THREADS - 1)  # all leave when told to


def test_one_ring_is_enough_for_many_tickets(house: House) -> None:
    with waiting(house) as got:
        add_tickets(house, THREADS - 1)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS - 1)
        assert len(set(got)) == THREADS - 1
        add_tickets(house, 1)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)


def test_rings_that_came_late_wake_nobody_for_good(house: House) -> None:
    with waiting(house) as got:
        for _ in range(50):
            notify(house.datadir.wakeup)
        add_tickets(house, 2)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == 2)
        for _ in range(50):
            notify(house.datadir.wakeup)
        add_tickets(house, 2)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)


def test_each_orphan_gets_a_thread(house: House) -> None:
    with waiting(house) as got:
        orphans = [Job.model_construct(job_id=str(number)) for number in range(THREADS)]
        house.executor.orphans.extend(orphans)
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)
        assert {job.job_id for job in got} == {job.job_id for job in orphans}


def test_a_ticket_waits_while_there_is_an_orphan(house: House) -> None:
    """A run to adopt holds a place: with a ticket in its stead, too many would run."""
    with waiting(house, once=True) as got:
        add_tickets(house, 1)
        house.executor.orphans.append(Job.model_construct(job_id="0"))
        notify(house.datadir.wakeup)
        eventually(lambda: len(got) == THREADS)
    assert got == [None] * THREADS
    assert house.store.take_ticket() is not None


class Late:
    """The line of a storage, which the thread `of` that name reaches late."""

    def __init__(self, line: Any, of: str) -> None:
        self.line, self.of = line, of
        self.is_near, self.may_come = threading.Event(), threading.Event()

    def acquire(self, blocking: bool = True) -> bool:
        if threading.current_thread().name == self.of:
            self.is_near.set()
            self.may_come.wait()
        return bool(self.line.acquire(blocking))

    def release(self) -> None:
        self.line.release()


def test_who_comes_to_the_bell_late_looks_first(house: House) -> None:
    """Who was there before has heard the ring for both tickets, and took one."""
    storage, got = huey_of(house).storage, []
    storage.open_wakeup()
    storage._line = line = Late(storage._line, "late")

    def take() -> None:
        got.append(storage.dequeue())
        house.store.close()

    early, late = (threading.Thread(target=take, name=name) for name in ("early", "late"))
    early.start()
    late.start()
    line.is_near.wait()
    time.sleep(0.2)  # the other sleeps
    add_tickets(house, 2)
    notify(house.datadir.wakeup)
    early.join()
    line.may_come.set()
    late.join(3)
    found = set(got)
    house.executor.stop_signal.set()
    late.join()
    assert len(found - {None}) == 2
    storage.close_wakeup()
    storage.close()
