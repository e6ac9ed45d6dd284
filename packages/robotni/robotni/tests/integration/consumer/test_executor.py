"""A worker's runs with real shims and real scripts, without a server around them."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict

import psutil
import pytest

from robotni.engine.preflight import JobPaths, Preflight
from robotni.jobs.models import Job
from robotni.jobs.request import JobRequest
from robotni.tests.chaos.mounts import small_disk
from robotni.tests.conftest import House
from robotni.tests.paths import PACKAGE
from robotni.tests.processes import eventually, make_venv, no_descriptors


def run(house: House, script: str, **fields: Any) -> Job:
    """Submits a script, runs it in this thread, and gives the settled job."""
    request = {"script": house.script(script), "venv": ".venv", **fields}
    job = house.engine.submit(JobRequest.model_validate(request)).job
    while job.status == "pending":
        house.executor.run(job.job_id)
        job = house.engine.get(job.job_id)
    return job


def code(job: Job) -> str:
    return job.error.code if job.error else ""


def test_a_script_runs_in_its_venv(house: House) -> None:
    job = run(house, "import sys; print(sys.prefix)")
    assert (job.status, job.exit_code, job.output) == ("completed", 0, f"{house.project}/.venv\n")


def test_result_and_progress_come_back(house: House) -> None:
    script = """
import json, os
open(os.environ["ROBOTNI_PROGRESS"], "a").write("40 half\\n100 done\\n")
json.dump({"rows": [1, 2]}, open(os.environ["ROBOTNI_RESULT"], "w"))
"""
    job = run(house, script)
    assert job.result == {"rows": [1, 2]}
    assert job.progress is not None
    assert (job.progress.percent, job.progress.message) == (100.0, "done")


@pytest.mark.parametrize(
    "write, words",
    [
        ("open(path, 'w').write('{')", "its result is no JSON"),
        ("open(path, 'w').write('1' * (2 << 20))", "its result is over 1 MiB"),
        ("os.symlink('/etc/passwd', path)", "its result is not a regular file"),
        ("os.mkfifo(path)", "its result is not a regular file"),
        ("os.mkdir(path)", "its result is not a regular file"),
    ],
)
def test_a_bad_result_fails_the_job_and_is_not_retried(
    house: House, write: str, words: str
) -> None:
    script = f"import os; print('hi'); path = os.environ['ROBOTNI_RESULT']; {write}"
    job = run(house, script, retries=3)
    assert (job.status, job.attempt, job.exit_code, job.result) == ("failed", 1, 0, None)
    assert job.error is not None
    assert job.error.code == "result_invalid"
    assert f"ended with exit code 0, but {words}" in job.error.message
    assert job.output == "hi\n"


def test_a_bad_result_of_a_script_that_failed_is_no_reason_against_a_retry(house: House) -> None:
    script = "import os, sys; open(os.environ['ROBOTNI_RESULT'], 'w').write('{'); sys.exit(2)"
    job = run(house, script, retries=1)
    assert (job.status, job.attempt, code(job)) == ("failed", 2, "exit_nonzero")


def test_what_json_has_no_number_for_comes_back_as_null(house: House) -> None:
    script = """
