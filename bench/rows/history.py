"""List, filter, open and status with a long history; the ratio is to a history of 1,000 jobs.

The databases are made by SQL from three jobs that really ran: each row is a copy of one, with an id
and times of its own, through robotni's own triggers. Milliseconds are the round trip of one
keep-alive connection.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systems import Robotni
from table import Figure, percentile

if TYPE_CHECKING:
    from run import Bench

SMALL = 1000
SAMPLES = 40
DAYS = 20  # less than RETENTION_DAYS
JOBS = "/api/worker/jobs"


def measure(bench: Bench) -> list[Figure]:
    servers = _servers(bench)
    calls = [_calls(server) for server in servers]
    samples = min(SAMPLES, 8 * bench.starts)
    found: dict[str, list[list[float]]] = {what: [[], []] for what in calls[0]}
    try:
        for _ in range(bench.rounds):
            for what, values in found.items():
                for server, paths, figures in zip(servers, calls, values):
                    figures.append(_p50(server, paths[what], samples))
    finally:
        for server in servers:
            server.close()
    return [
        Figure("history", f"{what}, {bench.history:,} jobs, p50", "robotni", "ms", many, few)
        for what, (few, many) in found.items()
    ]


def _p50(server: Robotni, path: str, samples: int) -> float:
    found = []
    for _ in range(samples):
        began = time.monotonic()
        server.wire.json("GET", path)
        found.append(1000 * (time.monotonic() - began))
    return percentile(found, 0.5)


def _calls(server: Robotni) -> dict[str, str]:
    with closing(sqlite3.connect(f"file:{server.data}/robotni.db?mode=ro", uri=True)) as db:
        count = db.execute("SELECT count(*) FROM job").fetchone()[0]
        sql = "SELECT job_id FROM job ORDER BY job_id LIMIT 1 OFFSET ?"
        (middle,) = db.execute(sql, (count // 2,)).fetchone()
        (real,) = db.execute("SELECT job_id FROM job WHERE name = 'nap.py'").fetchone()
    return {
        "list of 50": JOBS,
        "a page in the middle": f"{JOBS}?cursor={middle}",
        "filter by status": f"{JOBS}?status=failed",
        "filter by two states": f"{JOBS}?status=failed,cancelled",
        "filter by project": f"{JOBS}?project=project-3",
        "filter by name": f"{JOBS}?q=script-7",
        "filter by status and project": f"{JOBS}?status=completed&project=project-3",
        "failed ones of a project without any": f"{JOBS}?status=failed&project=nightly",
        "open": f"{JOBS}/{real}",
        "status": "/api/worker/status",
        "stats of 24 h": "/api/worker/stats?window=24h",
    }


def _servers(bench: Bench) -> list[Robotni]:
    maker = Robotni(bench.project, "small")
    completed, failed = maker.submit("nap.py"), maker.submit("stamp.py")  # it lacks its argument
    cancelled = maker.submit("noop.py", delay=1000)
    maker.wire.json("DELETE", f"{JOBS}/{cancelled}")
    for job_id in (completed, failed):
        maker.wait(job_id)
    maker.close()
    big = maker.data.with_name("big")
    shutil.copytree(maker.data, big, ignore=lambda at, names: [
        name for name in names if Path(at, name).is_fifo()
    ])  # fmt: skip
    for data, count in ((maker.data, SMALL), (big, bench.history)):
        _multiply(f"{data}/robotni.db", [completed, failed, cancelled], count)
    return [Robotni(bench.project, name, autostart=0) for name in ("small", "big")]


def _multiply(path: str, samples: list[str], count: int) -> None:
    """Of 20 jobs 17 completed, 2 failed, 1 cancelled, spread over DAYS, 17 projects and 101 names;
    of the project `nightly` none failed."""
    oldest = time.time() - DAYS * 86400
    at = f"({oldest} + n.n * {DAYS * 86400 / count})"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as db:
        db.execute("PRAGMA synchronous = off")
        db.execute("PRAGMA cache_size = -400000")
        columns = [row[1] for row in db.execute("PRAGMA table_info(job)")]
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
        db.execute(
            f"INSERT INTO job ({', '.join(columns)}) {numbers} "
            f"SELECT {values} FROM n CROSS JOIN job ON job.job_id = {kind}",
            parameters,
        )
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "rb") as file:
        os.fsync(file)  # or the first fsync that is measured writes all of it
