"""Warm interpreters in a worker: which run gets one, when one is dropped, and what goes cold."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import psutil
import pytest

from robotni.consumer.warm_pool import DIFFERENCES
from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.system.worker_lock import read_report
from robotni.tests.conftest import House
from robotni.tests.integration.consumer.test_executor import run
from robotni.tests.integration.consumer.test_recovery import WITNESS, begun, completes_once
from robotni.tests.integration.shim.test_warm import is_running, once
from robotni.tests.paths import ROOT
from robotni.tests.processes import Server, eventually

PARENT = "import os; print(os.getppid())"


@pytest.fixture
def packages(project: Path) -> Path:
    """The site-packages of the project's venv, with modules to preload."""
    (found,) = (project / ".venv").glob("lib/python*/site-packages")
    for name in "abc":
        (found / f"mod_{name}.py").write_text("import os\nSEEN = dict(os.environ)\n")
    (found / "__pycache__").mkdir(exist_ok=True)  # made at the first import, which is a change too
    return found


def parent(house: House, *preload: str, **fields: Any) -> int:
    """The pid of the shim of a run that asked for warmth."""
    job = run(house, PARENT, warm=True, preload=list(preload), **fields)
    assert (job.status, job.error) == ("completed", None)
    return int((job.output or "").splitlines()[-1])


def is_warm(pid: int) -> bool:
    return "-E" not in psutil.Process(pid).cmdline()  # as cold shims are started


def submitted(house: House, script: str, **fields: Any) -> Job:
    request = {"script": house.script(script), "venv": ".venv", **fields}
    return house.engine.submit(JobRequest.model_validate(request)).job


def test_one_interpreter_serves_the_runs_of_its_recipe(house: House, packages: Path) -> None:
    first = parent(house, "mod_a")
    assert is_warm(first)
    assert parent(house, "mod_a") == first
    assert parent(house, "mod_a", env={"OTHER": "x"}) == first
    assert len({first, parent(house), parent(house, "mod_b"), parent(house, "mod_a", "mod_b")}) == 4
    assert not is_warm(int(run(house, PARENT).output or 0))


def test_an_interpreter_sees_of_the_request_s_variables_only_what_it_needs(
    house: House, packages: Path
) -> None:
    script = "import mod_a, os; print(mod_a.SEEN); print(os.environ['S3CRET'])"
    env = {"S3CRET": "hush", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}
    job = run(house, script, warm=True, preload=["mod_a"], env=env)
    seen, secret = (job.output or "").splitlines()
    assert secret == "hush"
    assert "hush" not in seen and "Tokyo" not in seen and "ROBOTNI" not in seen
    assert "'OMP_NUM_THREADS': '1'" in seen and "'LC_ALL': 'C.UTF-8'" in seen
    assert f"'VIRTUAL_ENV': '{house.project}/.venv'" in seen
    one = parent(house, "mod_a", env=env)
    assert parent(house, "mod_a", env={**env, "OMP_NUM_THREADS": "2"}) != one
    assert parent(house, "mod_a", env={**env, "S3CRET": "other"}) == one


def test_the_least_recently_used_makes_room_for_another(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(warm_max=2)
    a, b = parent(house, "mod_a"), parent(house, "mod_b")
    assert parent(house, "mod_a") == a
    c = parent(house, "mod_c")
    assert not psutil.pid_exists(b)
    assert parent(house, "mod_a") == a
    assert parent(house, "mod_c") == c
    assert parent(house, "mod_b") != b
    assert not psutil.pid_exists(a)


def test_beyond_warm_max_at_work_a_run_is_cold(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(warm_max=1)
    waits = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)"
    job = submitted(house, waits, warm=True)
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually(lambda: psutil.Process().children() and house.executor.warm_pool._busy)
    request = {"script": house.script(PARENT, "p.py"), "venv": ".venv", "warm": True}
    other = house.engine.submit(JobRequest.model_validate(request)).job
    house.executor.run(other.job_id)
    assert not is_warm(int(house.engine.get(other.job_id).output or 0))
    (house.project / "go").touch()
    thread.join()
    assert house.engine.get(job.job_id).status == "completed"
    assert not is_warm(parent(make_house(warm_max=0)))


def test_an_interpreter_whose_module_or_venv_changed_is_dropped(
    house: House, packages: Path
) -> None:
    (packages / "mod_a.py").write_text("VALUE = 1\n")
    script = "import mod_a, os; print(mod_a.VALUE, os.getppid())"

    def value() -> List[str]:
        return (run(house, script, warm=True, preload=["mod_a"]).output or "").split()

    first = value()
    (packages / "mod_a.py").write_text("VALUE = 22\n")
    second = value()
    assert (first[0], second[0]) == ("1", "22")
    assert value() == second
    (packages / "new_package").mkdir()
    third = value()
    assert third[1] not in (first[1], second[1])
    assert not psutil.pid_exists(int(second[1]))


def test_an_idle_interpreter_leaves_after_idle_exit_and_is_reported_until_then(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(idle_exit=0.1)
    report = house.datadir.warm
    house.maintenance.tick()
    assert read_report(report) == {"interpreters": 0, "memoryBytes": 0}
    pid = parent(house, "mod_a")
    house.executor.warm_pool._idle[0].last_used += 100
    house.maintenance.tick()
    told = read_report(report)
    assert told["interpreters"] == 1
    assert 1 << 20 < told["memoryBytes"] < 1 << 28
    house.executor.warm_pool._idle[0].last_used -= 200
    house.executor.warm_pool._reported = None  # as five seconds later
    house.maintenance.tick()
    assert not psutil.pid_exists(pid)
    assert read_report(report)["interpreters"] == 0


THREADED = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
)


def test_what_starts_a_thread_runs_cold_and_says_so(house: House, packages: Path) -> None:
    (packages / "mod_a.py").write_text(THREADED)
    told = "robotni: importing mod_a starts a thread, which a fork would lose; this run is cold\n"
    shims = set()
    for _ in range(2):  # the second time it is known
        job = run(house, PARENT, warm=True, preload=["mod_a"])
        assert job.status == "completed"
        assert (job.output or "").startswith(told)
        shims.add((job.output or "").split()[-1])
        assert job.output_bytes == len(job.output or "")
    assert len(shims) == 1
    (packages / "mod_a.py").write_text("")
    os.utime(packages)  # as an installation does
    assert is_warm(parent(house, "mod_a"))


@pytest.mark.parametrize(
    "text, words",
    [
        ("import nothing_of_that_name", "importing mod_a failed (ModuleNotFoundError"),
        ("import os; os.abort()", "ended before it was ready"),
    ],
)
def test_a_module_that_cannot_be_preloaded_costs_no_run(
    house: House, packages: Path, text: str, words: str
) -> None:
    (packages / "mod_a.py").write_text(text)
    job = run(house, "print('done')", warm=True, preload=["mod_a"])
    assert (job.status, job.attempt) == ("completed", 1)
    line, done = (job.output or "").splitlines()
    assert line.startswith("robotni: ") and words in line and line.endswith("this run is cold")
    assert done == "done"


def test_a_run_that_waits_for_its_modules_can_be_cancelled(house: House, packages: Path) -> None:
    (packages / "mod_a.py").write_text("import time; time.sleep(60)")
    job = submitted(house, "print('never')", warm=True, preload=["mod_a"])
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually(lambda: house.engine.get(job.job_id).status == "running")
    time.sleep(0.2)
    house.engine.cancel(job.job_id)
    thread.join(5)
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.output) == ("cancelled", "")


