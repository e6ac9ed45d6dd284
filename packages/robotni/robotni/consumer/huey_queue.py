"""Huey's side of the queue: what Huey dequeues is the next pending job.

The queue is stored once, as the pending rows of the jobs. Huey's own tables serve only what Huey
itself enqueues, such as its periodic task. A thread that finds nothing sleeps until it is woken by
the FIFO in the data directory, instead of polling.
"""

import json
import os
import select
import threading
from datetime import datetime
from typing import Any, Optional

from huey import SqliteHuey, crontab
from huey.exceptions import ConfigurationError
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage

from robotni import log
from robotni.consumer.consumer import Consumer
from robotni.consumer.executor import Executor
from robotni.consumer.maintenance import Maintenance
from robotni.settings import Settings
from robotni.storage.database import BUSY_TIMEOUT
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import listen, listen_again, notify

QUEUE = "robotni"
MAX_BYTES = 4096  # of the FIFO that one read takes; each byte is a wake-up
_TIMES = ("eta", "expires_resolved")


class JsonSerializer(Serializer):
    """Huey's messages as JSON, since unpickling a row could run code. What is no such message
    raises ValueError, and nothing runs."""

    def _serialize(self, data: Message) -> bytes:
        fields = {name: value for name, value in data._asdict().items() if value is not None}
        for name in _TIMES:
            if name in fields:
                fields[name] = fields[name].isoformat()
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Message:
        fields = json.loads(bytes(data))
        if not isinstance(fields, dict) or not set(fields) <= set(Message._fields):
            raise ValueError("this row of Huey's table is no message of Huey")
        for name in _TIMES:
            if name in fields:
                fields[name] = datetime.fromisoformat(fields[name])
        return Message(**fields)


class WakeupStorage(SqliteStorage):
    """Huey's storage, whose dequeue hands out pending jobs, and sleeps while there are none."""

    blocking = True  # Huey need not sleep between two calls of dequeue

    def __init__(self, name: str, datadir: DataDir, executor: Executor) -> None:
        self._datadir = datadir
        self._executor = executor
        self._turn = threading.Lock()
        self._fifo: Optional[int] = None
        super().__init__(name, filename=str(datadir.database), fsync=True, timeout=BUSY_TIMEOUT)

    def open_wakeup(self) -> None:
        self._fifo = listen(self._datadir.wakeup)

    def repair_wakeup(self) -> None:
        if self._fifo is not None and listen_again(self._fifo, self._datadir.wakeup):
            log.fifo_replaced(self._datadir.wakeup.name)

    def close_wakeup(self) -> None:
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None

    def enqueue(self, data: bytes, priority: Optional[float] = None) -> None:
        super().enqueue(data, priority)
        notify(self._datadir.wakeup)

    def dequeue(self) -> Optional[bytes]:
        """The next message; None when the thread was woken for something else. One thread sleeps
        at the FIFO, the others wait for their turn: whoever finds a job wakes the next."""
        with self._turn:
            message = self._next_message()
            if message is None and not self._has_other_work():
                self._sleep()
                message = self._next_message()
            return message

    def _next_message(self) -> Optional[bytes]:
        if self._has_other_work():
            return None
        job = self._executor.reserve_next()
        if job is not None:
            return run_job_message(job.job_id)
        own: Optional[bytes] = super().dequeue()
        if own is not None and not _is_message(own):
            log.message_dropped()
            return None
        return own

    def _has_other_work(self) -> bool:
        """Whether a thread should do something else first: adopt a run, or stop."""
        executor = self._executor
        return executor.stop_signal.is_set() or executor.recovery.has_runs_to_adopt()

    def _sleep(self) -> None:
        assert self._fifo is not None, "the consumer opens the FIFO first"
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        poll.register(self._executor.stop_signal.fd, select.POLLIN)
        poll.poll()
        try:
            os.read(self._fifo, MAX_BYTES)
        except BlockingIOError:  # it was the stop signal, or the FIFO is another one now
            pass


def _is_message(data: bytes) -> bool:
    """Whether a row of Huey's table is a message that Huey can read."""
    try:
        JsonSerializer().deserialize(data)
    except (ValueError, TypeError, RecursionError):  # no JSON, no message, or nested without end
        return False
    return True


def run_job_message(job_id: str) -> bytes:
    """The message of Huey's that runs a job."""
    return json.dumps({"id": job_id, "name": "robotni.run_job", "args": [job_id]}).encode()


class RobotniHuey(SqliteHuey):
    """The Huey whose consumer runs jobs: `huey_consumer huey_app.huey`, or `robotni worker`."""

    storage_class = WakeupStorage

    def __init__(
        self,
        settings: Settings,
        store: Store,
        datadir: DataDir,
        executor: Executor,
        maintenance: Maintenance,
    ) -> None:
        self.settings = settings
        self.store = store
        self.datadir = datadir
        self.executor = executor
        self.maintenance = maintenance
        super().__init__(
            QUEUE,
            results=False,
            utc=False,
            serializer=JsonSerializer(),
            datadir=datadir,
            executor=executor,
        )
        _define_tasks(self)

    def create_consumer(self, **options: Any) -> Consumer:
        if options.get("worker_type", "thread") != "thread":
            raise ConfigurationError(
                "robotni's consumer uses threads only, since each script has a process of its own; "
                "leave -k out"
            )
        return Consumer(self, **options)


def _define_tasks(huey: RobotniHuey) -> None:
    """The two tasks. Huey names a task by the module of its function; these names are pinned, since
    they are stored."""

    def run_job(job_id: str) -> None:
        huey.executor.run(job_id)

    def clean() -> None:
        huey.maintenance.clean()

    run_job.__module__ = clean.__module__ = "robotni"
    huey.task(expires=3600)(run_job)
    huey.periodic_task(crontab(minute=0, hour=0))(clean)
