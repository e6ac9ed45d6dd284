"""A second process that holds a lock, or listens to a FIFO."""

import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

HOLDER = """
import sys
from pathlib import Path
from robotni.system.locks import take_lock
from robotni.system.wakeup import listen
fd = {call}(Path(sys.argv[1]))
print("none" if fd is None else "held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start_holder() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a process that calls `take_lock` or `listen` on a path; it prints `held` or `none`."""
    processes: List[subprocess.Popen[str]] = []

    def start(path: Path, call: str = "take_lock") -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(call=call), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