import json, math, os
json.dump([math.nan, math.inf, -math.inf, 1.5], open(os.environ["ROBOTNI_RESULT"], "w"))
"""
    job = run(house, script)
    assert (job.status, job.result) == ("completed", [None, None, None, 1.5])


def test_a_failure_is_told_with_its_code(house: House) -> None:
    job = run(house, "raise SystemExit(7)")
    assert (job.status, job.exit_code, code(job)) == ("failed", 7, "exit_nonzero")


def test_the_sentence_of_a_failure_names_what_the_script_said_last(house: House) -> None:
    job = run(house, "import nothing_of_that_name")
    assert job.error is not None
    assert job.error.message.endswith("No module named 'nothing_of_that_name'")
    job = run(house, "print('\\x1b[31mred\\x1b[0m'); raise SystemExit(1)")
    assert job.error is not None
    assert job.error.message.endswith("exit code 1: red")


def test_the_url_of_a_job_is_one_a_script_can_use(make_house: Callable[..., House]) -> None:
    urls = {
        host: make_house(host=host, token="long-enough").settings.url
        for host in ("127.0.0.1", "::1", "0.0.0.0", "::")
    }
    assert set(urls.values()) == {"http://127.0.0.1:8000", "http://[::1]:8000"}


def test_a_signal_of_its_own_is_told_by_name(house: House) -> None:
    job = run(house, "import os; os.kill(os.getpid(), 11)")
    assert (job.status, job.signal, code(job)) == ("failed", "SIGSEGV", "signalled")


def test_a_timeout_is_told_and_counted(house: House) -> None:
    job = run(house, "import time; time.sleep(60)", timeout=0.2)
    assert (job.status, code(job)) == ("failed", "timeout")
    assert house.store.attempts_since(0) == (1, 1)


def test_a_retried_job_keeps_the_output_of_each_attempt(house: House) -> None:
    script = "import os; n = os.environ['ROBOTNI_ATTEMPT']; print(n); exit(n != '2')"
    job = run(house, script, retries=2)
    assert (job.status, job.attempt, job.output) == ("completed", 2, "2\n")
    first = house.engine.output(job.job_id, 1)
    assert first is not None
    assert Path(first.run_files.output).read_text() == "1\n"


def test_a_module_runs_with_its_folder_on_the_path(house: House) -> None:
    package = house.project / "jobs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nightly.py").write_text("import jobs, sys; print(__name__, sys.argv[1:])")
    job = house.engine.submit(JobRequest(module="jobs.nightly", venv=".venv", args=["x"])).job
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).output == "__main__ ['x']\n"


def test_args_then_params_arrive_verbatim(house: House) -> None:
    args = ["; rm -rf /", "$(id)", "--help", "-c", "", "ü"]
    job = run(house, "import sys, json; print(json.dumps(sys.argv[1:]))", args=args,
              params={"x": 5, "tag": ["a", "-b"], "dry": True, "no": False})  # fmt: skip
    expected = [*args, "--x", "5", "--tag", "a", "--tag=-b", "--dry"]
    assert json.loads(job.output or "") == expected


def test_stdin_env_and_cwd_arrive(house: House) -> None:
    (house.project / "deep").mkdir()
    script = "import os, sys; print(os.getcwd(), os.environ['X'], sys.stdin.read())"
    job = run(house, script, stdin="in", env={"X": "y"}, cwd="deep")
    assert job.output == f"{house.project}/deep y in\n"


def test_a_script_swapped_for_a_link_after_the_post_is_not_run(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "evil.py"
    secret.write_text("print('evil')")
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    (house.project / "hello.py").unlink()
    (house.project / "hello.py").symlink_to(secret)
    house.executor.run(job.job_id)
    job = house.engine.get(job.job_id)
    assert (job.status, code(job), job.output) == ("failed", "spawn_failed", "")
    assert "outside" in (job.error.message if job.error else "")


def test_a_venv_that_vanished_after_the_post_is_told(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    (house.project / ".venv" / "bin" / "python").unlink()
    house.executor.run(job.job_id)
    job = house.engine.get(job.job_id)
    assert (job.status, code(job)) == ("failed", "spawn_failed")
    make_venv(house.project / ".venv")
    again = house.engine.retry(job.job_id)
    house.executor.run(again.job_id)
    assert house.engine.get(again.job_id).status == "completed"


def test_a_job_that_has_ended_is_not_run_again(house: House) -> None:
    job = run(house, "print('once')")
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).attempt == 1


def test_two_threads_that_are_given_the_same_job_start_one_run(house: House) -> None:
    (house.project / "script.py").write_text("open('count', 'a').write('x')")
    for _ in range(5):
        job = house.engine.submit(JobRequest(script="script.py", venv=".venv")).job
        threads = [
            threading.Thread(target=house.executor.run, args=(job.job_id,)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (house.project / "count").read_text() == "xxxxx"


def test_the_bundled_types_run_by_robotni_s_own_interpreter(house: House) -> None:
    big = 10**5000
    job = house.engine.submit(JobRequest(type="add", params={"x": big, "y": -3})).job
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).result == big - 3
    job = house.engine.submit(JobRequest(type="fakejob", params={"seconds": 0})).job
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"


def test_an_idle_shim_is_used_again(house: House) -> None:
    shims = set()
    for _ in range(3):
        job = run(house, "import os; print(os.getppid())")
        shims.add(job.output)
    assert len(shims) == 1


def test_a_dead_shim_between_two_runs_costs_nothing(house: House) -> None:
    job = run(house, "import os; print(os.getppid())")
    os.kill(int(job.output or 0), 9)
    assert run(house, "print('fine')").status == "completed"


def test_a_sweep_leaves_runs_of_this_worker_alone(house: House) -> None:
    script = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)"
    job = house.engine.submit(JobRequest(script=house.script(script), venv=".venv")).job
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually(lambda: house.engine.get(job.job_id).status == "running")
    for _ in range(20):
        house.executor.recovery.sweep()
    assert house.executor.recovery.next_to_adopt() is None
    assert house.executor.in_flight.idle_seconds() < 1
    (house.project / "go").touch()
    thread.join()
    assert house.engine.get(job.job_id).attempt == 1


@pytest.mark.parametrize("spoil", ["os.unlink(path)", "os.unlink(path); os.mkdir(path)"])
def test_a_run_whose_script_removed_its_evidence_is_not_run_again(house: House, spoil: str) -> None:
    house.executor.recovery.sweep()
    lines = house.project / "lines"
    script = f"""
