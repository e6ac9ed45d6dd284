"""The power is cut at a random moment: what was acknowledged is there when it comes back.

The data directory lies on an ext4 in a file. A cut is a copy of that file while the submitters
stand still: what they wrote and did not sync is in the page cache of the mount, not in the file.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Tuple

from robotni.store import Store
from robotni.tests.faults.mounts import mounted, needs_mount
from robotni.tests.processes import eventually
from robotni.tickets import JobTickets

CUTS = 20
SUBMITTER = """
import sys
from pathlib import Path
from robotni.request import JobRequest
from robotni.tests.conftest import House

house = House(Path(sys.argv[1]), data_dir=Path(sys.argv[2]))
while True:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    print(job.job_id, flush=True)
"""


def test_20_cuts_of_the_power_lose_nothing_that_was_acknowledged(project: Path) -> None:
    needs_mount("mkfs.ext4", "losetup")
    (project / "submitter.py").write_text(SUBMITTER)
    dice = random.Random(7)
    disk, copy = project / "disk.img", project / "copy.img"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(disk)], check=True)
    seen = [0]
    with mounted(project / "disk", "-o", "loop", str(disk)) as mount:
        command = [sys.executable, "submitter.py", str(project), str(mount / "data")]
        with open(project / "acknowledged", "wb") as told:
            submitter = subprocess.Popen(command, cwd=project, stdout=told)
        try:
            for cut in range(CUTS):
                eventually(lambda: len(told_by(project)) > seen[-1])
                time.sleep(dice.random() * 0.2)
                os.kill(submitter.pid, signal.SIGSTOP)
                eventually(lambda: state_of(submitter.pid) == "T")
                before = told_by(project)
                copy.write_bytes(disk.read_bytes())
                os.kill(submitter.pid, signal.SIGCONT)
                seen.append(len(before))
                with mounted(project / "copy", "-o", "loop", str(copy)) as after:
                    assert found_after(after, before) == ([], 0, []), f"cut {cut}"
        finally:
            submitter.kill()
            submitter.wait()
    print(f"{CUTS} cuts, {seen[-1]} acknowledged, 0 lost")


def found_after(mount: Path, acknowledged: List[str]) -> Tuple[List[str], int, List[str]]:
    """(jobs lost, tickets lost, faults of the database) when the power is back."""
    store = Store(mount / "data" / "robotni.db", JobTickets())
    lost = [job_id for job_id in acknowledged if store.get(job_id) is None]
    found = lost, store.mend_tickets(), store.faults()
    store.close()
    return found


def told_by(project: Path) -> List[str]:
    return (project / "acknowledged").read_text().split()


def state_of(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2 :][:1]