def test_a_run_that_waits_for_its_modules_is_pending_again_when_the_worker_leaves(
    house: House, packages: Path
) -> None:
    (packages / "mod_a.py").write_text("import time; time.sleep(60)")
    job = submitted(house, "print('later')", warm=True, preload=["mod_a"])
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually(lambda: house.engine.get(job.job_id).status == "running")
    house.executor.stop_signal.set()
    thread.join(3)
    waiting = house.engine.get(job.job_id)
    assert (waiting.status, waiting.attempt) == ("pending", 0)


def test_warm_and_cold_runs_together_are_never_more_than_workers(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(workers=1)
    script = """
import os, time
with open("at", "a") as file:
    file.write("+"); file.flush(); time.sleep(0.05); file.write("-")
"""
    jobs = [submitted(house, script, warm=warm) for warm in (True, False) * 3]
    threads = [threading.Thread(target=house.executor.run, args=(job.job_id,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (house.project / "at").read_text() == "+-" * 6


def test_what_it_cannot_hide_is_in_the_docs_word_for_word() -> None:
    page = ROOT / "docs" / "howto" / "warm.md"
    told = " ".join(page.read_text(encoding="utf-8").split())
    for difference in DIFFERENCES:
        assert f"* {difference}" in told


# with real workers


def memory(server: Server) -> Dict[str, int]:
    return dict(server.client.status()["warm"])


@once
def test_a_warm_run_outlives_kill_9_of_the_worker_and_ends_once(server: Server) -> None:
    job_id = server.submit(WITNESS, warm=True)
    begun(server, job_id)
    eventually(lambda: memory(server)["memoryBytes"] > 0)
    for worker in server.workers():
        worker.kill()
    assert server.client.get(job_id)["status"] == "running"
    completes_once(server, job_id)
    assert server.client.get(job_id)["warm"] is True


@once
def test_nobody_goes_on_importing_for_a_worker_that_was_killed(
    server: Server, packages: Path
) -> None:
    mark = server.project / "importing"
    (packages / "mod_a.py").write_text(f"import time; open({str(mark)!r}, 'w'); time.sleep(600)")
    job_id = server.submit("print('never')", warm=True, preload=["mod_a"])

    def importing() -> List[psutil.Process]:
        return [p for p in server.shims() if p.cmdline()[-1] == "mod_a"]

    eventually(mark.exists)
    (shim,) = importing()
    for worker in server.workers():
        worker.kill()
    eventually(lambda: not is_running(shim.pid), 3)
    server.client.cancel(job_id)
    assert server.wait_for(job_id)["status"] == "cancelled"


@once
def test_a_run_whose_warm_interpreter_is_killed_is_lost_and_leaves_nothing(server: Server) -> None:
    script = f"import os\nprint(os.getppid(), os.getpid(), flush=True)\n{WITNESS}"
    job_id = server.submit(script, warm=True)
    begun(server, job_id)
    text = server.http.get(f"/api/worker/jobs/{job_id}/output").text
    shim, pid = map(int, text.splitlines()[0].split())
    assert is_warm(shim)
    os.kill(shim, signal.SIGKILL)
    job = server.wait_for(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "lost")
    assert not is_running(pid)
