"""A script as a Celery task; `celery worker --pool prefork --concurrency 4`."""

import os
import subprocess

from celery import Celery
from celery.result import ResultSet

app = Celery("with_celery", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,  # a task whose worker dies runs again, which is robotni's promise too
    worker_prefetch_multiplier=64,  # the optimizing guide's word for many short tasks
    broker_connection_retry_on_startup=True,
)


@app.task(name="script")
def script(argv):
    subprocess.run(argv, check=True)


def submit(argv):
    return script.delay(argv)


def wait(results):
    ResultSet(results, app=app).get(timeout=120)