import os
open({str(lines)!r}, "a").write("S")
path = os.path.dirname(os.environ["ROBOTNI_RESULT"]) + "/started"
{spoil}
"""
    job = run(house, script)
    assert (job.is_terminal, lines.read_text()) == (True, "S")


def test_a_sweep_that_read_an_earlier_run_leaves_the_next_one_alone(house: House) -> None:
    house.executor.recovery.sweep()
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    (stale,) = house.store.running()
    house.executor.completer.release(stale, "a full disk")
    assert house.claim(job.job_id) is not None
    house.executor.recovery._sweep_job(stale)
    assert house.engine.get(job.job_id).status == "running"


def test_a_cancel_of_a_run_that_never_started_is_not_forgotten(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    claimed = house.claim(job.job_id)
    assert claimed is not None
    assert house.engine.cancel(job.job_id).status == "running"
    house.executor.completer.release(claimed, "no more processes")
    assert house.claim(job.job_id) is None
    cancelled = house.engine.get(job.job_id)
    assert (cancelled.status, cancelled.attempt, cancelled.error) == ("cancelled", 0, None)
    assert cancelled.finished_at is not None


def test_a_claim_that_finds_no_room_on_the_disk_leaves_the_job_pending(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    sql = house.store._db.sql
    (pages,) = sql("PRAGMA page_count").fetchone()
    fill = "INSERT INTO clean_day VALUES (hex(randomblob(1000000)))"
    sql(f"CREATE TRIGGER fill AFTER UPDATE ON job BEGIN {fill}; END")
    with house.store._db.write():
        sql(f"PRAGMA max_page_count = {pages}")
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    thread.join()
    assert house.engine.get(job.job_id).status == "pending"
    sql("DROP TRIGGER fill")
    assert house.executor.reserve_next() == house.store.get(job.job_id)
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"


def test_a_claimed_run_without_a_trace_goes_back_to_pending(house: House) -> None:
    house.executor.recovery.sweep()  # as a worker does when it starts
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)  # and then the worker is killed
    house.executor.recovery.sweep()
    waiting = house.engine.get(job.job_id)
    assert (waiting.status, waiting.attempt) == ("pending", 0)
    assert house.executor.reserve_next() == house.store.get(job.job_id)


def test_a_claimed_run_whose_folder_was_removed_is_lost(house: House) -> None:
    house.executor.recovery.sweep()
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    shutil.rmtree(house.datadir.jobs / job.job_id)
    house.executor.recovery.sweep()
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.attempt, code(ended)) == ("failed", 1, "lost")


def test_the_folder_of_a_run_is_there_before_it_is_claimed(house: House) -> None:
    jobs = [house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job for _ in range(2)]
    sql = house.store._db.sql
    sql("CREATE TRIGGER no_claim BEFORE UPDATE ON job WHEN NEW.status = 'running' "
        "BEGIN SELECT RAISE(FAIL, 'killed here'); END")  # fmt: skip
    with pytest.raises(Exception, match="killed here"):
        house.executor.run(jobs[0].job_id)
    assert (house.datadir.jobs / jobs[0].job_id / "1").is_dir()
    sql("DROP TRIGGER no_claim")


def test_a_claimed_run_without_a_trace_is_lost_when_the_machine_went_down_since(
    house: House,
) -> None:
    house.executor.recovery.sweep()
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    house.datadir.boot.write_text("another boot")  # what was not synced may be gone
    house.executor.recovery.sweep()
    ended = house.engine.get(job.job_id)
    assert (ended.status, code(ended)) == ("failed", "lost")
    assert not house.datadir.has_rebooted()


def test_a_cancelled_run_without_a_trace_is_cancelled(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    house.engine.cancel(job.job_id)
    house.executor.recovery.sweep()
    assert house.engine.get(job.job_id).status == "cancelled"


def test_one_row_that_cannot_be_swept_does_not_stop_the_others(house: House) -> None:
    jobs = [house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job for _ in range(2)]
    for job in jobs:
        house.claim(job.job_id)
        house.engine.cancel(job.job_id)
    bad = house.datadir.jobs / jobs[0].job_id / "1" / "cancel"
    bad.unlink()
    bad.mkdir()  # cannot be written
    house.executor.recovery.sweep()
    assert house.engine.get(jobs[1].job_id).status == "cancelled"


def test_evidence_of_an_end_is_never_called_lost(house: House) -> None:
    job = run(house, "print('hello')")
    exit_json = house.datadir.jobs / job.job_id / "1" / "exit.json"
    fresh = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(fresh.job_id)
    folder = house.datadir.jobs / fresh.job_id / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "started").write_text('{"mark": null}')
    (folder / "exit.json").write_bytes(exit_json.read_bytes())
    house.executor.recovery.sweep()
    assert house.engine.get(fresh.job_id).status == "completed"


def test_a_start_without_an_end_is_lost(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    folder = house.datadir.jobs / job.job_id / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "started").write_text('{"mark": null}')
    house.executor.recovery.sweep()
    ended = house.engine.get(job.job_id)
    assert (ended.status, code(ended)) == ("failed", "lost")


def test_files_of_a_run_are_for_the_owner_alone(house: House) -> None:
    job = run(house, "print('hello')")
    for path in [house.datadir.path, *house.datadir.path.rglob("*")]:
        assert path.lstat().st_mode & 0o077 == 0, path
    assert Path(house.datadir.jobs / job.job_id).exists()


@pytest.mark.parametrize("told", ["timeout", "cancel"])
def test_a_script_that_stops_the_shim_of_an_adopted_run_ends_in_time(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr("robotni.consumer.recovery.CONTINUE_EVERY", 0.3)
    script = """
