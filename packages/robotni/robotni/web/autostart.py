"""Wakes the worker after a submit, and starts one when none lives and one is needed.

`notify` is called after each commit and wakes a worker at once, or has one started. A thread checks
when the next job is due, and once a second for needs that nothing announces: a job whose submitter
was killed before it could notify, a run whose worker died, midnight, a worker of an older version,
which a new one replaces. A worker is started detached, under a lock, so that a burst of submits
starts one; when it dies at once, the next try waits longer.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

from robotni import log
from robotni.errors import DatabaseReplaced
from robotni.settings import PREFIX, Settings
from robotni.system.datadir import DataDir
from robotni.system.locks import take_lock
from robotni.system.wakeup import has_listener, notify
from robotni.system.worker_lock import NO_INTERPRETERS, has_older_worker, read_report

CHECK_INTERVAL = 1.0
START_TIMEOUT = 10.0  # seconds for a new worker to listen
MAX_BACK_OFF = 60.0
MAX_LOG = 5 << 20
_PROGRAM = str(Path(__file__).parents[1] / "__main__.py")


class Autostart:
    """`needs_worker_in` gives the seconds until a worker will find something to do, 0 for now."""

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
        self._thread_lock = threading.Lock()
        self._check_now = threading.Event()
        self._stopped = threading.Event()
        self._children: List[subprocess.Popen[bytes]] = []
        self._back_off = 0.0
        self._not_before = 0.0

    def notify(self) -> None:
        """Wakes a worker, or has one started; does not wait for it."""
        if not notify(self._datadir.wakeup):
            self.start()
            self._check_now.set()

    def is_worker_running(self) -> bool:
        """Whether a worker listens, as it does from its start to its end."""
        return has_listener(self._datadir.wakeup)

    def warm(self) -> Dict[str, int]:
        """The number of standby interpreters of the worker, and their memory."""
        if not self.is_worker_running():
            return dict(NO_INTERPRETERS)
        return read_report(self._datadir.warm)

    def start(self) -> None:
        """Starts the thread that checks, unless it runs already or AUTOSTART is off.

        Called at the start of a server and again with every request: the lifespan of a mounted app
        is not entered, and a forked process has none of its parent's threads.
        """
        if self._is_checking() or not self._settings.autostart:
            return
        with self._thread_lock:
            if not self._is_checking():
                self._stopped.clear()
                self._thread = threading.Thread(
                    target=self._check_repeatedly, name="autostart", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float = 5) -> None:
        """Starts no more workers. Waits for one that is being started, so that the caller finds it
        when it stops the worker next."""
        self._stopped.set()
        self._check_now.set()
        if self._thread is not None:
            self._thread.join(timeout)
        for child in self._children:
            if child.poll() is None:
                child.returncode = 0  # it outlives this process, so nothing is to be collected

    def _is_checking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _check_repeatedly(self) -> None:
        while not self._stopped.is_set():
            needed_in = self._check()
            self._check_now.wait(min(CHECK_INTERVAL, needed_in))
            self._check_now.clear()

    def _check(self) -> float:
        """Starts a worker if one is needed; seconds until a job will be due, if it was not."""
        try:
            if self._may_start():
                is_older = has_older_worker(self._datadir)
                needed_in = 0.0 if is_older else self._needs_worker_in()
                if needed_in > 0:
                    return needed_in
                self._start_worker()
        except DatabaseReplaced:  # a worker would use another file; every call says what to do
            pass
        except Exception:  # a full disk must not end the checks
            log.failed("start of a worker")
        return CHECK_INTERVAL

    def _may_start(self) -> bool:
        self._children = [child for child in self._children if child.poll() is None]
        return time.monotonic() >= self._not_before and not self._has_current_worker()

    def _has_current_worker(self) -> bool:
        """Whether a worker listens that is no older than this web process."""
        return self.is_worker_running() and not has_older_worker(self._datadir)

    def _start_worker(self) -> None:
        lock = take_lock(self._datadir.spawn_lock)
        if lock is None:
            return  # another web process starts one
        try:
            child = self._spawn()
            deadline = time.monotonic() + START_TIMEOUT
            while child.poll() is None and time.monotonic() < deadline:
                if self._has_current_worker():
                    self._back_off = 0.0
                    return
                time.sleep(0.01)
        finally:
            os.close(lock)
        if child.poll() is not None and not self._has_current_worker():
            self._back_off = min(MAX_BACK_OFF, max(1.0, self._back_off * 2))
            self._not_before = time.monotonic() + self._back_off
            log.worker_died(child.returncode, self._back_off)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        """By path, so that nothing in the working directory is taken for robotni."""
        with open(_open_log(self._datadir.worker_log), "ab") as log_file:
            child = subprocess.Popen(
                [sys.executable, _PROGRAM, "worker", "--on-demand"],
                cwd=str(self._settings.project_folder),
                env=self._worker_environ(),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _worker_environ(self) -> Dict[str, str]:
        env = {n: v for n, v in self._environ.items() if not n.startswith(PREFIX)}
        return {**env, **self._settings.to_environ()}


def _open_log(path: Path) -> int:
    try:
        if path.stat().st_size > MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
