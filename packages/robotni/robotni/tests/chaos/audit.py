"""The audit: what a storm left, counted against the promises. Every count has to be 0.

It believes three witnesses that know nothing of each other: what clients saw over HTTP, what the
scripts wrote themselves, and the rows and files of the data directory.
"""

import stat
from pathlib import Path
from typing import Dict, List, Set

from robotni.jobs.models import Job
from robotni.jobs.states import COMPLETED, LOST
from robotni.storage.run_files import RunFiles
from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.chaos import witness


def audit(
    data: Path, testimony: witness.Testimony, acknowledged: List[str], workers: int
) -> Dict[str, int]:
    """Counts over a data directory that nobody uses any more."""
    datadir = DataDir(data)
    store = Store(datadir)
    try:
        jobs = [job for job in map(store.get, acknowledged) if job is not None]
        return {
            "acknowledged jobs missing": len(acknowledged) - len(jobs),
            "jobs submitted twice": len(acknowledged) - len(set(acknowledged)),
            "started twice in one attempt": testimony.twice(testimony.starts),
            "ended twice in one attempt": testimony.twice(testimony.ends),
            "completed without its end": sum(_is_unproven(job, testimony) for job in jobs),
            "called lost though it had ended": sum(_lost_in_spite(datadir, job) for job in jobs),
            "scripts over WORKERS at once": sum(place >= workers for place in testimony.places),
            "faults of the database": len(store.integrity_errors()),
            "files that piled up": len(_strangers(datadir)),
        }
    finally:
        store.close()


def _is_unproven(job: Job, testimony: witness.Testimony) -> bool:
    return job.status == COMPLETED and not testimony.ends[job.job_id, job.attempt]


def _lost_in_spite(datadir: DataDir, job: Job) -> int:
    lost: Set[int] = {a.run for a in job.attempts if a.error is not None and a.error.code == LOST}
    return sum(RunFiles(datadir.jobs, job.job_id, run).exit_facts() is not None for run in lost)


def _strangers(datadir: DataDir) -> List[Path]:
    """Files beside the jobs that are none of the fixed few, and sockets anywhere."""
    fixed = {str(path.name) for path in vars(datadir).values()}
    fixed |= {
        ".gitignore",
        "boot.tmp",
        "write.lock",
        "database.lock",
        "worker.log.1",
        "robotni.db-wal",
        "robotni.db-shm",
    }
    beside = [path for path in datadir.path.iterdir() if path.name not in fixed]
    return beside + [
        path for path in datadir.jobs.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)
    ]
