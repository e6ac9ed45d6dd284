"""`robotni stop`: ends the server and the worker of a data directory, and scripts if asked to.

It needs neither URL nor token, only the data directory, and trusts no pid: a `robotni serve` holds
the FIFO `stop_server` open, the worker holds the worker lock.
"""

import time
from typing import Callable, List, Tuple

from robotni.engine.engine import Engine
from robotni.errors import Conflict
from robotni.jobs.models import Job
from robotni.jobs.states import RUNNING
from robotni.storage.queries import Filters
from robotni.storage.run_files import RunFiles
from robotni.system.datadir import DataDir
from robotni.system.locks import is_locked
from robotni.system.wakeup import has_listener, notify

STOP_TIMEOUT = 6.0
CLOSE_TIMEOUT = 3.0
_POLL_INTERVAL = 0.05


def cancel_running(engine: Engine, timeout: float) -> int:
    """Cancels every running job and waits until its processes have ended; the number of jobs.

    To be called after the worker has stopped, which would start the next jobs at once. The next
    worker completes the cancelled runs from their evidence.
    """
    runs = _live_runs(engine)
    for job, _ in runs:
        try:
            engine.cancel(job.job_id)
        except Conflict:
            pass  # it has ended meanwhile
    wait_until(lambda: not any(run.is_locked() for _, run in runs), timeout)
    return len(runs)


def count_running(engine: Engine) -> int:
    """The number of scripts that run now, with or without a worker."""
    return len(_live_runs(engine))


def _live_runs(engine: Engine) -> List[Tuple[Job, RunFiles]]:
    """The running jobs whose shim lives, each with the files of its run."""
    jobs = engine.jobs(Filters(status=[RUNNING]))
    outputs = [(job, engine.output(job.job_id)) for job in jobs]
    runs = [(job, output.run_files) for job, output in outputs if output is not None]
    return [(job, run) for job, run in runs if run.is_locked()]


def is_served(datadir: DataDir) -> bool:
    """Whether a `robotni serve` is running, which needs the worker."""
    return has_listener(datadir.stop_server)


def running_parts(datadir: DataDir) -> List[str]:
    """Those of `server` (a `robotni serve`) and `worker` that are running."""
    parts = (("server", is_served(datadir)), ("worker", is_locked(datadir.worker_lock)))
    return [name for name, is_running in parts if is_running]


def stop_server(datadir: DataDir) -> bool:
    """Tells every `robotni serve` to end as on Ctrl-C; whether all have."""
    return wait_until(lambda: not notify(datadir.stop_server), STOP_TIMEOUT)


def stop_worker(datadir: DataDir) -> bool:
    """Tells the worker to exit; whether it has. Running scripts go on under their shims."""

    def has_exited() -> bool:
        if not is_locked(datadir.worker_lock):
            return True
        notify(datadir.stop_worker)
        return False

    return wait_until(has_exited, STOP_TIMEOUT)


def wait_until_closed(engine: Engine, datadir: DataDir) -> bool:
    """Waits until no process has the database open, so that it can be copied: the last one to
    close it removes the write-ahead log. A server that is just exiting is waited for; an app that
    mounts robotni may keep it open."""
    engine.close()
    log = datadir.database.with_name(f"{datadir.database.name}-wal")
    return wait_until(lambda: not log.exists(), CLOSE_TIMEOUT)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Checks `condition` until it is true or `timeout` seconds have passed; whether it is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_INTERVAL)
    return True
