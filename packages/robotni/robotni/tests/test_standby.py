"""The fork that stands by, and its pages of memory. `test_warm.py` compares what it becomes."""

import ctypes
import mmap
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Iterator

import psutil
import pytest

from robotni.interpreters import WarmSlot
from robotni.shim.rehearsal import PAGE, Pages
from robotni.tests.processes import eventually
from robotni.tests.test_warm import THIS, Bench, is_running, once, pythons, stands_by

pytestmark = [once, pytest.mark.skipif(sys.platform != "linux", reason="it is looked at by /proc")]

PIDS = "import os; print(os.getpid(), os.getppid())"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"), pythons()[THIS])
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def slot(bench: Bench) -> WarmSlot:
    return bench.warm("logging")


def test_it_becomes_the_script(bench: Bench, slot: WarmSlot) -> None:
    for _ in range(3):
        standby = stands_by(slot)
        assert bench.say(slot, PIDS) == f"{standby} {slot.pid}"


def test_runs_in_a_row_do_not_wait_for_one(bench: Bench, slot: WarmSlot) -> None:
    standby = stands_by(slot)
    pids = [bench.say(slot, PIDS).split()[0] for _ in range(5)]
    assert pids[0] == str(standby)
    assert len(set(pids)) == 5


def test_one_that_was_killed_costs_nothing(bench: Bench, slot: WarmSlot) -> None:
    standby = stands_by(slot)
    os.kill(standby, signal.SIGKILL)
    eventually(lambda: not is_running(standby))
    pid, parent = bench.say(slot, PIDS).split()
    assert (int(pid) != standby, int(parent)) == (True, slot.pid)


def test_signals_that_came_before_its_order_are_not_the_script_s(
    bench: Bench, slot: WarmSlot
) -> None:
    standby = stands_by(slot)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN):
        os.kill(standby, number)
    assert bench.say(slot, PIDS) == f"{standby} {slot.pid}"


def test_a_run_that_is_stopped_at_once_is_told_so(bench: Bench, slot: WarmSlot) -> None:
    """The signal may come before the order is read: it is not lost."""
    for _ in range(20):
        stands_by(slot)
        facts = bench.start(slot, b"import time; time.sleep(60)", timeout=0, grace=20).end(slot)
        assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGTERM)
        assert facts["finishedAt"] - facts["startedAt"] < 10


def test_an_order_that_is_long_goes_to_a_new_fork(bench: Bench, slot: WarmSlot) -> None:
    standby = stands_by(slot)
    env = bench.environ(LONG="x" * 100_000, FOLDER=str(bench.folder))
    said = bench.say(slot, f"{PIDS}\nprint(len(os.environ['LONG']))", env=env).split()
    assert (said[0] != str(standby), said[1:]) == (True, [str(slot.pid), "100000"])
    assert not psutil.pid_exists(standby)


def test_a_folder_that_is_gone_is_told_and_the_next_run_is_none_the_worse(
    bench: Bench, slot: WarmSlot
) -> None:
    standby = stands_by(slot)
    facts = bench.start(slot, b"", cwd=str(bench.folder / "gone")).end(slot)
    assert "could not be started in" in facts["spawnError"]
    assert bench.say(slot, PIDS) == f"{standby} {slot.pid}"


def test_it_runs_in_a_folder_that_cannot_be_listed(bench: Bench, slot: WarmSlot) -> None:
    folder = bench.folder / "closed"
    folder.mkdir(mode=0o300)
    stands_by(slot)
    assert bench.say(slot, "import os; print(os.getcwd())", cwd=str(folder)) == str(folder)


def test_a_script_that_was_edited_meanwhile_is_run_as_it_is_now(
    bench: Bench, slot: WarmSlot
) -> None:
    for number in range(3):
        stands_by(slot)  # with the code of before
        assert bench.say(slot, f"print({number})") == str(number)


def test_it_has_no_descriptor_but_its_own(bench: Bench, slot: WarmSlot) -> None:
    standby = stands_by(slot)
    fds = f"/proc/{standby}/fd"
    eventually(lambda: len(os.listdir(fds)) == 3)
    assert os.readlink(f"{fds}/1") == os.devnull
    assert os.readlink(f"{fds}/2") == str(bench.log)


@pytest.mark.parametrize("end", ["is let go", "is killed"])
def test_it_leaves_with_its_shim(bench: Bench, end: str) -> None:
    slot = bench.warm()
    standby = stands_by(slot)
    os.kill(standby, signal.SIGSTOP)
    if end == "is let go":  # also one that does not listen
        slot.close()
        slot.reap()
        assert not slot.is_alive()
    else:
        os.kill(standby, signal.SIGCONT)
        os.kill(slot.pid, signal.SIGKILL)
    eventually(lambda: not is_running(standby), 3)


def test_it_counts_as_memory_of_its_interpreter(bench: Bench, slot: WarmSlot) -> None:
    standby = stands_by(slot)
    together = slot.memory()
    os.kill(standby, signal.SIGKILL)
    eventually(lambda: not is_running(standby))
    assert 1 << 19 < together - slot.memory() // 2 < 1 << 26


def private(pid: int) -> int:
    """Bytes of memory that no other process has."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line[:8] == "Private_")


def test_what_every_run_writes_to_is_copied_ahead(bench: Bench, slot: WarmSlot) -> None:
    """Counted in faults, which copy a page, until the script reads how many there were."""
    script = "import os; print(os.read(os.open('/proc/self/stat', 0), 999).decode())"
    bench.say(slot, script)
    standby = stands_by(slot)
    eventually(lambda: private(standby) > 200 * PAGE)
    before = faults(Path(f"/proc/{standby}/stat").read_text())
    ahead = faults(bench.say(slot, script)) - before
    alone = faults(bench.say(slot, script))
    assert ahead < alone / 2 < before


def faults(stat: str) -> int:
    return int(stat[stat.rindex(")") + 2 :].split()[7])


def test_pages_are_copied_and_stay_what_they_are(tmp_path: Path) -> None:
    count = 3000
    memory = mmap.mmap(-1, count * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for number in range(count):
        memory[number * PAGE] = number % 251
    pages = Pages([*range(begin, begin + count * PAGE, PAGE), PAGE])  # the last is nobody's
    told, teller = os.pipe()
    if os.fork() == 0:
        pages.copy()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for number in range(count):
            memory[number * PAGE + 1] = 1
        faulted = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        same = all(memory[number * PAGE] == number % 251 for number in range(count))
        os.write(teller, f"{same} {faulted}".encode())
        os._exit(0)
    os.wait()
    same, faulted = os.read(told, 100).decode().split()
    assert (same, int(faulted) < count / 10) == ("True", True)
