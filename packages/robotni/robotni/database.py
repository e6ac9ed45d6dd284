"""The database file: how it is opened, brought up to date and written to; under `store.py`.

It promises durable transactions (`synchronous=FULL`, set explicitly: NORMAL loses acknowledged
jobs in a power cut), begun IMMEDIATE, since a deferred one fails with "database is locked" in
spite of the busy timeout. Each thread has a connection of its own for reading; writers, of all
processes, queue at a file lock and are woken in turn, instead of asleep in SQLite's busy loop.
"""

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from peewee import DatabaseError, OperationalError, SqliteDatabase

from robotni.datadir import release_lock, take_lock
from robotni.errors import DataDirError, StorageFull
from robotni.schema import MIGRATIONS, VERSION

BUSY_TIMEOUT = 60
LOG_LIMIT = 16 << 20  # bytes of the write-ahead log from which on it is emptied
_PRAGMAS = {"journal_mode": "wal", "synchronous": "full", "cache_size": -2000}


class Database:
    """One database file, usable from every thread of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._turn = path.with_name("write.lock")
        self._db = SqliteDatabase(str(path), pragmas=_PRAGMAS, timeout=BUSY_TIMEOUT)
        self._connect()
        self._migrate()

    def sql(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The cursor of a statement. Text, since to build one costs more than to run it."""
        return self._db.execute_sql(statement, values)

    def close(self) -> None:
        """Closes the connection of the calling thread; others close theirs when they end."""
        if not self._db.is_closed():
            self._db.close()

    def _connect(self) -> None:
        """Two processes that make the file at once: the switch to WAL knows no busy timeout."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                self._db.connect(reuse_if_open=True)
                return
            except OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise DataDirError(
                        f"{self._path} cannot be opened ({error}); make the folder "
                        "writable, or restore the file from a backup"
                    ) from None
                time.sleep(0.02)

    def _migrate(self) -> None:
        try:
            with self.write():
                version = self._db.execute_sql("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    raise DataDirError(
                        f"{self._path} was written by a newer robotni (format {version}, this one "
                        f"knows {VERSION}); upgrade with pip install -U robotni"
                    )
                for step in MIGRATIONS[version:]:
                    for statement in step:
                        self._db.execute_sql(statement)
                self._db.execute_sql(f"PRAGMA user_version = {VERSION}")
        except DatabaseError as error:
            raise DataDirError(
                f"{self._path} cannot be used ({error}); restore it from a backup, or move it away"
            ) from None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads within see one state of the database, and no writer waits for them."""
        with self._db.atomic("DEFERRED"):
            yield

    @contextmanager
    def write(self) -> Iterator[None]:
        """One durable transaction; StorageFull when the disk has no room for it."""
        with self._in_turn():
            try:
                with self._db.atomic("IMMEDIATE"):
                    yield
            except OperationalError as error:
                if _is_full(error):
                    raise StorageFull(
                        f"the disk with {self._path} is full; make room and try again"
                    ) from None
                raise

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        with self._lock:
            turn = take_lock(self._turn, wait=True)
            try:
                yield
            finally:
                release_lock(turn)

    def shrink_log(self) -> None:
        """Empties the write-ahead log when it is over LOG_LIMIT, so that the file ends again where
        it began. Waits 0.1 s for readers to be done; while some always read, it must grow on."""
        log = self._path.with_name(f"{self._path.name}-wal")
        if not log.exists() or log.stat().st_size < LOG_LIMIT:
            return
        with self._in_turn():
            try:
                self.sql("PRAGMA busy_timeout = 100")
                self.sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.sql(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT}")


def _is_full(error: Optional[BaseException]) -> bool:
    """Whether there was no room. After a COMMIT that failed for it the complaint about the
    ROLLBACK, which SQLite has done by itself, hides the reason in its context."""
    while error is not None:
        if "disk is full" in str(error) or "disk I/O error" in str(error):
            return True
        error = error.__context__
    return False
