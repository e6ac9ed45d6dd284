"""The worker as a process: started on demand, one of it, gone when idle, stock Huey commands."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List

import psutil
import pytest

from robotni.consumer.consumer import as_batch
from robotni.shim import slices
from robotni.tests.conftest import House
from robotni.tests.paths import ENTRIES
from robotni.tests.processes import STACKS, Server, clean_environ, eventually

BIN = Path(sys.executable).parent

needs_no_filter = pytest.mark.skipif(
    "Seccomp:\t0" not in Path("/proc/self/status").read_text(),
    reason="system calls are filtered here, so the worker leaves its policy alone",
)
needs_slices = pytest.mark.skipif(
    slices.slice_of() is None or [int(n) for n in platform.release().split(".")[:2]] < [6, 12],
    reason="the kernel lets nobody choose his slices",
)


def consumer_runs(server: Server) -> bool:
    return bool(server.client.status()["workers"]["consumer"] == "running")


def test_the_worker_is_started_by_need_and_leaves_when_idle(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(idle_exit=1)
    eventually(lambda: server.workers() == [])  # the day's clean-up may have started one
    for _ in range(2):
        job_id = server.submit("print('hello')")
        assert server.wait_for(job_id)["status"] == "completed"
        eventually(lambda: server.workers() == [])
        assert not consumer_runs(server)
        assert server.shims() == []


def test_no_job_is_stranded_around_the_idle_exit(make_server: Callable[..., Server]) -> None:
    server = make_server(idle_exit=0.3)
    jobs = []
    for number in range(30):
        jobs.append(server.submit("pass"))
        time.sleep(0.3 + 0.01 * (number % 20))
    for job_id in jobs:
        assert server.wait_for(job_id)["status"] == "completed"
    assert server.worker_log().count("idle, gone") >= 3


IDLE = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
FILTER = """
import ctypes, os, platform, struct
call = {"x86_64": 144, "aarch64": 119}[platform.machine()]  # sched_setscheduler
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
control = ctypes.CDLL(None).prctl
assert control(38, 1, 0, 0, 0) == control(22, 2, program, 0, 0) == 0
"""


@needs_no_filter
def test_scripts_are_batch_for_the_scheduler_and_the_server_is_not(server: Server) -> None:
    assert policies(server) == [os.SCHED_BATCH, os.SCHED_BATCH]
    assert server.process is not None
    assert os.sched_getscheduler(server.process.pid) == os.sched_getscheduler(0)


@pytest.mark.parametrize(
    ("before", "policy"), [(IDLE, os.SCHED_IDLE), (FILTER, os.SCHED_OTHER)], ids=["idle", "filter"]
)
def test_a_policy_chosen_from_outside_stays_and_so_it_does_where_calls_are_filtered(
    project: Path, before: str, policy: int
) -> None:
    """A filter may answer an unwanted call by death."""
    server = Server(project)
    follow = "\nimport os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    try:
        server.start(sys.executable, "-c", before + follow, *STACKS["fast"])
        assert policies(server) == [policy, policy]
    finally:
        server.close()


@needs_no_filter
def test_who_ran_a_worker_is_scheduled_afterwards_as_before() -> None:
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    before = slices.slice_of()
    with as_batch():
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        assert slices.slice_of() in (slices.LONG, before)  # kernels before 6.12 know no choice
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert slices.slice_of() == before


SLICES = """
import multiprocessing, os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from robotni.shim.slices import slice_of

def late():
    time.sleep({late})
    sys.stdout.write(f"{{slice_of()}}\\n")
    sys.stdout.flush()

work = [threading.Thread(target=late), multiprocessing.get_context("fork").Process(target=late)]
for each in work:
    each.start()
if os.fork() == 0:  # its parent ends at once, so that the shim has it
    if os.fork() == 0:
        late()
        open("late", "w").close()
    os._exit(0)
late()
for each in work:
    each.join()
while not os.path.exists("late"):
    time.sleep(0.01)
os.unlink("late")
"""


@needs_no_filter
@needs_slices
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_script_has_long_slices_at_first_and_ordinary_ones_when_it_goes_on(
    server: Server, warm: bool
) -> None:
    def slices_after(seconds: float) -> List[int]:
        """Of its first thread, of another one, of a process below it, of one that it let go."""
        text, root = SLICES.format(late=seconds), str(Path(slices.__file__).parents[2])
        job = server.wait_for(server.submit(text, args=[root], warm=warm))
        return [int(line) for line in job["output"].split()]

    # On a busy machine a script may come to its line late, and the shim to its turn.
    eventually(lambda: slices_after(0) == 4 * [slices.LONG])
    eventually(lambda: slices_after(0.4) == 4 * [slices.slice_of()])


@needs_no_filter
@needs_slices
def test_slices_that_a_script_has_chosen_stay() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for chosen, then in ((3_000_000, 3_000_000), (slices.LONG, slices.slice_of())):
        slices.set_slice(chosen, sleeper.pid)
        slices.shorten()
        assert slices.slice_of(sleeper.pid) == then
    sleeper.communicate(b"\n")
    slices.shorten()  # nobody is there any more
    assert slices.slice_of(sleeper.pid) is None


@needs_no_filter
@needs_slices
def test_slices_that_were_chosen_for_the_server_stay() -> None:
    own = slices.slice_of()
    slices.set_slice(5_000_000)
    try:
        with as_batch():
            assert os.sched_getscheduler(0) == os.SCHED_BATCH
            assert slices.slice_of() == 5_000_000
        assert (os.sched_getscheduler(0), slices.slice_of()) == (os.SCHED_OTHER, 5_000_000)
    finally:
        slices.set_slice(slices.OWN)
    assert slices.slice_of() == own


@needs_no_filter
@needs_slices
def test_who_changes_his_policy_as_his_slices_are_shortened_has_his_own() -> None:
    """What was read of a thread is not true any more as it is written."""
    attributes = slices._attributes(0)
    assert attributes is not None
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        slices._set(attributes, slices.OWN, 0)
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def policies(server: Server) -> List[int]:
    """What a cold script and a warm one are for the kernel's scheduler."""
    text = "import os; print(os.sched_getscheduler(0))"
    jobs = [server.wait_for(server.submit(text, warm=warm)) for warm in (False, True)]
    return [int(job["output"]) for job in jobs]


