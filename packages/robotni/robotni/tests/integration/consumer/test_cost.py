"""What a job costs, counted, so that growth is seen: statements, transactions, disk waits."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import pytest

from robotni.jobs.request import JobRequest
from robotni.storage.queries import Filters
from robotni.tests.conftest import House, statements

RUNNING = """
import sys
from pathlib import Path
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House, statements

house = House(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"
house.close()
"""


def run_one(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"


def traced(house: House, jobs: int) -> "tuple[int, int]":
    """(transactions, statements beside their BEGIN and COMMIT) while `jobs` are submitted at once
    and then run."""
    said: List[str] = []
    with statements(house, said):
        submitted = [
            house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
            for _ in range(jobs)
        ]
        house.executor.run(submitted[0].job_id)
    assert all(house.engine.get(job.job_id).status == "completed" for job in submitted)
    once = [s for s, before in zip(said, ["", *said]) if s != before]  # triggers say it again
    begun = sum(s.startswith("BEGIN IMMEDIATE") for s in once)
    assert begun == sum(s.startswith("COMMIT") for s in once)
    return begun, sum(not s.startswith(("BEGIN", "COMMIT", "--")) for s in once)


def test_a_job_costs_three_transactions_and_twelve_statements(house: House) -> None:
    run_one(house)  # the first one opens what is opened once
    transactions, statements = traced(house, 1)
    assert transactions == 3  # submit, claim, finish
    assert statements <= 12


def test_a_job_that_follows_another_costs_two_transactions(house: House) -> None:
    run_one(house)
    one, ten = traced(house, 1), traced(house, 10)
    assert ten[0] - one[0] == 9 * 2  # submit; finish, and with it the claim of the next
    assert ten[1] - one[1] <= 9 * 11


def steps(house: House, ask: Callable[[], Any]) -> int:
    """What SQLite does for `ask`, in hundreds of steps of its machine."""
    taken: List[int] = []
    connection = house.store._db.connection
    connection.set_progress_handler(lambda: taken.append(1), 100)
    ask()
    connection.set_progress_handler(None, 100)
    return len(taken)


@pytest.mark.parametrize("delay", [None, 60])
def test_the_first_of_many_that_wait_is_found_without_a_look_at_the_others(
    house: House, delay: Any
) -> None:
    request = JobRequest.model_validate({"script": "hello.py", "venv": ".venv", "delay": delay})
    for _ in range(300):
        house.engine.submit(request)
    store, now = house.store, house.clock.now
    for ask in (store.oldest_pending, store.next_due, lambda: store.due(now)):
        assert steps(house, ask) <= 1
    assert steps(house, lambda: store.list(Filters(), None, 200)) > 10  # it counts


def test_a_job_waits_for_the_disk_seven_times_and_never_between_claim_and_start(
    project: Path,
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("to count the waits for the disk takes strace (apt install strace)")
    (project / "running.py").write_text(RUNNING)
    calls = "fsync,fdatasync,sync,syncfs,fork,vfork,clone,clone3"
    command = [strace, "-f", "-qq", "-o", "calls", "-e", f"trace={calls}", "-e", "signal=none"]
    command += [sys.executable, "running.py", str(project), "11"]
    subprocess.run(command, cwd=project, check=True)
    seen = re.findall(r"^\d+ +(\w+)\(", (project / "calls").read_text(), re.MULTILINE)
    order = "".join("s" if "sync" in call else "f" for call in seen)
    # submit, claim, start; the output and the three folders above it; finish
    assert ("ss" + "f" + "ssss" + "s") * 10 in order, order
