"""One system call fails, once: each that a worker and a shim make on the path of one job.

strace injects the error. Whatever it is, the machine is at fault, not the job: it is run all the
same, once, with its own end, result and output; output that was dropped is said. The table of call,
error and outcome is printed (`pytest -s`). A few of the cases for each change, all with ROUNDS.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from robotni.tests.chaos.rounds import rounds
from robotni.tests.processes import end_all

ERRORS = ("EMFILE", "ENFILE", "ENOMEM", "EIO", "ENOSPC", "EDQUOT", "EAGAIN", "EINTR")
# Memory, clocks, signals and threads of the interpreter; what never fails; and `close`, which an
# injected error keeps from closing.
LEFT_OUT = re.compile(
    r"mmap|munmap|mremap|mprotect|brk|madvise|futex|rt_sig|clock_|gettid|getpid|getppid|exit|"
    r"set_robust|rseq|prctl|close|restart_syscall|getuid|geteuid|getrandom|umask|"
    r"sched_|getpriority|prlimit|setsid|times|sysinfo|uname"
)
CALL = re.compile(r"^(?:\d+ +)?(\w+)\(([^,)]*)", re.MULTILINE)

# Runs jobs as a thread of a worker does; each line it reads is one step.
DRIVER = """
import json, sys, time, traceback
from pathlib import Path
from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House

house = House(Path(sys.argv[1]), kill_grace=1)
executor, recovery = house.executor, house.executor.recovery
recovery.sweep()
request = JobRequest(script="job.py", venv=".venv")


def look():
    for job in iter(recovery.next_to_adopt, None):
        recovery.adopt(job)
    if house.store.get(job_id).status == "pending":
        executor.run(job_id)


while True:
    warm_up = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    while not house.engine.get(warm_up.job_id).is_terminal:
        executor.run(warm_up.job_id)
    job_id = house.engine.submit(request).job.job_id
    house.store.get(job_id)
    print(json.dumps({"shim": executor.shim_pool._idle[-1].pid}), flush=True)
    if not sys.stdin.readline():
        break
    began = time.monotonic()
    while True:
        try:
            look()  # what a thread of the worker does
            recovery.sweep_if_due()
            job = house.engine.get(job_id)
            if job.is_terminal or time.monotonic() - began > 20:
                break
            if time.monotonic() - began > 3:
                recovery.sweep()  # as it does each minute
        except Exception:
            traceback.print_exc()
        time.sleep(0.02)
    print(json.dumps({
        "status": job.status, "code": job.error and job.error.code, "attempt": job.attempt,
        "run": job.run, "result": job.result, "output": job.output,
        "truncated": job.output_truncated, "message": job.error and job.error.message,
    }), flush=True)
house.close()
"""
JOB = """
import json, os
with open("starts", "a") as file:
    file.write("S")
with open(os.environ["ROBOTNI_RESULT"], "w") as file:
    json.dump({"rows": 7}, file)
print("worked")
"""


class Driver:
    def __init__(self, project: Path, strace: str) -> None:
        self.project = project
        self.strace = strace
        (project / "job.py").write_text(JOB)
        (project / "driver.py").write_text(DRIVER)
        self.said = open(project / "said", "a+")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "driver.py", str(self.project)],
            cwd=self.project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )

    def close(self) -> None:
        self.process.communicate(timeout=30)  # it ends when it can read nothing
        self.said.close()
        end_all(self.project)

    def read(self) -> Dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.project / "said").read_text()[-3000:]
        found: Dict[str, Any] = json.loads(line)
        return found

    def run(self, part: str, *options: str) -> Dict[str, Any]:
        """Runs one job while strace follows the worker's thread, or the shim."""
        (self.project / "starts").write_text("")
        shim = self.read()["shim"]
        pid = shim if part == "shim" else self.process.pid
        tracer = subprocess.Popen(
            [self.strace, "-p", str(pid), *options], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None and self.process.stdin is not None
        assert "attached" in tracer.stderr.readline()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        ended = self.read()
        tracer.terminate()
        tracer.communicate(timeout=10)
        ended["starts"] = (self.project / "starts").read_text()
        return ended

    def calls(self, part: str) -> List[Tuple[str, int]]:
        """(name, number) of each call on the path of one job."""
        log = self.project / "calls"
        assert self.run(part, "-o", str(log))["status"] == "completed"
        numbers: Counter[str] = Counter()
        found = []
        for name, first in CALL.findall(log.read_text()):
            numbers[name] += 1
            is_driver = part == "worker" and name in ("read", "write") and first in ("0", "1")
            if not LEFT_OUT.match(name) and not is_driver:
                found.append((name, numbers[name]))
        return found


@pytest.fixture
def driver(project: Path, strace: str) -> Iterator[Driver]:
    driver = Driver(project, strace)
    yield driver
    driver.close()


def outcome(ended: Dict[str, Any]) -> str:
    if ended["status"] != "completed":
        return f"BAD: {ended['status']} {ended['code']}: {ended['message']}"
    if ended["starts"] != "S":
        return f"BAD: started {len(ended['starts'])} times"
    if ended["result"] != {"rows": 7}:
        return f"BAD: result {ended['result']}"
    if ended["output"] != "worked\n" and not ended["truncated"]:
        return f"BAD: output {ended['output']!r}"
    if ended["attempt"] != 1:
        return f"BAD: attempt {ended['attempt']}"
    said = "completed" if ended["run"] == 1 else "put back, then completed"
    return said + (", output dropped and said" if ended["truncated"] else "")


@pytest.mark.parametrize("part", ["worker", "shim"])
def test_one_failing_system_call_is_never_taken_for_the_job_s(driver: Driver, part: str) -> None:
    calls = driver.calls(part)
    cases = [(name, number, error) for name, number in calls for error in ERRORS]
    step = (37 // rounds(1)) | 1  # odd, so that it takes all errors in turn
    table: Dict[Tuple[str, str, str], int] = Counter()
    try:
        for name, number, error in cases[::step]:
            inject = f"inject={name}:error={error}:when={number}"
            ended = driver.run(part, "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)
            found = outcome(ended)
            table[name, error, f"{found} (call {number})" if "BAD" in found else found] += 1
    finally:
        print(f"\n{part}: call, error, outcome, times")
        for (name, error, found), times in sorted(table.items()):
            print(f"  {name:16} {error:8} {found} x{times}")
    assert [row for row in sorted(table) if "BAD" in row[2]] == []
