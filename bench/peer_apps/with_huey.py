"""A script as a Huey task; `huey_consumer -w 4`, threads, on a SQLite file or on Redis.

It removes a task when a worker takes it, and has no setting to acknowledge late.
"""

import os
import subprocess

from huey import RedisHuey, SqliteHuey

if "BENCH_REDIS" in os.environ:
    huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])
else:
    fsync = bool(os.environ["BENCH_DURABLE"])  # synchronous = FULL
    huey = SqliteHuey("bench", filename=os.environ["BENCH_FILE"], fsync=fsync)


@huey.task()
def script(argv):
    subprocess.run(argv, check=True)
    return 0


def submit(argv):
    return script(argv)


def is_done(result):
    return result.get() is not None  # raises where the script failed