import os, pathlib, signal, time
while not pathlib.Path("go").exists():
    time.sleep(0.01)
os.kill(os.getppid(), signal.SIGSTOP)
time.sleep(60)
"""
    house = make_house()
    fields = {"script": house.script(script), "venv": ".venv"}
    fields["timeout"] = 2 if told == "timeout" else 60
    job = house.engine.submit(JobRequest.model_validate(fields)).job
    first = threading.Thread(target=house.executor.run, args=(job.job_id,))
    first.start()
    run_files = house.store.run_files(house.store.get(job.job_id), 1)
    started = eventually(run_files.started)
    house.executor.stop_signal.set()
    first.join()
    house.executor.close()
    later = make_house()
    later.executor.recovery.sweep()
    adopted = later.executor.recovery.next_to_adopt()
    assert adopted is not None
    worker = threading.Thread(target=later.executor.recovery.adopt, args=(adopted,))
    worker.start()
    (house.project / "go").touch()
    shim = psutil.Process(started["shim"])
    eventually(lambda: shim.status() == psutil.STATUS_STOPPED)
    if told == "cancel":
        later.engine.cancel(job.job_id)
    worker.join(15)
    later.executor.stop_signal.set()  # for a thread that would wait for ever
    worker.join()
    ended = later.engine.get(job.job_id)
    expected = {"timeout": ("failed", "timeout"), "cancel": ("cancelled", "")}[told]
    assert (ended.status, code(ended)) == expected


def test_no_pid_in_the_evidence_is_trusted(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    claimed = house.claim(job.job_id)
    assert claimed is not None
    stranger = subprocess.Popen(["sleep", "60"])
    stranger.send_signal(signal.SIGSTOP)
    process = psutil.Process(stranger.pid)
    eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    run_files = house.store.run_files(claimed)
    for pid in (stranger.pid, -1, 0, "1", None, [], 1 << 70):
        (run_files.path / "started").write_text(json.dumps({"shim": pid, "mark": run_files.mark}))
        house.executor.recovery._continue_shim(run_files)
        assert process.status() == psutil.STATUS_STOPPED
    stranger.kill()
    stranger.wait()


CONDITIONS = """
import os, resource, signal
names = sorted(n for n in dir(resource) if n.startswith("RLIMIT_") and n != "RLIMIT_RTTIME")
print([resource.getrlimit(getattr(resource, n)) for n in names])
print(os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)))
print(open("/proc/self/oom_score_adj").read(), resource.getrlimit(resource.RLIMIT_RTTIME)[1])
"""
CHANGES = {
    "limit of open files": "resource.prlimit(shim, resource.RLIMIT_NOFILE, (3, 3))",
    "limit of file sizes": "resource.prlimit(shim, resource.RLIMIT_FSIZE, (0, 0))",
    "limit of processes": "resource.prlimit(shim, resource.RLIMIT_NPROC, (1, 1))",
    "limit of memory": "resource.prlimit(shim, resource.RLIMIT_AS, (1 << 25, 1 << 25))",
    "hard limit of the mark": "resource.prlimit(shim, resource.RLIMIT_RTTIME, (9, 9))",
    "nice value": "os.setpriority(os.PRIO_PROCESS, shim, 19)",
    "scheduler": "os.sched_setscheduler(shim, os.SCHED_IDLE, os.sched_param(0))",
    "affinity": "os.sched_setaffinity(shim, [min(os.sched_getaffinity(0))])",
    "weight for the OOM killer": "open(f'/proc/{shim}/oom_score_adj', 'w').write('777')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_script_changes_of_its_shim_does_not_reach_the_next_job(
    house: House, change: str
) -> None:
    before = run(house, CONDITIONS)
    assert before.status == "completed"
    run(house, f"import os, resource; shim = os.getppid(); {CHANGES[change]}; print('on')")
    after = run(house, CONDITIONS + "print('ok')")
    assert (after.status, after.attempt, after.run) == ("completed", 1, 1)
    assert after.output == f"{before.output}ok\n"


@pytest.mark.parametrize("stdin", [None, "text"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("free", range(9))
def test_a_shim_without_descriptors_starts_nothing_and_the_job_is_put_back(
    house: House, free: int, warm: bool, stdin: "str | None"
) -> None:
    """EMFILE at each of the descriptors that the start of a run takes."""
    house.executor.recovery.sweep()
    fields: Dict[str, Any] = {"warm": warm, "stdin": stdin}
    output = run(house, "import os; print(os.getppid())", **fields).output
    shim = int(output or 0)
    if warm:
        eventually(lambda: psutil.Process(shim).children())
    hard = resource.prlimit(shim, resource.RLIMIT_NOFILE)[1]
    used = {int(fd) for fd in os.listdir(f"/proc/{shim}/fd")}
    gaps = [fd for fd in range(256) if fd not in used]
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (gaps[free], hard))
    lines = house.project / "lines"
    fields["script"] = house.script(f"open({str(lines)!r}, 'a').write('S')")
    fields["venv"] = ".venv"
    job = house.engine.submit(JobRequest.model_validate(fields)).job
    while not job.is_terminal:
        house.executor.run(job.job_id)
        job = house.engine.get(job.job_id)
        assert (job.status, job.attempt) in (("pending", 0), ("completed", 1))
    assert job.run <= 2
    assert lines.read_text() == "S"


def test_a_shim_that_its_script_left_alone_is_kept(house: House) -> None:
    script = "import os, resource; print(os.getppid()); resource.setrlimit(7, (9, 9)); os.nice(3)"
    assert len({run(house, script).output for _ in range(3)}) == 1


def test_jobs_that_cannot_be_deleted_do_not_stop_the_clean_up_of_the_others(house: House) -> None:
    first, second, third = (run(house, "print(1)") for _ in range(3))
    house.clock.now = time.time() + 40 * 86400
    mounts = [house.datadir.jobs / job.job_id / "1" / "mount" for job in (first, second)]
    with small_disk(mounts[0], 1), small_disk(mounts[1], 1):
        for _ in range(2):  # every day
            while house.maintenance.run() == 0.0:
                pass
            left = {path.name for path in house.datadir.jobs.iterdir()}
            assert left == {first.job_id, second.job_id}
            assert house.store.get(first.job_id) is not None
            assert house.store.get(third.job_id) is None
            third = run(house, "print(1)")
            house.clock.now += 40 * 86400
    while house.maintenance.run() == 0.0:
        pass
    assert list(house.datadir.jobs.iterdir()) == []
    assert house.store.get(first.job_id) is None


HELD = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(0x4206, int(sys.argv[1]), None, None):  # PTRACE_SEIZE
    sys.exit(ctypes.get_errno())
print("held", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("ending", ["timeout", "cancel", "child"])
def test_a_process_that_sigkill_does_not_end_frees_its_slot_and_is_told(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """One in uninterruptible sleep, as far as its parent can tell: another process traces it, and
    does not collect it when it has died."""
    program = tmp_path / "impatient.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "from robotni.shim import loop, run; run.GIVE_UP_AFTER = 0.5; loop.main(int(sys.argv[1]))"
    )
    monkeypatch.setattr("robotni.consumer.shim_pool._PROGRAM", str(program))
    script = f"""
