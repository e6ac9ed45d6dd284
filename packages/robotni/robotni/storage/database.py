"""The database file: how it is opened, brought up to date and written to; under `store.py`.

It promises durable transactions (`synchronous=FULL`, set explicitly: NORMAL loses acknowledged
jobs in a power cut), begun IMMEDIATE, since a deferred one fails with "database is locked" in
spite of the busy timeout. Each thread has a connection of its own for reading; for writing there
is one in a process. Writers, of all processes, queue at a file lock and are woken in turn, instead
of asleep in SQLite's busy loop. What threads of one process want written meanwhile goes into one
transaction: they wait for the disk once, together, not one after the other.
"""

import sqlite3
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Deque, Generic, Iterator, List, Optional, Sequence, TypeVar

from robotni.errors import DataDirError, StorageFull
from robotni.storage.migrations import MIGRATIONS, VERSION
from robotni.system.locks import release_lock, take_lock

BUSY_TIMEOUT = 60
LOG_LIMIT = 16 << 20  # bytes of the write-ahead log from which on it is emptied
_PRAGMAS = ("journal_mode = wal", "synchronous = full", "cache_size = -2000")
# What a large statement changes SQLite notes, to undo it, else in a file that a kill leaves behind.
# An upgrade may note too much for that: it sorts whole indexes.
_OF_THE_WRITER = ("temp_store = memory",)


Result = TypeVar("Result")


