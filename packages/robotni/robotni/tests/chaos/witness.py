"""The witness: a job that says where it began and ended, and what its lines prove.

`S <job> <attempt> <place>` at the start, `E <job> <attempt>` at the end, appended to one file that
nothing of robotni touches. A place is a lock: whoever starts takes the first free one, one after
another, so a place of number WORKERS or more proves that too many scripts lived at once.
Some leave a process behind: `fork` holds the output, `clean` has no environment.
"""

from collections import Counter
from pathlib import Path
from typing import List, NamedTuple, Tuple

SCRIPT = """\
import fcntl, os, sys, time

folder, seconds, leaves = sys.argv[1:]
job, attempt = os.environ["ROBOTNI_JOB_ID"], os.environ["ROBOTNI_ATTEMPT"]
lines = os.open(folder + "/lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def say(*words):
    os.write(lines, (" ".join(map(str, words)) + "\\n").encode())

def lock(name, flags):
    fd = os.open(folder + "/" + name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd

gate = lock("gate", 0)
place = 0
while True:
    held = lock("place-%d" % place, fcntl.LOCK_NB)
    if held is not None:
        break
    place += 1
os.close(gate)
say("S", job, attempt, place)
if leaves != "nothing" and os.fork() == 0:
    os.close(held)
    os.setsid()
    if os.fork() == 0:
        if leaves == "clean":
            code = "import time; time.sleep(600)"
            os.execve(sys.executable, [sys.executable, "-S", "-E", "-c", code, folder], {})
        time.sleep(600)
    os._exit(0)
print("begin", flush=True)
time.sleep(float(seconds))
print("end", flush=True)
say("E", job, attempt)
"""
LEAVES = ("nothing",) * 8 + ("fork", "clean")


class Testimony(NamedTuple):
    """What the lines say; a key is (job id, attempt)."""

    starts: "Counter[Tuple[str, int]]"
    ends: "Counter[Tuple[str, int]]"
    places: List[int]

    def twice(self, counted: "Counter[Tuple[str, int]]") -> int:
        return sum(1 for times in counted.values() if times > 1)


def read(folder: Path) -> Testimony:
    """What the scripts said so far."""
    path = folder / "lines"
    words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return Testimony(
        Counter((w[1], int(w[2])) for w in words if w[0] == "S"),
        Counter((w[1], int(w[2])) for w in words if w[0] == "E"),
        [int(w[3]) for w in words if w[0] == "S"],
    )
