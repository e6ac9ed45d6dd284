"""Huey's side of the queue: the storage that waits on the bell, the tasks, tickets as messages.

Losing or doubling a ticket does no harm: the job row is the truth. An expired one is written anew.
"""

import json
import os
import select
import threading
from datetime import datetime
from typing import Any, Optional

from huey import Huey, crontab
from huey.exceptions import ConfigurationError
from huey.registry import Message
from huey.serializer import Serializer
from huey.signals import SIGNAL_EXPIRED
from huey.storage import SqliteStorage

from robotni import log
from robotni.consumer.consumer import Consumer
from robotni.consumer.executor import Executor
from robotni.consumer.maintenance import Maintenance
from robotni.settings import Settings
from robotni.storage.database import BUSY_TIMEOUT
from robotni.storage.queue_messages import EXPIRES, JobTickets
from robotni.storage.queue_table import QUEUE
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.system.wakeup import listen, notify

CLEAN = "robotni.clean"
RINGS = 4096  # that are heard as one
_TIMES = ("eta", "expires_resolved")


class JsonSerializer(Serializer):
    """Huey's messages as JSON. What is no such message raises ValueError and nothing runs."""

    def _serialize(self, data: Message) -> bytes:
        fields = {name: value for name, value in data._asdict().items() if value is not None}
        for name in _TIMES:
            if name in fields:
                fields[name] = fields[name].isoformat()
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Message:
        fields = json.loads(bytes(data))
        if not isinstance(fields, dict) or not set(fields) <= set(Message._fields):
            raise ValueError("a ticket that robotni did not write; it is dropped")
        for name in _TIMES:
            if name in fields:
                fields[name] = datetime.fromisoformat(fields[name])
        return Message(**fields)


def _is_ours(serializer: JsonSerializer, data: bytes) -> bool:
    """Whether a row of Huey's table is a message that Huey or robotni wrote so."""
    try:
        message = serializer.deserialize(data)
    except (ValueError, TypeError, RecursionError):  # no JSON, no message, or nested without end
        return False
    return message.name == CLEAN or JobTickets().decode(data) is not None


class WakeupStorage(SqliteStorage):
    """Huey's tables, with a dequeue that sleeps until the bell notifies instead of polling."""

    blocking = True

    def __init__(self, name: str, store: Store, datadir: DataDir, executor: Executor) -> None:
        self._store = store
        self._datadir = datadir
        self._stop_signal = executor.stop_signal
        self._orphans = executor.orphans
        self._line = threading.Lock()
        self._serializer = JsonSerializer()
        self.wakeup: Optional[int] = None
        super().__init__(name, filename=str(datadir.database), fsync=True, timeout=BUSY_TIMEOUT)

    def open_wakeup(self) -> None:
        self.wakeup = listen(self._datadir.wakeup)

    def close_wakeup(self) -> None:
        if self.wakeup is not None:
            os.close(self.wakeup)
            self.wakeup = None

    def enqueue(self, data: bytes, priority: Optional[float] = None) -> None:
        super().enqueue(data, priority)
        notify(self._datadir.wakeup)

    def dequeue(self) -> Optional[bytes]:
        """The next ticket, or None when woken for something else."""
        ticket = self._next()
        if ticket is not None and not _is_ours(self._serializer, ticket):
            log.message_dropped()
            return None
        return ticket

    def _next(self) -> Optional[bytes]:
        """One thread sleeps at the bell, the others behind it: a ring wakes one, and whoever finds
        a ticket wakes the next. It looks before it sleeps, as who was there before it has heard
        the notifies for more than one."""
        if not self._line.acquire(blocking=False):
            ticket = self._look()
            if ticket is not None or self._is_called():
                return ticket
            self._line.acquire()
        try:
            ticket = self._look()
            if ticket is None and not self._is_called():
                self._wait()
                ticket = self._look()
            return ticket
        finally:
            self._line.release()

    def _look(self) -> Optional[bytes]:
        return None if self._is_called() else self._store.take_ticket()

    def _is_called(self) -> bool:
        """Whether something else comes first: a run to adopt, which holds a place, or to leave."""
        return self._stop_signal.is_set() or bool(self._orphans)

    def _wait(self) -> None:
        assert self.wakeup is not None, "the consumer opens the bell first"
        poll = select.poll()
        poll.register(self.wakeup, select.POLLIN)
        poll.register(self._stop_signal.fd, select.POLLIN)
        poll.poll()
        try:
            os.read(self.wakeup, RINGS)
        except BlockingIOError:  # to leave
            pass

    def delete_data(self, key: str) -> bool:
        """Huey clears a revocation after each task; none there costs no transaction."""
        return bool(self.has_data_for_key(key) and super().delete_data(key))


class RobotniHuey(Huey):
    """The Huey whose consumer runs jobs; for `huey_consumer huey_app.huey`, or any other way."""

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
            storage_class=WakeupStorage,
            store=store,
            datadir=datadir,
            executor=executor,
        )
        _define_tasks(self)

    def create_consumer(self, **options: Any) -> Consumer:
        if options.get("worker_type", "thread") != "thread":
            raise ConfigurationError(
                "robotni's consumer runs threads only, the scripts have processes of their own; "
                "leave -k out"
            )
        return Consumer(self, **options)


def _define_tasks(huey: RobotniHuey) -> None:
    """The two tasks, under names that never change, since tickets on disk carry them."""

    def run_job(job_id: str) -> None:
        huey.executor.run(job_id)

    def clean() -> None:
        huey.maintenance.clean()

    run_job.__module__ = clean.__module__ = "robotni"  # names in the database: they never change
    huey.task(expires=EXPIRES)(run_job)
    huey.periodic_task(crontab(minute=0, hour=0))(clean)

    @huey.signal(SIGNAL_EXPIRED)
    def renew(signal: str, task: Any) -> None:
        if task.args:
            huey.store.add_ticket(task.args[0])
            notify(huey.datadir.wakeup)
