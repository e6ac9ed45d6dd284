"""The warm pool of a worker: which run gets a standby interpreter, and when one goes."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict

import psutil
import pytest

from robotni.consumer.warm_pool import DIFFERENCES
from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.system.worker_lock import read_report
from robotni.tests.conftest import House
from robotni.tests.integration.consumer.test_executor import run
from robotni.tests.integration.consumer.test_recovery import WITNESS, begun, completes_once
from robotni.tests.integration.shim.test_standby import is_running, is_waiting
from robotni.tests.paths import ROOT
from robotni.tests.processes import Server, eventually

PROGRAM = "standby_program.py"
SEEN = "import os, sys; print(os.getpid(), *[n for n in sys.modules if n.startswith('mod_')])"


@pytest.fixture
def packages(project: Path) -> Path:
    """The site-packages of the project's venv, with modules to preload."""
    (found,) = (project / ".venv").glob("lib/python*/site-packages")
    for name in "abc":
        (found / f"mod_{name}.py").write_text("import os\nSEEN = dict(os.environ)\n")
    (found / "__pycache__").mkdir(exist_ok=True)  # made at the first import, which is a change too
    return found


def standbys() -> Dict[str, int]:
    """The standby interpreters below this process: pid by the modules they preload."""
    processes = psutil.Process().children(recursive=True)
    found = {p.pid: p.cmdline() for p in processes if is_running(p.pid)}
    return {
        " ".join(words[4:]): pid
        for pid, words in found.items()
        if len(words) > 1 and words[1].endswith(PROGRAM)
    }


def submitted(house: House, script: str, **fields: Any) -> Job:
    request = {"script": house.script(script), "venv": ".venv", **fields}
    return house.engine.submit(JobRequest.model_validate(request)).job


def warm_run(house: House, *preload: str, **fields: Any) -> "list[str]":
    """The pid of a warm run, and the modules that were loaded before it began."""
    job = run(house, SEEN, warm=True, preload=list(preload), **fields)
    assert (job.status, job.error) == ("completed", None)
    eventually(lambda: all(map(is_waiting, standbys().values())))
    return (job.output or "").split()


def test_the_first_run_is_cold_and_the_next_one_of_its_recipe_warm(
    house: House, packages: Path
) -> None:
    assert warm_run(house, "mod_a")[1:] == []
    standby = standbys()["mod_a"]
    assert warm_run(house, "mod_a") == [str(standby), "mod_a"]
    assert standbys()["mod_a"] != standby  # used once, and replaced
    assert warm_run(house, "mod_a", env={"OTHER": "x"})[1:] == []
    assert warm_run(house, "mod_a", "mod_b")[1:] == []
    assert "standby" not in run(house, SEEN).output  # type: ignore[operator]


def test_a_cold_run_does_not_use_a_standby_interpreter(house: House, packages: Path) -> None:
    warm_run(house, "mod_a")
    standby = standbys()["mod_a"]
    job = run(house, SEEN)
    assert (job.output or "").split()[1:] == []
    assert standbys()["mod_a"] == standby


def test_a_standby_interpreter_has_the_variables_of_the_request(
    house: House, packages: Path
) -> None:
    script = "import mod_a, os; print(sorted(mod_a.SEEN.items())); print(os.environ['S3CRET'])"
    env = {"S3CRET": "hush", "TZ": "Asia/Tokyo"}
    for _ in range(2):
        job = run(house, script, warm=True, preload=["mod_a"], env=env)
        eventually(lambda: all(map(is_waiting, standbys().values())))
    seen, secret = (job.output or "").splitlines()
    assert secret == "hush"
    assert "hush" in seen and "Tokyo" in seen
    assert "ROBOTNI_" not in seen


def test_none_is_started_while_jobs_are_pending(house: House, packages: Path) -> None:
    jobs = [submitted(house, SEEN, warm=True, preload=["mod_a"]) for _ in range(3)]
    house.executor.run(jobs[0].job_id)
    outputs = [(house.engine.get(job.job_id).output or "").split()[1:] for job in jobs]
    assert outputs == [[], [], []]
    assert list(standbys()) == ["mod_a"]


