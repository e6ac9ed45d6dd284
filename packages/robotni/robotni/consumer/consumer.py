"""The worker: Huey's consumer with threads that run jobs, one for a data directory.

It promises to leave within 3 s of SIGTERM, SIGINT or the word of another worker, with running
scripts left to their shims; and to exit after IDLE_EXIT idle seconds without losing a wake-up:
threads joined, bell closed, lock freed, and only then a last look for work.
"""

import os
import select
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import Any, Iterator, Optional

from huey.consumer import Consumer as HueyConsumer
from huey.consumer import ConsumerStopped, Scheduler, Worker

from robotni import log
from robotni.jobs.states import PENDING
from robotni.shim import slices
from robotni.system import worker_lock as workerlock
from robotni.system.wakeup import listen

LEAVE_WITHIN = 2.5
TAKE_OVER_WITHIN = 10.0


class JobWorker(Worker):
    """A thread: first the orphans of an earlier worker, then tickets."""

    def loop(self, now: Any = None) -> None:
        orphan = self.huey.maintenance.next_orphan()
        if orphan is not None:
            self.huey.maintenance.adopt(orphan)
        else:
            super().loop(now)

    def shutdown(self) -> None:
        super().shutdown()
        self.huey.store.close()


class MaintenanceThread(Scheduler):
    """In the place of Huey's scheduler, whose own table robotni leaves empty."""

    process_name = "Maintenance"

    def loop(self, now: Any = None) -> None:
        seconds = self.huey.maintenance.tick()
        if self.periodic and self._next_periodic <= time.monotonic():
            while self._next_periodic <= time.monotonic():
                self._next_periodic += self.periodic_task_seconds
            self.enqueue_periodic_tasks(now)
        self.stop_flag.wait(seconds)

    def shutdown(self) -> None:
        self.huey.store.close()


class Consumer(HueyConsumer):
    """One worker process. `takes_over` says whether it asks a running one to leave, also one that
    is no older than itself."""

    worker_class = JobWorker
    scheduler_class = MaintenanceThread

    def __init__(
        self, huey: Any, workers: int = 1, takes_over: bool = True, **options: Any
    ) -> None:
        most = huey.settings.workers
        options["shutdown_timeout"] = LEAVE_WITHIN
        super().__init__(huey, workers=most if workers == 1 else min(workers, most), **options)
        self._signal_actions[signal.SIGTERM] = (False, True)
        self._signal_actions[signal.SIGINT] = (False, True)
        self._takes_over = takes_over
        self._lock: Optional[int] = None
        self._leave_bell: Optional[int] = None
        self._idle_exit = huey.settings.idle_exit if huey.settings.autostart else 0.0

    def run(self) -> None:
        """Works until told to leave, or idle too long; at once over when another worker stays."""
        log.set_up(self.huey.settings.log_format)
        self._lock = workerlock.take(
            self.huey.datadir, self._takes_over, LEAVE_WITHIN, TAKE_OVER_WITHIN
        )
        if self._lock is None:
            log.worker("not needed, another one works", os.getpid())
            return
        self._leave_bell = listen(self.huey.datadir.stop_worker)
        _drain(self._leave_bell)
        self.huey.storage.open_wakeup()
        self.huey.maintenance.sweep()
        log.worker("started", os.getpid())
        idle = False
        try:
            with as_batch():
                super().run()
            idle = not self._restart and self._signum is None and not self._asked_to_leave()
        finally:
            self._let_go()
        log.worker("idle, gone" if idle else "gone", os.getpid())
        if idle and self.huey.store.counts()[PENDING]:
            os.execv(sys.executable, [sys.executable, *sys.argv])

    def _let_go(self) -> None:
        self.huey.executor.close()
        self.huey.storage.close_wakeup()
        self.huey.storage.close()
        self.huey.store.close()  # before the lock: who waits for that may then copy the files
        if self._leave_bell is not None:
            os.close(self._leave_bell)
        if self._lock is not None:
            workerlock.let_go(self._lock)
        self._leave_bell = self._lock = None

    def loop(self, health_check_ts: Optional[float] = None) -> Any:
        health_check_ts = super().loop(health_check_ts)
        if self._asked_to_leave() or self._is_idle():
            self.stop(graceful=True)
            raise ConsumerStopped
        return health_check_ts

    def stop(self, graceful: bool = False) -> None:
        self.huey.executor.stop_signal.set()
        super().stop(graceful)

    def _asked_to_leave(self) -> bool:
        return bool(select.select([self._leave_bell], [], [], 0)[0])

    def _is_idle(self) -> bool:
        return 0 < self._idle_exit < self.huey.executor.in_flight.idle_seconds()


@contextmanager
def as_batch() -> Iterator[None]:
    """Has the kernel schedule this worker, its shims and their scripts as batch: who of them wakes
    pushes nobody off a core, so what ends meanwhile is settled in one go, and what is short runs in
    one go. A policy that was chosen from outside stays, and so do slices."""
    if slices.is_filtered() or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    choose = (lambda nanoseconds: None) if slices.are_chosen() else slices.set_slice
    _be(os.SCHED_BATCH)
    choose(slices.LONG)
    try:
        yield
    finally:
        _be(os.SCHED_OTHER)
        choose(slices.OWN)


def _be(policy: int) -> None:
    with suppress(OSError):  # not allowed
        os.sched_setscheduler(0, policy, os.sched_param(0))


def _drain(fd: int) -> None:
    """Forgets what was said to an earlier worker."""
    try:
        os.read(fd, 65536)
    except BlockingIOError:
        pass
