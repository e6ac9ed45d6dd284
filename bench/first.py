"""Two figures of robotni, measured on this machine: `python bench/first.py` in its venv.

    start        milliseconds from POST to the first line of the script, idle worker
    throughput   no-op scripts submitted over HTTP until all are terminal, as a ratio to
                 `xargs -P4` running the same scripts with the same interpreter, interleaved

A ratio of 1.0 would mean that HTTP, the durable queue and the shims cost nothing.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

STAMP = "import time, os; open(os.environ['OUT'], 'w').write(repr(time.time()))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        venv.create(project / ".venv", with_pip=False, symlinks=True)
        (project / "stamp.py").write_text(STAMP)
        (project / "noop.py").write_text("")
        server, client = serve(project)
        try:
            run_all(client, 8)  # the worker and its shims are up
            print(f"{platform.python_version()} on {os.cpu_count()} cores")
            report("start, ms", starts(client, project, given.starts))
            robotni, xargs = [], []
            for _ in range(given.rounds):
                xargs.append(given.jobs / run_xargs(project, given.jobs))
                robotni.append(given.jobs / run_all(client, given.jobs))
            report("xargs -P4, jobs/s", xargs)
            report("robotni, jobs/s", robotni)
            report("ratio", [a / b for a, b in zip(robotni, xargs)])
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def report(what: str, values: "list[float]") -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{what:<20} median {middle:8.2f}   min {low:8.2f}   max {high:8.2f}")


def serve(project: Path) -> "tuple[subprocess.Popen[bytes], httpx.Client]":
    env = {**os.environ, "ROBOTNI_PORT": "0", "ROBOTNI_DATA_DIR": str(project / "data")}
    env["PYTHONUNBUFFERED"] = "1"
    server = subprocess.Popen(
        [sys.executable, "-m", "robotni", "serve"],
        cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    url = server.stdout.readline().split()[-1].decode()
    client = httpx.Client(base_url=url, trust_env=False, timeout=60)
    while True:
        try:
            client.get("/livez")
            return server, client
        except httpx.TransportError:
            time.sleep(0.05)


def submit(client: httpx.Client, script: str, **fields: object) -> str:
    answer = client.post("/api/worker/jobs", json={"script": script, "venv": ".venv", **fields})
    return str(answer.raise_for_status().json()["jobId"])


def starts(client: httpx.Client, project: Path, number: int) -> "list[float]":
    values = []
    out = project / "out"
    for _ in range(number):
        posted = time.time()
        job_id = submit(client, "stamp.py", env={"OUT": str(out)})
        while client.get(f"/api/worker/jobs/{job_id}").json()["finishedAt"] is None:
            time.sleep(0.02)
        values.append(1000 * (json.loads(out.read_text()) - posted))
        time.sleep(0.05)
    return values


def run_all(client: httpx.Client, number: int) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: submit(client, "noop.py"), range(number)))
    while True:
        jobs = client.get("/api/worker/status").json()["jobs"]
        if jobs["pending"] + jobs["running"] == 0:
            return time.monotonic() - began
        time.sleep(0.01)


def run_xargs(project: Path, number: int) -> float:
    began = time.monotonic()
    subprocess.run(
        ["xargs", "-P4", "-n1", str(project / ".venv" / "bin" / "python")],
        input=("noop.py\n" * number).encode(), cwd=project, check=True,
    )  # fmt: skip
    return time.monotonic() - began


if __name__ == "__main__":
    main()
