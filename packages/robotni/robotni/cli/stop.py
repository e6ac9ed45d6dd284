"""`robotni stop`: the server and the worker of a data directory leave; scripts only if told so.

Works on the data directory alone, so it needs neither URL nor token, and no pid is trusted: who
holds the `stop` FIFO is a server of ours, who holds the worker lock is the worker.
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

LEAVES_WITHIN = 6.0
RESTS_WITHIN = 3.0
_LOOK_EVERY = 0.05


def cancel_running(engine: Engine, datadir: DataDir, within: float) -> int:
    """Cancels all that runs and waits for the end of its processes; how many there were.

    Comes after the worker has left, which would fill the free places at once. What it does not
    settle any more is settled by the next worker, from the evidence.
    """
    runs = _runs(engine, datadir)
    for job, _ in runs:
        try:
            engine.cancel(job.job_id)
        except Conflict:
            pass  # it ended by itself meanwhile
    _wait(lambda: not any(run.is_held() for _, run in runs), within)
    return len(runs)


def count_running(engine: Engine, datadir: DataDir) -> int:
    """How many scripts run now, whether or not a worker minds them."""
    return len(_runs(engine, datadir))


def _runs(engine: Engine, datadir: DataDir) -> List[Tuple[Job, RunFiles]]:
    """The jobs whose run lives, each with its files."""
    jobs = engine.jobs(Filters(status=[RUNNING]))
    runs = [(job, RunFiles(datadir.jobs, job.job_id, job.run)) for job in jobs]
    return [(job, run) for job, run in runs if run.is_held()]


def is_served(datadir: DataDir) -> bool:
    """Whether a `robotni serve` lives, which needs the worker."""
    return has_listener(datadir.stop_server)


def running_parts(datadir: DataDir) -> List[str]:
    """Of `server` and `worker`, those that are there; a server is a `robotni serve`."""
    lives = (("server", is_served(datadir)), ("worker", is_locked(datadir.worker_lock)))
    return [who for who, does in lives if does]


def stop_server(datadir: DataDir) -> bool:
    """Asks every `robotni serve` to end as on Ctrl-C; whether none is left."""
    return _wait(lambda: not notify(datadir.stop_server), LEAVES_WITHIN)


def stop_worker(datadir: DataDir) -> bool:
    """Asks the worker to leave; whether it has. Scripts that run go on under their shims."""

    def gone() -> bool:
        if not is_locked(datadir.worker_lock):
            return True
        notify(datadir.stop_worker)
        return False

    return _wait(gone, LEAVES_WITHIN)


def wait_until_closed(engine: Engine, datadir: DataDir) -> bool:
    """Waits until nobody has the database open, so that it may be copied: who closes it last takes
    its log away. A server that has left says goodbye yet, and counts for it; but an app around
    another one may go on."""
    engine.close()
    log = datadir.database.with_name(f"{datadir.database.name}-wal")
    return _wait(lambda: not log.exists(), RESTS_WITHIN)


def _wait(condition: Callable[[], bool], within: float) -> bool:
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_EVERY)
    return True
