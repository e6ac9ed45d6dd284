"""The shim, run by path as a process of its own: output, deadline, cancel, evidence, tree kill."""

import json
import os
import resource
import select
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import psutil
import pytest

from robotni.consumer.shim_pool import DIED, ENDED, NOT_STARTED, ShimProcess, StopSignal
from robotni.jobs.models import new_job_id
from robotni.storage.run_files import RunFiles
from robotni.system.processes import OrphanedProcesses
from robotni.tests.paths import PACKAGE
from robotni.tests.processes import end_all, eventually, processes_of


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "jobs").mkdir()
    yield tmp_path / "jobs"
    end_all(tmp_path)


@pytest.fixture
def stop_signal() -> Iterator[StopSignal]:
    stop_signal = StopSignal()
    yield stop_signal
    stop_signal.close()


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[ShimProcess]:
    shim = ShimProcess(tmp_path / "log")
    yield shim
    shim.close()
    shim.reap()
    assert (tmp_path / "log").read_text() == ""


class Launcher:
    """Writes a script, has a shim run it and tells how it ended."""

    def __init__(self, jobs: Path, shim: ShimProcess, stop_signal: StopSignal) -> None:
        self.jobs, self.shim, self.stop_signal = jobs, shim, stop_signal
        self.run_files: RunFiles = self._next()
        self.python = os.path.realpath("/proc/self/exe")

    def _next(self) -> RunFiles:
        return RunFiles(self.jobs, new_job_id(time.time()), 1)

    def start(self, script: str, **changes: Any) -> RunFiles:
        self.run_files = self._next().create()
        path = self.run_files.path / "script.py"
        path.write_text(script)
        spec: Dict[str, Any] = {
            "folder": str(self.run_files.path),
            "jobs": str(self.jobs),
            "argv": [self.python, "-S", str(path)],
            "cwd": str(self.run_files.path),
            "env": {"PYTHONUNBUFFERED": "1", "FOLDER": str(self.run_files.path)},
            "stdin": None,
            "timeout": 20,
            "grace": 1,
            "maxOutput": 1 << 20,
            "mark": self.run_files.mark,
            **changes,
        }
        assert self.shim.launch(self.run_files, spec)
        return self.run_files

    def run(self, script: str, **changes: Any) -> Dict[str, Any]:
        self.start(script, **changes)
        return self.end()

    def end(self) -> Dict[str, Any]:
        ended = self.shim.wait(self.stop_signal.fd)
        said = (self.jobs.parent / "log").read_text()
        assert ended == ENDED, f"{ended}, shim {self.shim._process.poll()}: {said}"
        facts: Optional[Dict[str, Any]] = self.run_files.exit_facts()
        assert facts is not None
        return facts

    def output(self) -> str:
        with self.run_files.open_output() as output:
            return b"".join(output.chunks(*output.whole())).decode()

    def survivors(self) -> "list[Any]":
        return processes_of(self.run_files.path)


@pytest.fixture
def launcher(jobs: Path, shim: ShimProcess, stop_signal: StopSignal) -> Launcher:
    return Launcher(jobs, shim, stop_signal)


def test_output_exit_code_and_evidence_of_a_run(launcher: Launcher) -> None:
    facts = launcher.run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (facts["exitCode"], facts["signal"], facts["stoppedBy"]) == (3, None, None)
    assert launcher.output() == "out\nerr\n"
    assert facts["outputBytes"] == 8
    assert not facts["outputTruncated"]
    assert launcher.run_files.started() is None  # it has become that of the end
    assert not launcher.run_files.is_locked()


def test_the_worker_is_told_what_the_evidence_says(launcher: Launcher) -> None:
    facts = launcher.run("raise SystemExit(3)")
    assert facts["exitCode"] == 3
    assert launcher.shim.exit_facts == facts


