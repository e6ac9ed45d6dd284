"""A script as a Dramatiq actor; `dramatiq --processes 2 --threads 2`, which acknowledges late."""

import os
import subprocess

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=0)
def script(argv):
    subprocess.run(argv, check=True)
    return 0


def submit(argv):
    return script.send(argv)


def is_done(message):
    try:
        message.get_result()  # raises where the script failed
    except ResultMissing:
        return False
    return True
