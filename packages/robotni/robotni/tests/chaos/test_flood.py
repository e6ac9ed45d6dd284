"""Floods of output: constant memory, the cap on disk, the true count, and no script stuck."""

import time
from pathlib import Path
from typing import Any, Iterator

import psutil
import pytest

from robotni.tests.calls import serving
from robotni.tests.processes import Server, eventually

GIB = 1 << 30
CAP = 1 << 20
MEMORY = 50_000_000  # of a shim or a worker, at most
FLOOD = f"""
import os
block = b"x" * (1 << 20)
for _ in range({2 * GIB} >> 20):
    view = block
    while view:
        view = view[os.write(1, view):]
"""
# On a slow disk the shim falls behind; here it stands still for a second.
LINES = """
import sys, time
end = time.monotonic() + 3
number = 0
while time.monotonic() < end:
    for _ in range(1000):
        sys.stdout.write("line %d\\n" % number)
        number += 1
sys.stdout.flush()
with open(__import__("os").environ["ROBOTNI_RESULT"], "w") as result:
    result.write(str(number))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("flood"), max_output=CAP)


def test_2_gib_of_output_cost_constant_memory_and_the_cap_on_disk(server: Server) -> None:
    job_id = server.submit(FLOOD)
    server.wait_for(job_id, "running")
    most = 0
    while server.client.get(job_id)["status"] == "running":
        for process in [*server.shims(), *server.workers()]:
            try:
                most = max(most, process.memory_info().rss)
            except psutil.Error:  # gone meanwhile
                pass
        time.sleep(0.1)
    job = server.client.get(job_id)
    assert (job["status"], job["outputBytes"], job["outputTruncated"]) == (
        "completed",
        2 * GIB,
        True,
    )
    sizes = [log.stat().st_size for log in server.data.glob(f"jobs/{job_id}/*/output*")]
    assert len(sizes) == 3
    assert sum(sizes) <= CAP
    assert 0 < most < MEMORY, most


def test_a_shim_that_stands_still_holds_a_chatty_script_up_but_not_for_ever(
    server: Server,
) -> None:
    job_id = server.submit(LINES)
    log: Any = eventually(lambda: sorted(server.data.glob(f"jobs/{job_id}/1/output")))
    eventually(lambda: log[0].stat().st_size > 1000)
    (shim,) = [p for p in server.shims() if p.children()]
    shim.suspend()
    time.sleep(1)
    shim.resume()
    job = server.wait_for(job_id)
    assert job["status"] == "completed"
    lines = job["result"]
    assert lines > 100_000
    assert job["outputBytes"] == sum(len(f"line {n}\n") for n in range(lines))
    assert Path(log[0]).stat().st_size == min(CAP // 2, job["outputBytes"])
