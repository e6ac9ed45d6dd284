"""The database file: opened, migrated, read and written; below `store.py`.

It promises that each `write` is one durable transaction: `synchronous = FULL`, since NORMAL loses
acknowledged jobs in a power cut. It begins IMMEDIATE, since a deferred one fails with "database is
locked" in spite of the busy timeout. Writers of all processes wait for a file lock, which wakes the
next one at once; SQLite's own waiting sleeps and looks again. A thread reads on a connection of its
own, and a process writes on one connection.
"""

import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from robotni.errors import DataDirError, StorageFull
from robotni.storage.migrations import MIGRATIONS, VERSION
from robotni.system.locks import release_lock, take_lock

BUSY_TIMEOUT = 60  # seconds
LOG_LIMIT = 16 << 20  # bytes of the write-ahead log from which on it is emptied
_PRAGMAS = ("journal_mode = wal", "synchronous = full", "cache_size = -2000")
# What a large statement may have to undo SQLite keeps in a file, which a kill may leave behind.
_WRITER_PRAGMAS = (*_PRAGMAS, "temp_store = memory")


class Connection(sqlite3.Connection):
    """Closes itself when the thread that uses it ends; Python 3.13 warns otherwise."""

    def __del__(self) -> None:
        self.close()


class Database:
    """One database file, usable from every thread of a process, and after a fork of it.

    DataDirError when the file cannot be opened, or has a newer format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._write_lock = path.with_name("write.lock")
        self._local = threading.local()
        self._writer: Optional[sqlite3.Connection] = None
        try:
            self._local.connection = self._connect(_PRAGMAS)
            self._migrate()
        except sqlite3.OperationalError as error:
            raise DataDirError(
                f"{path} cannot be opened ({error}); make the folder writable, or restore the file "
                "from a backup"
            ) from None
        except sqlite3.DatabaseError as error:
            raise DataDirError(
                f"{path} cannot be used ({error}); restore it from a backup, or move it away"
            ) from None
        self.close()  # a process that is forked from this one must not inherit a connection

    def _migrate(self) -> None:
        with self.write():
            version = self.sql("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise DataDirError(
                    f"{self._path} was written by a newer robotni (format {version}, this one "
                    f"knows {VERSION}); upgrade with pip install -U robotni"
                )
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    self.sql(statement)
            if version < VERSION:
                self.sql(f"PRAGMA user_version = {VERSION}")

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own; within `write`, the one that writes."""
        connection: Optional[sqlite3.Connection] = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(_PRAGMAS)
        return connection

    def sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Runs one statement, in the transaction of the calling thread if it has one."""
        return self.connection.execute(statement, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads within see the same state of the database; writers do not wait for them."""
        with self._transaction("DEFERRED"):
            yield

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction, on the disk when the block is left; nothing is written when the block
        raises an error. StorageFull when the disk has no room for it."""
        with self._lock, self._file_lock():
            if self._writer is None:
                self._writer = self._connect(_WRITER_PRAGMAS)
            reader = getattr(self._local, "connection", None)
            self._local.connection = self._writer
            try:
                with self._transaction("IMMEDIATE"):
                    yield
            finally:
                self._local.connection = reader

    def shrink_log(self) -> None:
        """Empties the write-ahead log when it is over LOG_LIMIT, which SQLite does not while there
        are always readers. Waits 0.1 s for a moment without any; else the log stays as it is."""
        log = self._path.with_name(f"{self._path.name}-wal")
        if not log.exists() or log.stat().st_size < LOG_LIMIT:
            return
        with self._lock, self._file_lock():
            try:
                self.sql("PRAGMA busy_timeout = 100")
                self.sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.sql(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT}")

    def close(self) -> None:
        """Closes the connection of the calling thread and the one that writes; both are opened
        again when they are needed. Other threads close theirs when they end."""
        with self._lock:
            writer, self._writer = self._writer, None
        reader = getattr(self._local, "connection", None)
        self._local.connection = None
        for connection in (reader, writer):
            if connection is not None:
                connection.close()

    def _connect(self, pragmas: Sequence[str]) -> sqlite3.Connection:
        """Waits while another process creates the file or removes its log: SQLite's busy timeout
        does not cover the change to WAL."""
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            connection = sqlite3.connect(
                str(self._path),
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
                factory=Connection,
            )
            try:
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                return connection
            except sqlite3.DatabaseError as error:
                connection.close()
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        lock = take_lock(self._write_lock, wait=True)
        try:
            yield
        finally:
            release_lock(lock)

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        connection = self.connection
        try:
            connection.execute(f"BEGIN {kind}")
            yield
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "disk is full" in str(error) or "disk I/O error" in str(error):
                raise StorageFull(
                    f"the disk with {self._path} is full; make room and try again"
                ) from None
            raise
        finally:
            if connection.in_transaction:  # an error; after some, SQLite has rolled back already
                connection.execute("ROLLBACK")
