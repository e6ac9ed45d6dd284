"""The worker process: Huey's consumer with threads that run jobs, one for each data directory.

It promises to stop within 3 s of SIGTERM, SIGINT or the request of another worker, and to leave
running scripts to their shims; and to exit after IDLE_EXIT idle seconds without losing a wake-up:
threads joined, FIFO closed, lock released, and only then a last look for work.
"""

import os
import select
import signal
import sys
import time
from typing import Any, Optional

from huey.consumer import Consumer as HueyConsumer
from huey.consumer import ConsumerStopped, Scheduler, Worker

from robotni import log
from robotni.jobs.states import PENDING
from robotni.system import worker_lock
from robotni.system.wakeup import listen, listen_again

STOP_WITHIN = 2.5  # seconds
TAKE_OVER_WITHIN = 10.0


class JobWorker(Worker):
    """A thread: first the runs that an earlier worker left, then pending jobs."""

    def loop(self, now: Any = None) -> None:
        job = self.huey.executor.recovery.next_to_adopt()
        if job is not None:
            self.huey.executor.recovery.adopt(job)
        else:
            super().loop(now)

    def shutdown(self) -> None:
        super().shutdown()
        self.huey.store.close()


class MaintenanceThread(Scheduler):
    """In the place of Huey's scheduler: maintenance, and Huey's periodic tasks."""

    process_name = "Maintenance"
    next_periodic = 0.0

    def loop(self, now: Any = None) -> None:
        try:
            self.huey.storage.repair_wakeup()
        except OSError:  # no descriptors, say; the next look tries again
            log.failed("look at the FIFOs")
        seconds = self.huey.maintenance.run()
        if self.periodic and self.next_periodic <= time.monotonic():
            self.next_periodic = time.monotonic() + self.periodic_task_seconds
            self.enqueue_periodic_tasks(now)
        self.stop_flag.wait(seconds)

    def shutdown(self) -> None:
        self.huey.store.close()


class Consumer(HueyConsumer):
    """One worker process. `takes_over`: it asks a running worker to stop, also one that is no older
    than itself."""

    worker_class = JobWorker
    scheduler_class = MaintenanceThread

    def __init__(
        self, huey: Any, workers: int = 1, takes_over: bool = True, **options: Any
    ) -> None:
        limit = huey.settings.workers
        options["shutdown_timeout"] = STOP_WITHIN
        super().__init__(huey, workers=limit if workers == 1 else min(workers, limit), **options)
        self._takes_over = takes_over
        self._lock: Optional[int] = None
        self._stop_request: Optional[int] = None  # the FIFO by which another worker asks
        self._was_idle = False
        self._idle_exit = huey.settings.idle_exit if huey.settings.autostart else 0.0

    def run(self) -> None:
        """Works until told to stop or idle for too long; returns at once when another worker
        stays."""
        log.set_up(self.huey.settings.log_format)
        self._lock = worker_lock.take(
            self.huey.datadir, self._takes_over, STOP_WITHIN, TAKE_OVER_WITHIN
        )
        if self._lock is None:
            log.worker("not needed, another one works", os.getpid())
            return
        self._stop_request = listen(self.huey.datadir.stop_worker)
        _discard_old_requests(self._stop_request)
        self.huey.storage.open_wakeup()
        self.huey.executor.recovery.sweep()
        log.worker("started", os.getpid())
        try:
            super().run()
        finally:
            self._release_all()
        log.worker("idle, stopped" if self._was_idle else "stopped", os.getpid())
        if self._was_idle and self.huey.store.counts()[PENDING]:
            os.execv(sys.executable, [sys.executable, *sys.argv])

    def start(self) -> None:
        super().start()
        for number in (signal.SIGTERM, signal.SIGINT):  # Huey's own would wait for the jobs
            signal.signal(number, lambda *_: self.huey.executor.stop_signal.set())

    def _release_all(self) -> None:
        self.huey.executor.close()
        self.huey.storage.close_wakeup()
        self.huey.storage.close()
        self.huey.store.close()  # before the lock: who waits for the lock may copy the files then
        if self._stop_request is not None:
            os.close(self._stop_request)
        if self._lock is not None:
            worker_lock.let_go(self._lock)
        self._stop_request = self._lock = None

    def loop(self, health_check_ts: Optional[float] = None) -> Any:
        health_check_ts = super().loop(health_check_ts)
        self._repair_stop_request()
        must_stop = self.huey.executor.stop_signal.is_set() or self._is_asked_to_stop()
        self._was_idle = not must_stop and self._is_idle()
        if must_stop or self._was_idle:
            self.stop(graceful=True)
            raise ConsumerStopped
        return health_check_ts

    def stop(self, graceful: bool = False) -> None:
        self.huey.executor.stop_signal.set()
        super().stop(graceful)

    def _repair_stop_request(self) -> None:
        fifo = self.huey.datadir.stop_worker
        try:
            if self._stop_request is not None and listen_again(self._stop_request, fifo):
                _discard_old_requests(self._stop_request)
                log.fifo_replaced(fifo.name)
        except OSError:  # no descriptors, say; the next look tries again
            log.failed("look at the FIFOs")

    def _is_asked_to_stop(self) -> bool:
        return bool(select.select([self._stop_request], [], [], 0)[0])

    def _is_idle(self) -> bool:
        return 0 < self._idle_exit < self.huey.executor.in_flight.idle_seconds()


def _discard_old_requests(fifo: int) -> None:
    """Requests that were meant for an earlier worker."""
    try:
        os.read(fifo, 65536)
    except BlockingIOError:
        pass
