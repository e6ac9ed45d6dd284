"""The starter: the web process's side of waking a worker, and of starting one when none lives.

A ring that nobody hears means no worker. One is started then, detached, under a lock, so that a
burst of submits starts one; it is tried again with growing pauses when it dies at once. It also
looks for what nobody notifies for: a due job, a job whose submitter was killed before he rang, an
orphaned run, midnight, and a worker of an older version, which the one started then sends away.
Twice a second, but where no worker lives and none is needed only when a job is due, when the kernel
tells of a write to the database, and twice a minute: nobody tells of midnight, or of a clock that
was set. A look after seconds of rest may cost 20 ms of CPU where waking up is dear.
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Set

from robotni import log
from robotni.settings import PREFIX, Settings
from robotni.system.datadir import DataDir
from robotni.system.locks import take_lock
from robotni.system.wakeup import has_listener, notify
from robotni.system.worker_lock import NO_INTERPRETERS, has_older_worker, read_report
from robotni.web.inotify import Changes

LOOK_EVERY = 0.5  # with the start of a worker, within the second that is promised
LOOK_AT_LEAST_EVERY = 30.0
START_WITHIN = 10.0
MAX_PAUSE = 60.0
MAX_LOG = 5 << 20
_PROGRAM = str(Path(__file__).parents[1] / "__main__.py")


class Autostart:
    """`ring` is called after each commit and never waits; a thread of its own does the rest."""

    def __init__(
        self,
        settings: Settings,
        datadir: DataDir,
        environ: Mapping[str, str],
        needs_worker_in: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._datadir = datadir
        self._environ = environ
        self._needs_worker_in = needs_worker_in
        self._thread: Optional[threading.Thread] = None
        self._begin = threading.Lock()
        self._call: Optional[socket.socket] = None
        self._stopped = threading.Event()
        self._children: List[subprocess.Popen[bytes]] = []
        self._pause = 0.0
        self._not_before = 0.0

    def notify(self) -> None:
        """Wakes a worker, or has one started."""
        if not notify(self._datadir.wakeup):
            self.watch()
            self._wake()

    def is_worker_running(self) -> bool:
        """Whether a worker listens; it holds the bell from its start to its end."""
        return has_listener(self._datadir.wakeup)

    def warm(self) -> Dict[str, int]:
        """How many warm interpreters the worker has, and their memory."""
        if not self.is_worker_running():
            return dict(NO_INTERPRETERS)
        return read_report(self._datadir.warm)

    def watch(self) -> None:
        """Has a thread keep a worker alive as long as there is work, unless it does already.

        Called at the start of a server, and with every request: an app that is mounted in another
        is told of no start, and a fork takes no threads along.
        """
        if self._is_watching() or not self._settings.autostart:
            return
        with self._begin:
            if not self._is_watching():
                self._stopped.clear()
                self._hang_up()  # what a fork has left
                self._call, called = socket.socketpair()
                self._call.setblocking(False)
                called.setblocking(False)
                self._thread = threading.Thread(
                    target=self._watch, args=(called,), name="starter", daemon=True
                )
                self._thread.start()

    def stop(self, within: float = 5) -> None:
        """Starts no more workers. One that is being started is waited for, so that whoever then
        sends the worker away finds it."""
        self._stopped.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(within)
        self._hang_up()
        for child in self._children:
            if child.poll() is None:
                child.returncode = 0  # no child of ours any more: it outlives us

    def _is_watching(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wake(self) -> None:
        call = self._call
        if call is not None:
            with suppress(OSError):  # woken often enough, or it has ended
                call.send(b"!")

    def _hang_up(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def _watch(self, called: socket.socket) -> None:
        with called, closing(Changes(self._datadir.path)) as changes:
            while not self._stopped.is_set():
                _wait(self._look(), called, changes)

    def _look(self) -> float:
        """Has a worker if one is needed; seconds until one will be, if nothing is written."""
        try:
            if self._may_start():
                rest = 0.0 if has_older_worker(self._datadir) else self._needs_worker_in()
                if rest > 0:
                    return 0.0 if self._children else rest  # one that leaves is to be collected
                self._start()
        except Exception:  # a full disk must not end the watch
            log.failed("start of a worker")
        return 0.0

    def _may_start(self) -> bool:
        self._children = [child for child in self._children if child.poll() is None]
        return time.monotonic() >= self._not_before and not self._is_served()

    def _is_served(self) -> bool:
        """Whether a worker listens that is no older than this web process."""
        return self.is_worker_running() and not has_older_worker(self._datadir)

    def _start(self) -> None:
        lock = take_lock(self._datadir.spawn_lock)
        if lock is None:
            return  # another web process is at it
        try:
            child = self._spawn()
            give_up = time.monotonic() + START_WITHIN
            while child.poll() is None and time.monotonic() < give_up:
                if self._is_served():
                    self._pause = 0.0
                    return
                time.sleep(0.01)
        finally:
            os.close(lock)
        if child.poll() is not None and not self._is_served():
            self._pause = min(MAX_PAUSE, max(1.0, self._pause * 2))
            self._not_before = time.monotonic() + self._pause
            log.worker_died(child.returncode, self._pause)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        """By path, so that nothing in the working directory can pass for robotni."""
        with open(_open_log(self._datadir.worker_log), "ab") as log:
            child = subprocess.Popen(
                [sys.executable, _PROGRAM, "worker", "--on-demand"],
                cwd=str(self._settings.project_folder),
                env=self._worker_environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _worker_environ(self) -> Dict[str, str]:
        env = {n: v for n, v in self._environ.items() if not n.startswith(PREFIX)}
        return {**env, **self._settings.to_environ()}


def _wait(rest: float, called: socket.socket, changes: Changes) -> None:
    """Until it is time for another look, or somebody calls. A change is looked at a little later,
    lest a server that stores much for tomorrow looks each time."""
    if rest and changes.fd is not None:
        needed_at = time.monotonic() + rest
        if _ready(min(rest, LOOK_AT_LEAST_EVERY), called.fileno(), changes.fd) == {changes.fd}:
            _ready(min(LOOK_EVERY, needed_at - time.monotonic()), called.fileno())
    else:
        _ready(LOOK_EVERY, called.fileno())
    changes.forget()
    with suppress(BlockingIOError):
        called.recv(65536)


def _ready(seconds: float, *fds: int) -> Set[int]:
    """Which can be read within that time; `poll` takes descriptors of over 1,024, too."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(1000 * max(0.0, seconds))}


def _open_log(path: Path) -> int:
    try:
        if path.stat().st_size > MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