def test_an_end_that_is_too_long_for_the_answer_is_in_the_evidence_only(
    launcher: Launcher,
) -> None:
    for _ in range(2):
        facts = launcher.run("pass", argv=["/gone/" + "深" * 900], cwd="/")
        assert len(facts["spawnError"]) > 700
        assert launcher.shim.exit_facts is None
        facts = launcher.run("raise SystemExit(4)")
        assert launcher.shim.exit_facts == facts


def test_the_start_is_on_record_before_the_script_begins(launcher: Launcher) -> None:
    script = "import json, os; print(json.load(open(os.environ['FOLDER'] + '/started')))"
    launcher.run(script)
    assert f"'shim': {launcher.shim.pid}, 'mark': " in launcher.output()


@pytest.mark.parametrize(
    "spoil",
    [
        "os.unlink(folder + '/started')",
        "shutil.rmtree(folder)",
        "open(folder + '/exit.json', 'w').write('{}')",
        "os.unlink(folder + '/started'); os.mkfifo(folder + '/started')",
    ],
)
def test_the_worker_is_told_the_end_of_a_script_that_spoils_its_evidence(
    launcher: Launcher, spoil: str
) -> None:
    script = "import os, shutil; folder = os.environ['FOLDER']; "
    launcher.start(f"{script}{spoil}; os._exit(3)")
    assert launcher.shim.wait(launcher.stop_signal.fd) == ENDED
    assert launcher.shim.exit_facts is not None
    assert launcher.shim.exit_facts["exitCode"] == 3


def test_a_shim_runs_one_script_after_another(launcher: Launcher) -> None:
    for number in range(5):
        launcher.run(f"print({number})")
        assert launcher.output() == f"{number}\n"


def test_a_signal_is_told_by_its_number(launcher: Launcher) -> None:
    facts = launcher.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (facts["exitCode"], facts["signal"]) == (None, signal.SIGSEGV)


def test_the_deadline_ends_a_script_that_obeys(launcher: Launcher) -> None:
    facts = launcher.run("import time; time.sleep(60)", timeout=0.3)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGTERM)


def test_the_deadline_ends_a_script_that_ignores_sigterm(launcher: Launcher) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    facts = launcher.run(script, timeout=0.5, grace=0.2)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGKILL)


def test_a_script_may_use_its_grace(launcher: Launcher) -> None:
    script = """
import signal, sys, time
signal.signal(15, lambda *_: (print("tidy"), sys.exit(0)))
print("ready")
time.sleep(60)
"""
    launcher.start(script)
    eventually(lambda: "ready\n" in launcher.output())
    launcher.run_files.request_cancel()
    facts = launcher.end()
    assert (facts["stoppedBy"], facts["exitCode"]) == ("cancel", 0)
    assert launcher.output() == "ready\ntidy\n"


TIDY_CHILD = """
import os, signal, subprocess, sys, time
child = '''
import signal, sys, time
def tidy(*_):
    print("term", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: print("term", flush=True))
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        time.sleep(0.05)
    print("tidy", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, tidy)
print("ready", flush=True)
time.sleep(60)
'''
subprocess.Popen([sys.executable, "-S", "-c", child], start_new_session=OWN_SESSION)
time.sleep(60)
"""


@pytest.mark.parametrize("own_session", [False, True], ids=["same session", "own session"])
@pytest.mark.parametrize("told", ["timeout", "cancel"])
def test_a_child_gets_sigterm_once_and_the_whole_grace_after_the_script_has_ended(
    launcher: Launcher, told: str, own_session: bool
) -> None:
    script = TIDY_CHILD.replace("OWN_SESSION", str(own_session))
    launcher.start(script, grace=15, timeout=1.5 if told == "timeout" else 60)
    eventually(lambda: "ready\n" in launcher.output())
    if told == "cancel":
        launcher.run_files.request_cancel()
    facts = launcher.end()
    assert (facts["stoppedBy"], facts["signal"]) == (told, signal.SIGTERM)
    assert launcher.output() == "ready\nterm\ntidy\n"