class Share(Generic[Result]):
    """What one thread wants done in a transaction, and what came of it once that `is_over`."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: List[Result] = []
        self.error: Optional[Exception] = None
        self.is_over = self.is_stored = False

    def run(self) -> None:
        self._results.append(self._work())

    def outcome(self) -> Result:
        if self.error is not None:
            raise self.error
        if not self.is_stored:
            raise RuntimeError("the thread that wrote for this one was interrupted")
        return self._results[0]


class Connection(sqlite3.Connection):
    """Closes itself with the thread that has it, of which Python 3.13 would warn."""

    def __del__(self) -> None:
        self.close()


class Database:
    """One database file, usable from every thread of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._shares: Deque[Share[Any]] = deque()
        self._turn = path.with_name("write.lock")
        self._own = threading.local()
        self._writer: Optional[sqlite3.Connection] = None
        self._of_the_writer: Sequence[str] = ()
        self._open()
        self._migrate()
        self._of_the_writer = _OF_THE_WRITER
        self.close()  # a process that is forked from this one must not inherit a connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own; while it writes, that of all who write."""
        try:
            found: sqlite3.Connection = self._own.connection
        except AttributeError:
            found = self._own.connection = self._connect()
        return found

    def sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """The cursor of a statement. Text, since to build one costs more than to run it."""
        return self.connection.execute(statement, values)

    def close(self) -> None:
        """Closes the connection of the calling thread, others close theirs when they end; and the
        one for writing, which the next write opens again."""
        with self._lock:
            writer, self._writer = self._writer, None
        for connection in (self._own.__dict__.pop("connection", None), writer):
            if connection is not None:
                connection.close()

    def _connect(self, *pragmas: str) -> sqlite3.Connection:
        """Waits for another process that makes the file, or takes its log away: the switch to WAL
        knows no busy timeout."""
        give_up = time.monotonic() + BUSY_TIMEOUT
        while True:
            connection = sqlite3.connect(
                str(self._path),
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
                factory=Connection,
            )
            try:
                for pragma in _PRAGMAS + pragmas:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                return connection
            except sqlite3.DatabaseError as error:
                connection.close()
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
            time.sleep(0.02)

    def _open(self) -> None:
        try:
            self._own.connection = self._connect()
        except sqlite3.OperationalError as error:
            raise DataDirError(
                f"{self._path} cannot be opened ({error}); make the folder writable, or restore "
                "the file from a backup"
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.DatabaseError) -> DataDirError:
        return DataDirError(
            f"{self._path} cannot be used ({error}); restore it from a backup, or move it away"
        )

    def _migrate(self) -> None:
        try:
            with self.write():
                version = self.sql("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    raise DataDirError(
                        f"{self._path} was written by a newer robotni (format {version}, this one "
                        f"knows {VERSION}); upgrade with pip install -U robotni"
                    )
                for step in MIGRATIONS[version:]:
                    for statement in step:
                        self.sql(statement)
                if version < VERSION:  # to write it again would cost a wait for the disk
                    self.sql(f"PRAGMA user_version = {VERSION}")
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads within see one state of the database, and no writer waits for them."""
        with self._transaction("DEFERRED"):
            yield

    @contextmanager
    def write(self) -> Iterator[None]:
        """One durable transaction; StorageFull when the disk has no room for it."""
        with self._lock, self._turn_at_the_file(), self._writing(), self._transaction():
            yield

    def together(self, work: Callable[[], Result]) -> Result:
        """`work` in a durable transaction, with that of the threads that wait for their turn; its
        result once all is on the disk. What it raises is raised here, and undoes its part alone; on
        a full disk nobody's is stored. It may run in another thread, on that one's connection."""
        return self.all_together([work])[0].outcome()

    def all_together(self, works: Sequence[Callable[[], Result]]) -> "List[Share[Result]]":
        """The same for several pieces of work of one thread, each undone alone if it fails."""
        shares = [Share(work) for work in works]
        self._shares.extend(shares)
        with self._lock:
            if not all(share.is_over for share in shares):
                self._commit_shares()
        return shares

    def _commit_shares(self) -> None:
        shares: List[Share[Any]] = []
        try:
            with self._turn_at_the_file():
                self._take_shares(shares)
                with self._writing(), self._transaction():
                    for share in shares:
                        self._run(share, apart=len(shares) > 1)
            for share in shares:
                share.is_stored = True
        except Exception as error:
            self._take_shares(shares)
            for share in shares:
                share.error = share.error or error
        finally:
            for share in shares:
                share.is_over = True

    def _take_shares(self, shares: "List[Share[Any]]") -> None:
        """All that wait, unless some have been taken already."""
        if not shares:
            shares += [self._shares.popleft() for _ in range(len(self._shares))]

    def _run(self, share: "Share[Any]", apart: bool) -> None:
        if apart:
            self.sql("SAVEPOINT share")
        try:
            share.run()
        except sqlite3.OperationalError:  # SQLite may have rolled back everybody's
            raise
        except Exception as error:
            share.error = error
            if not apart:
                raise
            self.sql("ROLLBACK TO share")
        if apart:
            self.sql("RELEASE share")

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        connection = self.connection
        try:
            connection.execute(f"BEGIN {kind}")
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:  # of what failed at the disk SQLite may have rolled back
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and _is_full(error):
                raise StorageFull(
                    f"the disk with {self._path} is full; make room and try again"
                ) from None
            raise

    @contextmanager
    def _turn_at_the_file(self) -> Iterator[None]:
        turn = take_lock(self._turn, wait=True)
        try:
            yield
        finally:
            release_lock(turn)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Has this thread use the connection for writing. There is one, so that what it knows of
        the file stays true from one write of this process to the next."""
        if self._writer is None:
            self._writer = self._connect(*self._of_the_writer)
        own = self._own.__dict__
        reading, own["connection"] = own.get("connection"), self._writer
        try:
            yield
        finally:
            if reading is None:
                del own["connection"]
            else:
                own["connection"] = reading

    def shrink_log(self) -> None:
        """Empties the write-ahead log when it is over LOG_LIMIT, so that the file ends again where
        it began. Waits 0.1 s for readers to be done; while some always read, it must grow on."""
        log = self._path.with_name(f"{self._path.name}-wal")
        if not log.exists() or log.stat().st_size < LOG_LIMIT:
            return
        with self._lock, self._turn_at_the_file():
            try:
                self.sql("PRAGMA busy_timeout = 100")
                self.sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.sql(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT}")


def _is_full(error: sqlite3.OperationalError) -> bool:
    return "disk is full" in str(error) or "disk I/O error" in str(error)
