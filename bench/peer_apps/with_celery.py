"""A script as a Celery task; `celery worker --pool prefork --concurrency 4`."""

import os
import subprocess

from celery import Celery

app = Celery("with_celery", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,  # a task whose worker dies is run again
    task_reject_on_worker_lost=bool(os.environ["BENCH_DURABLE"]),
    worker_prefetch_multiplier=1 if os.environ["BENCH_DURABLE"] else 64,
    broker_connection_retry_on_startup=True,
)


@app.task(name="script")
def script(argv):
    subprocess.run(argv, check=True)


def submit(argv):
    return script.delay(argv)


def is_done(result):
    if result.failed():
        raise RuntimeError("a Celery task failed")
    return result.ready()