def test_a_child_that_ignores_sigterm_is_killed_when_the_grace_is_over(launcher: Launcher) -> None:
    ignore = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True);"
    launcher.start(f"{ESCAPE_KIT}\nspawn({ignore!r}, stdout=None)\ntime.sleep(60)", grace=2.5)
    eventually(lambda: "ready" in launcher.output())
    began = time.monotonic()
    launcher.run_files.request_cancel()
    launcher.end()
    assert 2.4 < time.monotonic() - began < 10
    assert launcher.survivors() == []


def test_what_a_script_starts_to_tidy_up_is_left_to_it(launcher: Launcher) -> None:
    script = """
import signal, subprocess, sys, time
def tidy(*_):
    sys.exit(subprocess.call([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"]))
signal.signal(signal.SIGTERM, tidy)
print("ready")
time.sleep(60)
"""
    launcher.start(script, grace=15)
    eventually(lambda: "ready" in launcher.output())
    launcher.run_files.request_cancel()
    facts = launcher.end()
    assert (facts["stoppedBy"], facts["exitCode"]) == ("cancel", 0)


def test_what_a_script_leaves_behind_at_its_own_end_gets_sigterm_once_and_one_second(
    launcher: Launcher,
) -> None:
    script = TIDY_CHILD.replace("OWN_SESSION", "True").replace("1.6", "60").rstrip()
    script = script[: script.rindex("time.sleep")] + "time.sleep(1)"
    facts = launcher.run(script, grace=15)
    assert facts["exitCode"] == 0
    assert 2 <= facts["finishedAt"] - facts["startedAt"] < 6
    assert launcher.output() == "ready\nterm\n"


def test_a_cancel_whose_wake_up_failed_is_seen_all_the_same(launcher: Launcher) -> None:
    launcher.start("import time; print('on'); time.sleep(60)", timeout=40)
    eventually(lambda: "on" in launcher.output())
    (launcher.run_files.path / "cancel").touch()  # and nobody writes to the FIFO
    facts = launcher.end()
    assert facts["stoppedBy"] == "cancel"
    assert facts["finishedAt"] - facts["startedAt"] < 20


def test_a_cancel_before_the_start_runs_nothing(launcher: Launcher, jobs: Path) -> None:
    launcher._next = lambda: launcher.run_files  # type: ignore[method-assign]
    launcher.run_files.request_cancel()
    facts = launcher.run("print('never')")
    assert (facts["stoppedBy"], facts["exitCode"]) == ("cancel", None)
    assert launcher.output() == ""


def test_what_cannot_be_spawned_says_why(launcher: Launcher) -> None:
    facts = launcher.run("", argv=["/nowhere/python"])
    assert "No such file" in facts["spawnError"]


def test_stdin_is_empty_or_what_was_given(launcher: Launcher) -> None:
    launcher.run("import sys; print(repr(sys.stdin.read()))")
    assert launcher.output() == "''\n"
    launcher.run("import sys; print(sys.stdin.read())", stdin="grüße" * 100_000)
    assert launcher.output() == "grüße" * 100_000 + "\n"


