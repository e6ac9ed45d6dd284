"""A script as a Dramatiq actor; `dramatiq --processes 2 --threads 2`."""

import os
import subprocess

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
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


def wait(messages):
    for message in messages:
        message.get_result(block=True, timeout=120_000)
