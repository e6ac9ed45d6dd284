"""A script as a Huey task; `huey_consumer -w 4`, threads, on a SQLite file or on Redis."""

import os
import subprocess
import time

from huey import RedisHuey, SqliteHuey

if "BENCH_REDIS" in os.environ:
    huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])
else:
    huey = SqliteHuey("bench", filename=os.environ["BENCH_FILE"])


@huey.task()
def script(argv):
    subprocess.run(argv, check=True)
    return 0


def submit(argv):
    return script(argv)


def wait(results):
    """Results are counted; waiting for each by itself would sleep up to a second too long."""
    while (left := len(results) - huey.result_count()) > 0:
        time.sleep(0.01 if left < 40 else 0.1)
    for result in results:
        result.get()  # raises where the script failed, and takes it out
