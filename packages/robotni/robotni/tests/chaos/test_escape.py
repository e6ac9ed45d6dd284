"""The escape kit: whatever a script leaves behind is gone, also for a user who is not root.

Each round runs a script that leaves one of each kind, and ends in one of the four ways. The same
kinds one by one, with names, are in `test_shim.py`.
"""

import json
import os
import subprocess
import sys
import tempfile

import pytest

from robotni.tests.chaos.rounds import rounds
from robotni.tests.integration.shim.test_shim import ESCAPE_KIT, ESCAPES
from robotni.tests.nobody import NOBODY

SYSTEM_PYTHON = "/usr/bin/python3"  # one that any user can start; a shim is content with any
# A tree that forks anew every 2 ms tells by a growing file whether it lives.
TREE = """
def tree():
    pulse = os.open(os.environ["FOLDER"] + "/pulse", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            os.write(pulse, b"x")
            time.sleep(0.002)
        os._exit(0)
tree()
"""
DRIVER = """
import json, os, shutil, sys, time
from pathlib import Path
from robotni.consumer import shim_pool
from robotni.consumer.shim_pool import ShimProcess, StopSignal
from robotni.tests.processes import processes_of
from robotni.tests.integration.shim.test_shim import Launcher

user, rounds, kit, python = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if user:
    copy = Path(shutil.copytree(Path(shim_pool._PROGRAM).parent, "shim"))
    shim_pool._PROGRAM = str(copy.resolve() / "shim.py")
    sys.executable = python
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
folder = Path.cwd()
(folder / "jobs").mkdir()
shim = ShimProcess(folder / "log")
launcher = Launcher(folder / "jobs", shim, StopSignal())
launcher.python = python
left = []
for number in range(rounds):
    for ending in ("normal end", "crash", "timeout", "cancel"):
        tail = {"normal end": "", "crash": "os.abort()"}.get(ending, "time.sleep(60)")
        script = f"{kit}\\ntime.sleep(0.05)\\nprint('ready')\\n{tail}"
        launcher.start(script, timeout=0.7 if ending == "timeout" else 60, grace=0.1)
        if ending == "cancel":
            while "ready" not in launcher.output():
                time.sleep(0.01)
            assert launcher.survivors()
            launcher.run_files.request_cancel()
        launcher.end()
        pulse = launcher.run_files.path / "pulse"
        beats = pulse.stat().st_size if pulse.exists() else 0
        found = [p.pid for p in launcher.survivors()]
        time.sleep(0.01)
        if found or (pulse.exists() and pulse.stat().st_size != beats):
            left.append([number, ending, found])
shim.close()
print(json.dumps(left))
"""


@pytest.mark.parametrize("user", ["the owner of the tests", "nobody"])
def test_of_all_kinds_at_once_nothing_is_left(user: str) -> None:
    if user == "nobody" and os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the other case ran as who you are")
    if user == "nobody" and not os.access(SYSTEM_PYTHON, os.X_OK):
        pytest.skip(f"there is no {SYSTEM_PYTHON}, which any user may start")
    number = NOBODY if user == "nobody" else 0
    kit = "\n".join([ESCAPE_KIT, *ESCAPES.values(), TREE])
    python = SYSTEM_PYTHON if number else os.path.realpath(sys.executable)
    command = [sys.executable, "-c", DRIVER, str(number), str(rounds(2)), kit, python]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where others than root come, too
        if number:
            os.chown(folder, number, number)
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []
