"""`robotni stop`: the server and the worker of a data directory leave; scripts only if told so.

Works on the data directory alone, so it needs neither URL nor token, and no pid is trusted: who
holds the `stop` FIFO is a server of ours, who holds the worker lock is the worker.
"""

import time
from typing import Callable

from robotni.datadir import DataDir, is_locked, ring
from robotni.engine import Engine
from robotni.job import RUNNING
from robotni.listing import Filters
from robotni.rundir import RunDir

LEAVES_WITHIN = 6.0
_LOOK_EVERY = 0.05


def cancel_running(engine: Engine, datadir: DataDir, within: float) -> int:
    """Cancels all that runs and waits for the end of its processes; how many there were.

    What the last worker does not settle any more is settled by the next, from its evidence.
    """
    running, _ = engine.list(Filters(status=[RUNNING]), None, 200)
    for job in running:
        engine.cancel(job.job_id)
    locks = [RunDir(datadir.jobs, job.job_id, job.run).lock for job in running]
    _wait(lambda: not any(is_locked(lock) for lock in locks), within)
    return len(running)


def send_server_away(datadir: DataDir) -> bool:
    """Asks every `robotni serve` to end as on Ctrl-C; whether none is left."""
    return _wait(lambda: not ring(datadir.stop), LEAVES_WITHIN)


def send_worker_away(datadir: DataDir) -> bool:
    """Asks the worker to leave; whether it has. Scripts that run go on under their shims."""

    def gone() -> bool:
        if not is_locked(datadir.worker_lock):
            return True
        ring(datadir.leave)
        return False

    return _wait(gone, LEAVES_WITHIN)


def _wait(condition: Callable[[], bool], within: float) -> bool:
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_EVERY)
    return True