def test_a_burst_of_submits_starts_one_worker(server: Server) -> None:
    jobs = [server.submit("pass") for _ in range(20)]
    for job_id in jobs:
        server.wait_for(job_id)
    assert server.worker_log().count("worker started") == 1


def test_of_many_workers_one_lives(server: Server) -> None:
    job_id = server.submit("pass")
    server.wait_for(job_id)
    crowd = [server.start_worker("--on-demand") for _ in range(5)]
    for worker in crowd:
        worker.wait(20)
    assert len(server.workers()) == 1
    assert server.wait_for(server.submit("pass"))["status"] == "completed"


def test_a_worker_started_by_hand_takes_over(server: Server) -> None:
    long = server.submit("import time; print('once'); time.sleep(2)")
    server.wait_for(long, "running")
    (old,) = server.workers()
    by_hand = server.start_worker()
    old.wait(10)
    job = server.wait_for(long)
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "once\n")
    assert server.wait_for(server.submit("pass"))["status"] == "completed"
    assert [p.pid for p in server.workers()] == [by_hand.pid]
    by_hand.terminate()
    by_hand.wait(3)


def test_without_autostart_jobs_wait_for_a_worker_by_hand(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(autostart=0, idle_exit=0.2)
    job_id = server.submit("pass")
    time.sleep(1)
    assert server.client.get(job_id)["status"] == "pending"
    worker = server.start_worker()
    assert server.wait_for(job_id)["status"] == "completed"
    time.sleep(1)
    assert worker.poll() is None  # no idle exit then
    worker.terminate()
    worker.wait(3)


@pytest.mark.parametrize("program", ["huey_consumer", "huey_consumer.py"])
def test_stock_huey_consumer_works_on_the_project_s_queue(server: Server, program: str) -> None:
    if not (BIN / program).exists():
        pytest.skip(f"this Huey installs no {program}")
    with open(server.project / "huey.log", "ab") as log:
        consumer = subprocess.Popen(
            [str(BIN / program), "huey_app.huey"],
            cwd=ENTRIES,
            env={**server.environ, "ROBOTNI_SCRIPT_ROOTS": str(server.project)},
            stdout=log,
            stderr=log,
        )
    try:
        jobs = [server.submit("import time; time.sleep(1.5)") for _ in range(4)]
        # Bare: WORKERS, not one. A worker started on demand, while this one began, leaves for it.
        eventually(lambda: server.client.status()["workers"]["busy"] == 4)
        assert all(server.wait_for(job_id)["status"] == "completed" for job_id in jobs)
        eventually(lambda: server.workers() == [])
        assert consumer.poll() is None and consumer_runs(server)
    finally:
        consumer.terminate()
        code = consumer.wait(3)
    assert code == 0


def test_more_threads_than_workers_are_capped(make_house: Callable[..., House]) -> None:
    from robotni.tests.unit.consumer.test_huey_queue import huey_of

    huey = huey_of(make_house(workers=3))
    asked = {1: 3, 2: 2, 3: 3, 99: 3}
    assert {n: huey.create_consumer(workers=n).workers for n in asked} == asked


def test_forking_workers_are_refused_with_a_sentence(project: Path) -> None:
    answer = subprocess.run(
        [str(BIN / "huey_consumer"), "huey_app.huey", "-k", "process"],
        cwd=ENTRIES,
        env=clean_environ(data_dir=project / "data", script_roots=project),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "leave -k out" in answer.stderr


def test_nothing_in_the_working_directory_can_pass_for_robotni(
    make_server: Callable[..., Server], project: Path
) -> None:
    for name in ("robotni.py", "huey.py", "json.py", "types.py"):
        (project / name).write_text("raise SystemExit('hijacked')")
    server = make_server()
    assert server.wait_for(server.submit("print(1)"))["status"] == "completed"


def test_the_web_process_does_not_keep_dead_workers_as_zombies(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(idle_exit=0.2)
    server.wait_for(server.submit("pass"))
    assert server.process is not None
    web = psutil.Process(server.process.pid)
    eventually(lambda: web.children() == [])
