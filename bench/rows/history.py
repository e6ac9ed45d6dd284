"""List, filter, open, status with a thousand and with a million jobs of history.

The databases are made by SQL from three jobs that really ran: each row is a copy of one, with an id
and times of its own, through robotni's own triggers. Milliseconds are the round trip of one
keep-alive connection on loopback, nothing subtracted. The ratio is the growth from the small
database to the big one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from house import House
from server import Robotni
from table import Figure, percentile

from robotni.consumer.maintenance import CLEAN_BATCH
from robotni.storage.queue_messages import JobTickets
from robotni.storage.store import Store

SMALL = 1000
CLEANED = 10  # batches in a round; there must be enough of them in the small form of the bench
SAMPLES = 40
DAYS = 20  # less than RETENTION_DAYS
PATH = "/api/worker/jobs"


def measure(house: House) -> list[Figure]:
    big_count = house.given.history
    small, big = _servers(house, SMALL, big_count)
    samples = min(SAMPLES, 8 * house.given.starts)
    tasks = {}
    for call in _calls(small):
        for name, server in (("small", small), ("big", big)):
            path = _calls(server)[call]
            tasks[f"{call}/{name}"] = lambda server=server, path=path: _p50(server, path, samples)
    tasks["clean"] = lambda: _longest_turn(big)
    found = house.each_round(tasks)
    figures = []
    for call in _calls(small):
        few, many = found[f"{call}/small"], found[f"{call}/big"]
        figures.append(Figure("history", f"{call}, {big_count:,} jobs, p50", "", "ms", many, few))
        figures[-1].goal, figures[-1].ratio_goal = "<= 10", "<= 1.5"
    what = f"the clean-up holds the write lock, {big_count:,} jobs, longest"
    return [*figures, Figure("history", what, "", "ms", found["clean"], goal="<= 50")]


def _longest_turn(server: Robotni) -> float:
    """Of the transactions in which the clean-up deletes the oldest jobs, as the worker does."""
    store = Store(server.data / "robotni.db", JobTickets())
    found = []
    for _ in range(CLEANED):
        job_ids = store.cleanup.ended_before(time.time(), CLEAN_BATCH)
        began = time.monotonic()
        store.cleanup.delete(job_ids, 0)
        found.append(1000 * (time.monotonic() - began))
    store.close()
    return max(found)


def _p50(server: Robotni, path: str, samples: int) -> float:
    found = []
    for _ in range(samples):
        began = time.monotonic()
        status, _ = server.wire.call("GET", path)
        found.append(1000 * (time.monotonic() - began))
        if status != 200:
            raise RuntimeError(f"GET {path}: {status}")
    return percentile(found, 0.5)


def _calls(server: Robotni) -> dict[str, str]:
    """Paths by what they do; the deep page begins in the middle of the history, and the job that is
    opened is one that ran, so its output is read, too."""
    with closing(sqlite3.connect(f"file:{server.data}/robotni.db?mode=ro", uri=True)) as db:
        count = db.execute("SELECT sum(jobs) FROM tally").fetchone()[0]
        sql = "SELECT job_id FROM job ORDER BY job_id LIMIT 1 OFFSET ?"
        (middle,) = db.execute(sql, (count // 2,)).fetchone()
        (real,) = db.execute("SELECT job_id FROM job WHERE name = 'nap.py'").fetchone()
    calls = {
        "list of 50": PATH,
        "a page in the middle": f"{PATH}?cursor={middle}",
        "filter by status": f"{PATH}?status=failed",
        "filter by two states": f"{PATH}?status=failed,cancelled",
        "filter by project": f"{PATH}?project=project-3",
        "filter by name": f"{PATH}?q=script-7",
        "filter by status and project": f"{PATH}?status=completed&project=project-3",  # 50 in both
        "failed ones of a project that has none": f"{PATH}?status=failed&project=nightly",
        "filter by an unknown project": f"{PATH}?project=nobody",
        "open": f"{PATH}/{real}",
        "status": "/api/worker/status",
    }
    if "/api/worker/stats" in server.calls:
        calls["stats of 24 h"] = "/api/worker/stats?window=24h"
    return calls


def _servers(house: House, few: int, many: int) -> list[Robotni]:
    """Two servers, whose three sample jobs were multiplied; no worker is needed then."""
    maker = Robotni(house.project, "small")
    samples = _sample_jobs(house, maker)
    maker.close()
    big = maker.data.with_name("big")
    shutil.copytree(maker.data, big, ignore=_fifos)
    _multiply(f"{maker.data}/robotni.db", samples, few)
    began = time.monotonic()
    _multiply(f"{big}/robotni.db", samples, many)
    house.notes.append(f"{many:,} jobs were written in {time.monotonic() - began:.0f} s.")
    return [house.robotni_server(name, autostart=0) for name in ("small", "big")]


def _fifos(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_fifo()]


def _sample_jobs(house: House, maker: Robotni) -> list[str]:
    """Ids of a completed, a failed and a cancelled job."""
    completed = maker.submit("nap.py")
    failed = maker.submit("stamp.py")  # without the argument it needs
    cancelled = maker.submit("noop.py", delay=1000)
    maker.wire.json("DELETE", f"{PATH}/{cancelled}")
    for job_id in (completed, failed):
        while maker.job(job_id)["finishedAt"] is None:
            time.sleep(0.02)
    return [completed, failed, cancelled]


def _multiply(path: str, samples: list[str], count: int) -> None:
    """Of 20 jobs 17 are completed, 2 failed and 1 is cancelled, spread over DAYS, 17 projects, 101
    names, and a project `nightly` of one in 20, none of which failed. All in one transaction; what
    needs no durability is not made durable."""
    oldest = time.time() - DAYS * 86400
    step = DAYS * 86400 / count
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as db:
        db.execute("PRAGMA synchronous = off")
        db.execute("PRAGMA cache_size = -400000")
        columns = [row[1] for row in db.execute("PRAGMA table_info(job)")]
        at = f"({oldest} + n.n * {step})"
        changed = {
            "job_id": f"printf('%012x7%03x8%015x', CAST({at} * 1000 AS INTEGER), n.n % 4096, n.n)",
            "timestamp": at,
            "project": "CASE n.n % 20 WHEN 0 THEN 'nightly' ELSE 'project-' || (n.n % 17) END",
            "name": "'script-' || (n.n % 101) || '.py'",
            "started_at": f"{at} + (job.started_at - job.timestamp)",
            "finished_at": f"{at} + (job.finished_at - job.timestamp)",
            "pending_since": at,
        }
        values = ", ".join(changed.get(column, f"job.{column}") for column in columns)
        kind = "CASE WHEN n.n % 20 < 17 THEN ? WHEN n.n % 20 < 19 THEN ? ELSE ? END"
        numbers = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < ?)"
        parameters: list[Any] = [count - len(samples) - 1, *samples]
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            f"INSERT INTO job ({', '.join(columns)}) {numbers} "
            f"SELECT {values} FROM n CROSS JOIN job ON job.job_id = {kind}",
            parameters,
        )
        db.execute(
            "INSERT OR REPLACE INTO attempt_tally (hour, started, timed_out) "
            "SELECT CAST(started_at / 3600 AS INTEGER), count(*), 0 FROM job "
            "WHERE started_at > ? GROUP BY 1",
            (time.time() - 2 * 86400,),
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "rb") as file:
        os.fsync(file)  # else the first who syncs, while it is measured, writes all of it
