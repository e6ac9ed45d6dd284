"""The power is cut at a random moment: what was acknowledged is there when it comes back."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Tuple

import psutil

from robotni.storage.store import Store
from robotni.system.datadir import DataDir
from robotni.tests.chaos import process_list as census
from robotni.tests.chaos import witness
from robotni.tests.chaos.audit import audit
from robotni.tests.chaos.mounts import Disk, mounted
from robotni.tests.chaos.rounds import rounds
from robotni.tests.chaos.storm import Storm
from robotni.tests.processes import eventually

SUBMITTER = """
import sys
from pathlib import Path
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House

house = House(Path(sys.argv[1]), data_dir=Path(sys.argv[2]))
while True:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    print(job.job_id, flush=True)
"""


def test_cuts_of_the_power_lose_nothing_that_was_acknowledged(project: Path) -> None:
    (project / "submitter.py").write_text(SUBMITTER)
    cuts = min(20, rounds(8))
    dice = random.Random(7)
    seen = [0]
    with Disk(project / "disk") as disk:
        command = [sys.executable, "submitter.py", str(project), str(disk.where / "data")]
        with open(project / "acknowledged", "wb") as told:
            submitter = subprocess.Popen(command, cwd=project, stdout=told)
        try:
            for cut in range(cuts):
                eventually(lambda: len(told_by(project)) > seen[-1])
                time.sleep(dice.random() * 0.2)
                os.kill(submitter.pid, signal.SIGSTOP)
                eventually(lambda: state_of(submitter.pid) == "T")
                before = told_by(project)
                copy = disk.copy()
                os.kill(submitter.pid, signal.SIGCONT)
                seen.append(len(before))
                with mounted(project / "copy", "-o", "loop", str(copy)) as after:
                    assert found_after(after, before) == ([], []), f"cut {cut}"
                copy.unlink()
        finally:
            submitter.kill()
            submitter.wait()
    print(f"{cuts} cuts, {seen[-1]} acknowledged, 0 lost")


def found_after(mount: Path, acknowledged: List[str]) -> Tuple[List[str], List[str]]:
    """(jobs lost, errors of the database) when the power is back."""
    store = Store(DataDir(mount / "data"))
    lost = [job_id for job_id in acknowledged if store.get(job_id) is None]
    found = lost, store.integrity_errors()
    store.close()
    return found


def told_by(project: Path) -> List[str]:
    return (project / "acknowledged").read_text().split()


def state_of(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2 :][:1]


def test_after_each_cut_under_running_jobs_server_and_worker_go_on_with_what_is_left(
    tmp_path: Path,
) -> None:
    """The witness of starts and ends lies beside the disk, so it keeps what the disk forgets."""
    cuts = min(20, rounds(4))
    dice = random.Random()
    running = 0
    with Disk(tmp_path / "data") as disk, Storm(tmp_path, dice.randrange(99), os.environ) as storm:
        for _ in range(cuts):
            eventually(lambda: scripts_of(storm))
            time.sleep(dice.random() * 1.5)
            freeze(tmp_path)
            running += len(scripts_of(storm))
            left = disk.copy()
            end(tmp_path)
            disk.come_back(left)
            boot_anew(disk.where)
            storm.start()
        counts = {"acknowledged jobs stuck": storm.settle(90)}
        counts["ended jobs that changed"] = storm.changed()
        counts["processes left"] = storm.leave()
        testimony = witness.read(tmp_path)
        (disk.where / "lost+found").rmdir()  # ext4's, none of ours
        counts.update(audit(disk.where, testimony, storm.acknowledged, storm.workers))
        assert {name: count for name, count in counts.items() if count} == {}
        ends = [job["error"]["code"] for job in storm.ended.values() if job["error"]]
    print(f"{cuts} cuts, {running} scripts cut down, {len(storm.acknowledged)} jobs acknowledged,")
    print(f"{sum(testimony.starts.values())} starts, {ends.count('lost')} jobs lost")
    assert running > 0
    assert set(ends) <= {"lost"}


def scripts_of(storm: Storm) -> List[psutil.Process]:
    return [p for p in census.processes_of(storm.data) if census.role_of(p) == "script"]


def freeze(folder: Path) -> None:
    """Stops all that names `folder`, also what is spawned meanwhile."""
    stopped: List[psutil.Process] = []
    while True:
        moving = [p for p in census.processes_of(folder) if p not in stopped]
        if not moving:
            return
        for process in moving:
            try:
                process.suspend()
            except psutil.Error:  # gone meanwhile
                continue
            stopped.append(process)


def end(folder: Path) -> None:
    while [census.kill(process) for process in census.processes_of(folder)]:
        time.sleep(0.01)


def boot_anew(data: Path) -> None:
    """The kernel has drawn another id since."""
    if (data / "boot").exists():
        (data / "boot").write_text("the boot before")