def test_the_least_recently_used_makes_room_for_another(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(warm_max=2)
    for name in ("mod_a", "mod_b", "mod_a", "mod_c"):
        warm_run(house, name)
    assert set(standbys()) == {"mod_a", "mod_c"}
    assert warm_run(house, "mod_b")[1:] == []
    assert set(standbys()) == {"mod_b", "mod_c"}


def test_with_warm_max_0_every_run_is_cold(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(warm_max=0)
    for _ in range(2):
        assert warm_run(house, "mod_a")[1:] == []
    assert standbys() == {}


def test_a_module_or_venv_that_changed_gives_a_new_interpreter(
    house: House, packages: Path
) -> None:
    (packages / "mod_a.py").write_text("VALUE = 1\n")
    script = "import mod_a; print(mod_a.VALUE)"
    for value in (1, 22, 333):
        (packages / "mod_a.py").write_text(f"VALUE = {value}\n")
        job = run(house, script, warm=True, preload=["mod_a"])
        assert job.output == f"{value}\n"
        eventually(lambda: all(map(is_waiting, standbys().values())))


def test_a_standby_interpreter_ends_after_idle_exit_and_is_reported_until_then(
    make_house: Callable[..., House], packages: Path
) -> None:
    house = make_house(idle_exit=0.5)
    report = house.datadir.warm
    house.maintenance.run()
    assert read_report(report) == {"interpreters": 0, "memoryBytes": 0}
    warm_run(house, "mod_a")
    pid = standbys()["mod_a"]
    house.maintenance.run()
    told = read_report(report)
    assert told["interpreters"] == 1
    assert 1 << 20 < told["memoryBytes"] < 1 << 28
    time.sleep(0.6)
    house.maintenance.run()
    assert not is_running(pid)
    assert read_report(report)["interpreters"] == 0


@pytest.mark.parametrize(
    "text", ["import nothing_of_that_name", "import os; os.abort()", "raise SystemExit(3)"]
)
def test_a_module_that_cannot_be_preloaded_costs_no_run(
    house: House, packages: Path, text: str
) -> None:
    (packages / "mod_a.py").write_text(text)
    for _ in range(3):
        job = run(house, "print('done')", warm=True, preload=["mod_a"])
        assert (job.status, job.attempt, job.output) == ("completed", 1, "done\n")


def test_a_run_whose_preload_hangs_ends_by_its_own_timeout_or_cancel(
    house: House, packages: Path
) -> None:
    (packages / "mod_a.py").write_text("import time; time.sleep(60)")
    fields: Dict[str, Any] = {"warm": True, "preload": ["mod_a"]}
    assert run(house, "print('cold')", **fields).output == "cold\n"
    job = run(house, "print('never')", timeout=0.3, **fields)
    assert (job.status, job.error and job.error.code) == ("failed", "timeout")
    job = submitted(house, "print('never')", **fields)
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually(lambda: house.engine.get(job.job_id).status == "running")
    time.sleep(0.2)
    house.engine.cancel(job.job_id)
    thread.join(5)
    assert house.engine.get(job.job_id).status == "cancelled"


def test_the_docs_list_what_a_script_can_notice() -> None:
    page = ROOT / "docs" / "howto" / "warm.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    for difference in DIFFERENCES:
        assert f"* {difference}" in text


# with real workers


def memory(server: Server) -> Dict[str, int]:
    return dict(server.client.status()["warm"])


def test_a_warm_run_outlives_kill_9_of_the_worker_and_ends_once(server: Server) -> None:
    server.wait_for(server.submit("print('first')", warm=True))
    eventually(lambda: memory(server)["memoryBytes"] > 0)
    job_id = server.submit(WITNESS, warm=True)
    begun(server, job_id)
    for worker in server.workers():
        worker.kill()
    assert server.client.get(job_id)["status"] == "running"
    completes_once(server, job_id)
    assert server.client.get(job_id)["warm"] is True


def test_standby_interpreters_end_with_a_worker_that_is_killed(server: Server) -> None:
    server.wait_for(server.submit("print('first')", warm=True))

    def running() -> "list[psutil.Process]":
        processes = psutil.process_iter(["cmdline"])
        return [p for p in processes if any(PROGRAM in word for word in p.info["cmdline"] or ())]

    eventually(running)
    for worker in server.workers():
        worker.kill()
    eventually(lambda: not running())


def test_a_warm_run_whose_shim_is_killed_is_lost_and_leaves_nothing(server: Server) -> None:
    server.wait_for(server.submit("print('first')", warm=True))
    eventually(lambda: memory(server)["memoryBytes"] > 0)
    script = f"import os\nprint(os.getppid(), os.getpid(), flush=True)\n{WITNESS}"
    job_id = server.submit(script, warm=True)
    begun(server, job_id)
    text = server.http.get(f"/api/worker/jobs/{job_id}/output").text
    shim, pid = map(int, text.splitlines()[0].split())
    os.kill(shim, signal.SIGKILL)
    job = server.wait_for(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "lost")
    assert not is_running(pid)
