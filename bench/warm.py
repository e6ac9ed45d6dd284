"""Warm runs against cold ones, measured on this machine: `python bench/warm.py` in robotni's venv.

start        milliseconds from POST to the first line of the script, idle worker
throughput   no-op scripts submitted over HTTP until all are terminal, in rounds in turn; as a
             ratio to `xargs -P4` running the same scripts with the same interpreter
numpy        milliseconds of a script that imports numpy, from the arrival of its run in the
             shim to the end of all its processes, as `exit.json` tells: with the evidence of
             the start on disk, without HTTP and queue; --venv names an environment with numpy
"""

import argparse
import json
import os
import platform
import signal
import statistics
import tempfile
import time
import venv
from pathlib import Path

import httpx
from first import STAMP, report, run_all, run_xargs, serve, starts, submit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--venv", type=Path, help="one with numpy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        venv.create(project / ".venv", with_pip=False, symlinks=True)
        (project / "stamp.py").write_text(STAMP)
        (project / "noop.py").write_text("")
        (project / "arrays.py").write_text("import numpy\n")
        roots = [project, given.venv.resolve()] if given.venv else [project]
        os.environ["ROBOTNI_SCRIPT_ROOTS"] = ":".join(map(str, roots))
        server, client = serve(project)
        try:
            print(f"{platform.python_version()} on {os.cpu_count()} cores")
            measure(client, project, given)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def measure(client: httpx.Client, project: Path, given: argparse.Namespace) -> None:
    for warm in (False, True):
        run_all(client, 8, warm=warm)  # the worker and its shims are up
        values = starts(client, project, given.starts, warm=warm)
        report(f"{said(warm)} start, ms", values)
        print(f"{'':20} p99    {sorted(values)[int(0.99 * (len(values) - 1))]:8.2f}")
    rates = {False: [], True: []}
    xargs = []
    for _ in range(given.rounds):
        xargs.append(given.jobs / run_xargs(project, given.jobs))
        for warm, found in rates.items():
            found.append(given.jobs / run_all(client, given.jobs, warm=warm))
    report("xargs -P4, jobs/s", xargs)
    for warm, found in rates.items():
        report(f"{said(warm)}, jobs/s", found)
        report("ratio to xargs", [a / b for a, b in zip(found, xargs)])
    if given.venv:
        numpy = {warm: arrays(client, project, given.venv, given.rounds, warm) for warm in rates}
        for warm, found in numpy.items():
            report(f"numpy {said(warm)}, ms", found)
        cold, warm = (statistics.median(numpy[warm]) for warm in (False, True))
        print(f"numpy, warm is {cold / warm:.1f} times as quick")


def said(warm: bool) -> str:
    return "warm" if warm else "cold"


def arrays(
    client: httpx.Client, project: Path, path: Path, rounds: int, warm: bool
) -> "list[float]":
    fields = {"warm": True, "preload": ["numpy"]} if warm else {}
    values = []
    for _ in range(3 * rounds + 1):
        job_id = submit(client, "arrays.py", **{"venv": str(path.resolve()), **fields})
        values.append(duration(client, project, job_id))
    return values[1:]  # the first one waited for the import


def duration(client: httpx.Client, project: Path, job_id: str) -> float:
    while client.get(f"/api/worker/jobs/{job_id}").json()["status"] != "completed":
        time.sleep(0.02)
    facts = json.loads((project / "data" / "jobs" / job_id / "1" / "exit.json").read_text())
    return 1000 * (facts["finishedAt"] - facts["startedAt"])


if __name__ == "__main__":
    main()