import os, pathlib, time
pid = os.fork() if {ending == "child"} else os.getpid()
if pid == 0:
    time.sleep(60)
pathlib.Path("pid.new").write_text(str(pid))
os.rename("pid.new", "pid")
while not pathlib.Path("go").exists():
    time.sleep(0.01)
if {ending != "child"}:
    time.sleep(60)
"""
    request: Dict[str, Any] = {"script": house.script(script), "venv": ".venv"}
    if ending == "timeout":
        request["timeout"] = 4
    house = House(house.project, kill_grace=0.5)
    job = house.engine.submit(JobRequest.model_validate(request)).job
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,), daemon=True)
    thread.start()
    eventually((house.project / "pid").exists)
    pid = (house.project / "pid").read_text()
    tracer = subprocess.Popen([sys.executable, "-c", HELD, pid], stdout=subprocess.PIPE)
    assert tracer.stdout is not None
    try:
        if tracer.stdout.readline() != b"held\n":
            pytest.skip("this machine does not let a process trace another")
        (house.project / "go").touch()
        if ending == "cancel":
            house.engine.cancel(job.job_id)
        thread.join(15)
        assert not thread.is_alive(), "the slot is held for ever"
        ended = house.engine.get(job.job_id)
        expected = {
            "timeout": ("failed", "timeout"),
            "cancel": ("cancelled", ""),
            "child": ("completed", ""),
        }
        assert (ended.status, code(ended)) == expected[ending]
        said = (ended.output or "").count("robotni: some processes of this run did not end")
        assert said == 1
        assert run(house, "print('on')").output == "on\n"
    finally:
        tracer.kill()
        tracer.communicate()
        house.close()


def test_a_launch_without_descriptors_waits_and_is_tried_again(house: House) -> None:
    """EMFILE in the worker: at the claim, and at each file that the preflight opens."""
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    paths = JobPaths(job.script, None, job.venv, job.cwd)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        Preflight(house.project, (house.project,)).check(paths)
    with no_descriptors():
        house.executor.run(job.job_id)
    waiting = house.engine.get(job.job_id)
    assert (waiting.status, waiting.attempt) == ("pending", 0)
    house.executor.run(job.job_id)
    assert house.engine.get(job.job_id).status == "completed"


def test_a_result_that_cannot_be_opened_for_a_moment_is_not_lost(house: House) -> None:
    script = """