def test_of_a_flood_of_output_the_beginning_and_the_end_are_kept(launcher: Launcher) -> None:
    script = "import os\nprint('begin')\nfor n in range(2000): os.write(1, b'%065536d' % n)\n1 / 0"
    facts = launcher.run(script, maxOutput=100_000)
    assert facts["outputBytes"] > 2000 * 65536
    assert facts["outputTruncated"]
    assert launcher.run_files.output_size() == facts["outputBytes"]
    assert launcher.output().startswith("begin\n000")
    assert launcher.run_files.read_tail(100)[0].endswith("ZeroDivisionError: division by zero\n")
    files = list(launcher.run_files.path.glob("output*"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) <= 100_000


@pytest.mark.parametrize("when", ["worker lives", "worker is gone"])
def test_output_that_cannot_be_written_is_counted_and_the_run_goes_on(
    launcher: Launcher, when: str
) -> None:
    """EFBIG: the shim may write no file beyond a size, by a limit that it is given from outside."""
    script = """
import os, pathlib, time
os.write(1, b"x" * 5000)
while not pathlib.Path("go").exists():
    time.sleep(0.01)
os.write(1, b"y" * 5000)
raise SystemExit(3)
"""
    run_files = launcher.start(script)
    eventually(lambda: run_files.output_size() == 5000)
    limits = resource.prlimit(launcher.shim.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(launcher.shim.pid, resource.RLIMIT_FSIZE, (6000, limits[1]))
    (run_files.path / "go").touch()
    if when == "worker lives":
        facts = launcher.end()
    else:
        launcher.shim.close()
        facts = eventually(run_files.exit_facts)
    assert (facts["exitCode"], facts["outputBytes"], facts["outputTruncated"]) == (3, 10000, True)
    assert run_files.output_size() == 6000


# Ways to leave a process behind; each keeps a file named by $FOLDER in its command line.
ESCAPES = {
    "a plain child": "spawn()",
    "a group of its own": "spawn(preexec_fn=os.setpgrp)",
    "a session of its own": "spawn(start_new_session=True)",
    "a double fork": "daemonise(spawn)",
    "a cleaned environment": "daemonise(lambda: spawn(env={}))",
    "one that holds the output": "spawn(start_new_session=True, stdout=None)",
    "one that ignores SIGTERM": "spawn('import signal; signal.signal(15, signal.SIG_IGN);')",
}
ESCAPE_KIT = """
import os, subprocess, sys, time
def spawn(before="", **options):
    options = {"stdout": subprocess.DEVNULL, **options}
    code = before + "import time; time.sleep(300)"
    subprocess.Popen([sys.executable, "-S", "-c", code, os.environ["FOLDER"]], **options)
def daemonise(action):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            action()
        os._exit(0)
    os.wait()
"""
FORK_BOMB = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
        time.sleep(0.002)
"""


@pytest.mark.parametrize("escape", sorted(ESCAPES))
@pytest.mark.parametrize("ending", ["normal end", "crash", "timeout", "cancel"])
def test_nothing_is_left_of_a_finished_run(launcher: Launcher, escape: str, ending: str) -> None:
    tail = {"normal end": "", "crash": "os.abort()"}.get(ending, "time.sleep(300)")
    script = f"{ESCAPE_KIT}\n{ESCAPES[escape]}\ntime.sleep(0.1)\nprint('ready')\n{tail}"
    launcher.start(script, timeout=0.8 if ending == "timeout" else 60, grace=0.3)
    if ending == "cancel":
        eventually(lambda: "ready" in launcher.output())
        assert launcher.survivors()
        launcher.run_files.request_cancel()
    launcher.end()
    assert launcher.survivors() == []


def test_a_tree_that_forks_anew_every_2_ms_is_ended(launcher: Launcher) -> None:
    launcher.run(FORK_BOMB)
    assert launcher.survivors() == []


def test_a_run_goes_on_when_the_worker_is_gone(launcher: Launcher) -> None:
    launcher.start("import time; print('a'); time.sleep(0.5); print('b')")
    eventually(lambda: launcher.output() == "a\n")
    launcher.shim.close()
    assert launcher.run_files.is_locked()
    eventually(lambda: not launcher.run_files.is_locked())
    facts = launcher.run_files.exit_facts()
    assert facts is not None
    assert facts["exitCode"] == 0
    assert launcher.output() == "a\nb\n"


def test_a_worker_that_leaves_the_last_answer_unread_leaves_no_complaint(
    launcher: Launcher,
) -> None:
    # Its socket is reset then; the `shim` fixture sees that the shim says nothing of it.
    launcher.start("pass")
    eventually(lambda: select.select([launcher.shim._socket], [], [], 0)[0])
    shim = psutil.Process(launcher.shim.pid)
    launcher.shim.close()
    shim.wait(10)
    assert launcher.run_files.exit_facts() is not None


def test_death_of_the_shim_frees_the_lock_and_the_mark_finds_what_it_leaves(
    launcher: Launcher,
) -> None:
    launcher.start(
        f"{ESCAPE_KIT}\n{ESCAPES['a cleaned environment']}\nprint('ready')\ntime.sleep(60)"
    )
    eventually(lambda: "ready" in launcher.output())
    eventually(lambda: len(launcher.survivors()) >= 2)  # the script and what it let go
    started = launcher.run_files.started()
    assert started is not None
    os.kill(started["shim"], signal.SIGKILL)
    assert launcher.shim.wait(launcher.stop_signal.fd) == DIED
    eventually(lambda: not launcher.run_files.is_locked())
    assert launcher.run_files.exit_facts() is None
    eventually(lambda: len(launcher.survivors()) >= 2)
    assert OrphanedProcesses(started["mark"]).kill()
    eventually(lambda: launcher.survivors() == [], 2)


@pytest.mark.parametrize("told", ["timeout", "cancel"])
def test_a_script_that_stops_its_shim_ends_in_time_all_the_same(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr("robotni.consumer.shim_pool.CONTINUE_EVERY", 0.3)
    script = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)"
    launcher.start(script, timeout=0.5 if told == "timeout" else 60)
    started = eventually(launcher.run_files.started)
    shim = psutil.Process(started["shim"])
    eventually(lambda: shim.status() == psutil.STATUS_STOPPED)
    worker = threading.Thread(
        target=launcher.shim.wait, args=(launcher.stop_signal.fd,), daemon=True
    )
    worker.start()
    if told == "cancel":
        launcher.run_files.request_cancel()
    assert eventually(launcher.run_files.exit_facts)["stoppedBy"] == told
    worker.join(10)
    assert launcher.survivors() == []


NO_FIRST_THREAD = """
import ctypes, os, platform, threading, time
exit_thread = {"x86_64": 60, "aarch64": 93}[platform.machine()]
threading.Thread(target=time.sleep, args=(60,)).start()
for _ in range(100):  # its threads are none of the youngest processes then
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
print("ready")
ctypes.CDLL(None).syscall(exit_thread, 0)
"""


def test_a_process_whose_first_thread_has_exited_does_not_outlive_its_shim(
    launcher: Launcher,
) -> None:
    launcher.start(NO_FIRST_THREAD)
    eventually(lambda: "ready" in launcher.output())
    started = launcher.run_files.started()
    assert started is not None
    children = psutil.Process(started["shim"]).children(recursive=True)
    os.kill(started["shim"], signal.SIGKILL)
    assert launcher.shim.wait(launcher.stop_signal.fd) == DIED
    left = [child.pid for child in children if lives(child.pid)]
    assert left
    assert OrphanedProcesses(started["mark"]).kill()
    assert not [pid for pid in left if lives(pid)]


def lives(pid: int) -> bool:
    """Whether a thread of a process goes on."""
    try:
        states = [
            Path(thread, "stat").read_text().rpartition(")")[2].split()[0]
            for thread in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        return False
    return any(state not in "ZX" for state in states)


def test_the_mark_finds_a_tree_that_forks_anew_every_2_ms(launcher: Launcher) -> None:
    # It says that it lives: a listing of processes is no more sure to see it than the mark is.
    pulse = (
        launcher.start(
            """
import os, time
pulse = os.open("pulse", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
if os.fork():
    time.sleep(60)
end = time.monotonic() + 4
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.write(pulse, b"x")
    time.sleep(0.002)
"""
        ).path
        / "pulse"
    )
    eventually(lambda: pulse.exists() and pulse.stat().st_size > 20)
    started = launcher.run_files.started()
    assert started is not None
    os.kill(started["shim"], signal.SIGKILL)
    assert launcher.shim.wait(launcher.stop_signal.fd) == DIED
    assert OrphanedProcesses(started["mark"]).kill()
    beats = pulse.stat().st_size
    time.sleep(0.1)
    assert pulse.stat().st_size == beats


def test_without_evidence_nothing_was_started(launcher: Launcher) -> None:
    blocked = launcher._next().create()
    (blocked.path / "output").mkdir()  # the shim cannot begin
    launcher._next = lambda: blocked  # type: ignore[method-assign]
    launcher.start("print('never')")
    assert launcher.shim.wait(launcher.stop_signal.fd) == NOT_STARTED
    assert blocked.started() is None
    assert not blocked.is_locked()


def test_a_script_sees_no_descriptor_but_its_own_three(launcher: Launcher) -> None:
    launcher.run("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4])")
    assert json.loads(launcher.output())[:3] == [0, 1, 2]
    assert len(json.loads(launcher.output())) <= 4  # the fourth is the listing itself


SIGNALS = """
import signal
free = signal.valid_signals() - {signal.SIGPIPE, signal.SIGINT}
free -= {getattr(signal, "SIGXFSZ", 0), signal.SIGKILL, signal.SIGSTOP}
print(sorted(n for n in free if signal.getsignal(n) != signal.SIG_DFL))
print(signal.getsignal(signal.SIGINT) == signal.default_int_handler)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.parametrize("fallback", [False, True], ids=["posix_spawn", "fork"])
def test_a_signal_that_the_server_ignores_or_blocks_is_as_usual_in_a_script(
    tmp_path: Path, jobs: Path, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    """As of a server that was started by `&` in a script, by nohup, or by a parent that blocks."""
    program = tmp_path / "shim.py"
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    lines = [
        "import os, signal, sys",
        f"sys.path.insert(0, {str(PACKAGE.parent)!r})",
        "from robotni.shim import loop, spawn",
        f"for number in {[int(n) for n in numbers]}: signal.signal(number, signal.SIG_IGN)",
        f"signal.pthread_sigmask(signal.SIG_BLOCK, {[int(n) for n in numbers]})",
    ]
    if fallback:
        lines += ["def no(*_, **__): raise NotImplementedError", "os.posix_spawn = no"]
    program.write_text("\n".join([*lines, "loop.main(int(sys.argv[1]))"]))
    monkeypatch.setattr("robotni.consumer.shim_pool._PROGRAM", str(program))
    shim, stop_signal = ShimProcess(tmp_path / "log"), StopSignal()
    launcher = Launcher(jobs, shim, stop_signal)
    try:
        facts = launcher.run(SIGNALS)
    finally:
        shim.close()
        shim.reap()
        stop_signal.close()
    assert facts["stoppedBy"] is None  # the shim is told of the end, by SIGCHLD
    assert launcher.output() == "[]\nTrue\nset()\n"


def test_files_of_a_script_have_the_umask_of_the_user(launcher: Launcher) -> None:
    launcher.run("open('made', 'w'); import os; print(oct(os.umask(0)))")
    mask = os.umask(0)
    os.umask(mask)
    assert launcher.output().strip() == oct(mask)


def test_a_cancel_of_an_earlier_run_stops_nothing_and_a_removed_folder_no_cancel(
    launcher: Launcher,
) -> None:
    launcher.run("")
    earlier = launcher.run_files
    launcher.start("import time; print('on'); time.sleep(0.3); print('done')")
    eventually(lambda: "on" in launcher.output())
    earlier.request_cancel()
    assert launcher.end()["stoppedBy"] is None
    assert launcher.output() == "on\ndone\n"
    shutil.rmtree(launcher.run_files.path)  # as the clean-up does
    launcher.start("import time; print('on'); time.sleep(60)")
    eventually(lambda: "on" in launcher.output())
    launcher.run_files.request_cancel()
    assert launcher.end()["stoppedBy"] == "cancel"
