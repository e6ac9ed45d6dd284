"""A script as an RQ job; `rq worker-pool -n 4`."""

import os
import subprocess
import time

from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS"]))


def script(argv):
    subprocess.run(argv, check=True)


def submit(argv):
    return queue.enqueue(script, argv)


def wait(jobs):
    """The registry of finished jobs is asked once in a while, which costs less than each job."""
    ids = {job.id for job in jobs}
    while True:
        ids -= set(queue.finished_job_registry.get_job_ids(cleanup=False))
        if not ids:
            return
        if queue.failed_job_registry.get_job_ids(cleanup=False):
            raise SystemExit("an RQ job failed")
        time.sleep(0.01 if len(ids) < 40 else 0.1)