import json, os, time
with open(os.environ["ROBOTNI_RESULT"], "w") as file:
    json.dump({"rows": 7}, file)
with open(os.environ["ROBOTNI_PROGRESS"], "w") as file:
    file.write("70 most")
os.mkdir("ready")
while not os.path.isdir("go"):
    time.sleep(0.01)
"""
    job = house.engine.submit(JobRequest(script=house.script(script), venv=".venv")).job
    thread = threading.Thread(target=house.executor.run, args=(job.job_id,))
    thread.start()
    eventually((house.project / "ready").is_dir)
    with no_descriptors():
        (house.project / "go").mkdir()
        thread.join(2)
        assert thread.is_alive()
    thread.join(10)
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.result) == ("completed", {"rows": 7})
    assert ended.progress is not None
    assert ended.progress.percent == 70


def test_an_adopted_run_that_cannot_be_looked_at_for_a_moment_is_taken_up_again(
    make_house: Callable[..., House],
) -> None:
    script = "import os, time\nwhile not os.path.isdir('go'): time.sleep(0.01)"
    house = make_house()
    job = house.engine.submit(JobRequest(script=house.script(script), venv=".venv")).job
    first = threading.Thread(target=house.executor.run, args=(job.job_id,))
    first.start()
    eventually(lambda: house.engine.get(job.job_id).status == "running")
    eventually(house.store.run_files(house.store.get(job.job_id)).started)  # type: ignore[arg-type]
    house.executor.stop_signal.set()
    first.join()
    house.executor.close()
    later = make_house()
    recovery = later.executor.recovery
    recovery.sweep()
    adopted = recovery.next_to_adopt()
    assert adopted is not None
    with no_descriptors():
        recovery.adopt(adopted)
    (house.project / "go").mkdir()
    while not later.engine.get(job.job_id).is_terminal:
        recovery.sweep_if_due()
        for again in iter(recovery.next_to_adopt, None):
            recovery.adopt(again)
        time.sleep(0.05)
    assert later.engine.get(job.job_id).status == "completed"
