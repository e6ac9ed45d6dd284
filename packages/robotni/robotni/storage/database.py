"""The database file: opened, migrated, read and written; below `store.py`.

It promises that each `write` is one durable transaction: `synchronous = FULL`, since NORMAL loses
acknowledged jobs in a power cut. It begins IMMEDIATE, since a deferred one fails with "database is
locked" in spite of the busy timeout. Writers of all processes wait for a file lock, which wakes the
next one at once; SQLite's own waiting sleeps and looks again. A thread reads on a connection of its
own, and a process writes on one connection.

What is committed must be in the file that the next start opens. So while a process has the database
open, neither the file nor its log may be removed or replaced, as when a backup is restored. Each
read and write compares the files at the paths, by device and inode, with those that its connection
opened. Processes share a lock of `database.lock`, where the first of them writes which file it is;
a process that is started later and finds another file is refused.
"""

import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Tuple

from robotni.errors import DatabaseReplaced, DataDirError, MachineFault, StorageFull
from robotni.storage.migrations import MIGRATIONS, VERSION
from robotni.system.locks import release_lock, share_lock, take_lock

BUSY_TIMEOUT = 60  # seconds
LOG_LIMIT = 16 << 20  # bytes of the write-ahead log from which on it is emptied
LEAVE_TIMEOUT = 3.0  # seconds that a process may take to end
CLOSE_TIMEOUT = 1.0  # seconds that another process may take to remove log and index
_FAULTS = ("unable to open", "disk I/O error", "out of memory")
_PRAGMAS = ("journal_mode = wal", "synchronous = full", "cache_size = -2000")
# What a large statement may have to undo SQLite keeps in a file, which a kill may leave behind.
_WRITER_PRAGMAS = (*_PRAGMAS, "temp_store = memory")


_File = Optional[Tuple[int, int]]  # device and inode; None where there is none


class Connection(sqlite3.Connection):
    """Closes itself when the thread that uses it ends; Python 3.13 warns otherwise."""

    files: Tuple[_File, _File] = (None, None)  # the database and its log, as they were opened

    is_open = False  # Python 3.8 crashes where one is closed that could not be opened

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_open = True

    def __del__(self) -> None:
        if self.is_open:
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
        self._writer: Optional[Connection] = None
        self._log = path.with_name(f"{path.name}-wal")
        self._index = path.with_name(f"{path.name}-shm")
        self._shared_lock: Optional[int] = None
        self._file: _File = None
        self._is_first = False  # whether no other process had the database open
        try:
            path.touch(0o600)
            self._file = _identity(path)
            self._share_lock()
            if not self._is_first:
                self._check_before_open()
            self._local.connection = self._connect(_PRAGMAS)
            self._migrate()
        except (OSError, sqlite3.OperationalError) as error:
            raise DataDirError(
                f"{path} cannot be opened ({error}); make the folder writable, or restore the file "
                "from a backup"
            ) from None
        except sqlite3.DatabaseError as error:
            raise DataDirError(
                f"{path} cannot be used ({error}); restore it from a backup, or move it away"
            ) from None
        self.close()  # a process that is forked from this one must not inherit a connection

    def __del__(self) -> None:
        release_lock(getattr(self, "_shared_lock", None))

    def _share_lock(self) -> None:
        """Waits for processes that are leaving, and have another file open."""
        deadline = time.monotonic() + LEAVE_TIMEOUT
        while True:
            lock = share_lock(self._path.with_name("database.lock"), self._write_file)
            if os.pread(lock, 100, 0) == repr(self._file).encode():
                self._shared_lock = lock
                return
            release_lock(lock)
            if time.monotonic() > deadline:
                raise self._replaced()
            time.sleep(0.05)

    def _write_file(self, lock: int) -> None:
        """Tells the processes that come later which file this one has open."""
        self._is_first = True
        os.ftruncate(lock, 0)
        os.pwrite(lock, repr(self._file).encode(), 0)

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
    def connection(self) -> Connection:
        """The calling thread's own; within `write`, the one that writes."""
        connection: Optional[Connection] = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open(_PRAGMAS)
        elif connection is not self._writer:
            self._check(connection)
        return connection

    def sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Runs one statement, in the transaction of the calling thread if it has one.
        DatabaseReplaced when the files were replaced, MachineFault when they cannot be read."""
        connection = self.connection
        try:
            return connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if connection is not self._writer:  # else `_transaction` explains it
                self._explain(connection, error)
            raise

    def _check(self, connection: Connection) -> None:
        """Raises DatabaseReplaced unless the files at the paths are those of `connection`."""
        if connection.files != (_identity(self._path), _identity(self._log)):
            raise self._replaced()

    def _replaced(self) -> DatabaseReplaced:
        return DatabaseReplaced(
            f"{self._path} or its log ({self._log.name}) was removed or replaced while it is open, "
            "so nothing that is stored now would be kept; end every process that uses it (robotni "
            "stop), put the files in place, then start again"
        )

    def _explain(self, connection: Connection, error: sqlite3.OperationalError) -> None:
        """Raises the error that stands for one of SQLite, where there is a better one."""
        self._check(connection)
        if any(text in str(error) for text in _FAULTS):
            raise self._fault(error) from None

    def _fault(self, error: sqlite3.OperationalError) -> MachineFault:
        return MachineFault(
            f"{self._path} cannot be used for now ({error}); see what the machine lacks (open "
            "files, memory, a working disk) and try again"
        )

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
                self._writer = self._open(_WRITER_PRAGMAS)
            self._check(self._writer)
            reader = getattr(self._local, "connection", None)
            self._local.connection = self._writer
            try:
                with self._transaction("IMMEDIATE"):
                    yield
                self._check(self._writer)  # else what was committed may be in a file that is gone
            finally:
                self._local.connection = reader

    def shrink_log(self) -> None:
        """Empties the write-ahead log when it is over LOG_LIMIT, which SQLite does not while there
        are always readers. Waits 0.1 s for a moment without any; else the log stays as it is."""
        if not self._log.exists() or self._log.stat().st_size < LOG_LIMIT:
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

    def _open(self, pragmas: Sequence[str]) -> Connection:
        """A connection to the file that this process has had open from its start."""
        self._check_before_open()
        try:
            return self._connect(pragmas)
        except sqlite3.OperationalError as error:
            raise self._fault(error) from None

    def _check_before_open(self) -> None:
        """Raises DatabaseReplaced unless the files are those that others have open."""
        deadline = time.monotonic() + CLOSE_TIMEOUT
        # Without its log, the index belongs to one that was removed; or another process is just
        # closing the database, which removes both.
        while self._index.exists() and not self._log.exists():
            if time.monotonic() > deadline:
                raise self._replaced()
            time.sleep(0.01)
        if _identity(self._path) != self._file:
            raise self._replaced()

    def _connect(self, pragmas: Sequence[str]) -> Connection:
        """Waits while another process creates the file or removes its log: SQLite's busy timeout
        does not cover the change to WAL."""
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",  # creates nothing
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
                factory=Connection,
            )
            try:
                for pragma in (*pragmas, "user_version"):  # which is a read, and opens the log
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                connection.files = (_identity(self._path), _identity(self._log))
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
            self._check(connection)
            if "disk is full" in str(error) or "disk I/O error" in str(error):
                raise StorageFull(
                    f"the disk with {self._path} is full; make room and try again"
                ) from None
            raise
        finally:
            if connection.in_transaction:  # an error; after some, SQLite has rolled back already
                connection.execute("ROLLBACK")


def _identity(path: Path) -> _File:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
