"""A script as an RQ job; `rq worker-pool -n 4`. A job whose worker dies is found, and failed."""

import os
import subprocess

from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS"]))


def script(argv):
    subprocess.run(argv, check=True)


def submit(argv):
    return queue.enqueue(script, argv)


def is_done(job):
    status = job.get_status(refresh=True)
    if status == "failed":
        raise RuntimeError("an RQ job failed")
    return status == "finished"
