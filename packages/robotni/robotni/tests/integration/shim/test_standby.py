"""Standby interpreters: a script that becomes one must not be able to tell it from a cold start."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import psutil
import pytest

from robotni.consumer.launch import Recipe
from robotni.consumer.shim_pool import DIED, ENDED, ShimProcess, StopSignal
from robotni.jobs.models import new_job_id
from robotni.storage.run_files import RunFiles
from robotni.system.processes import OrphanedProcesses
from robotni.tests.integration.shim.test_shim import ESCAPE_KIT, ESCAPES
from robotni.tests.processes import end_all, eventually, processes_of

PRELOAD = (
    "asyncio", "helper", "logging", "multiprocessing.pool", "numbers", "pickle", "random", "ssl",
    "subprocess", "tempfile", "threading", "uuid",
)  # fmt: skip
ODD = {
    "a bad encoding": b"x = '\xe9'\n",
    "a NUL": b"x = 1\0\n",
    "an encoding of its own": b"# coding: latin-1\nprint('\xe9')",
    "an empty script": b"",
}
THIS = sys.version_info[:2]
STDIN = "one\ntwo grüße\nthree"
# Modules that a user might preload, each harmful in its way.
HARMFUL = {
    "exits": "raise SystemExit(3)",
    "exits_at_once": "import os; os._exit(3)",
    "crashes": "import os; os.abort()",
    "fails": "import os; os.nonsense()",
    "forks": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)",
    "spawns": "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)",
    "starts_a_thread": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "patches": "import os, select, time\n"
    "os.read = select.select = time.sleep = lambda *args: 1 / 0",
    "lowers_limits": "import resource\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20)); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))",
    "floods": "import os\nfor _ in range(16000): os.write(1, b'x' * 65536)",
    "removes_the_venv": "import os, sys; os.unlink(sys.prefix + '/pyvenv.cfg')",
    "ignores_signals": "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)",
    "changes_folder": "import os; os.chdir('/'); os.umask(0o777)",
}


def probes() -> Dict[str, bytes]:
    text = Path(__file__).with_name("probes.txt").read_text()
    parts = re.split(r"(?m)^### (.*)\n", text)[1:]
    return {**dict(zip(parts[::2], map(str.encode, parts[1::2]))), **ODD}


# What a standby interpreter cannot hide; the docs say so.
NOTICED = {"a file beside the script that is named like a module of the standard library"}


def pythons() -> Dict[Tuple[int, int], str]:
    """An interpreter of each version there is, from PATH and pyenv."""
    found = {THIS: sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(8, 20):
        name = f"python3.{minor}"
        for python in [shutil.which(name), *sorted(map(str, pyenv.glob(f"versions/*/bin/{name}")))]:
            if (
                python
                and subprocess.run([python, "-c", ""], check=False, stderr=-3).returncode == 0
            ):
                found.setdefault((3, minor), python)
    return found


class Ended(NamedTuple):
    exit_code: Optional[int]
    signal: Optional[int]
    output: str


class Bench:
    """A project with a venv, and shims that run its scripts cold or by standby interpreters."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        self.venv = folder / ".venv"
        make = [python, "-m", "venv", "--without-pip", str(self.venv)]
        subprocess.run(make, check=True)
        (self.packages / "helper.py").write_text("VALUE = [1]\n")
        for name, text in HARMFUL.items():
            (self.packages / f"{name}.py").write_text(text)
        (folder / "neighbour.py").write_text("")
        self.script = folder / "script.py"
        self.stop_signal = StopSignal()
        self.log = folder / "log"
        self.shims: List[ShimProcess] = []
        self.run_files = self._next()

    @property
    def packages(self) -> Path:
        (found,) = self.venv.glob("lib/python*/site-packages")
        return found

    def shim(self) -> ShimProcess:
        self.shims.append(ShimProcess(self.log))
        return self.shims[-1]

    def environ(self, **more: str) -> Dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **more}

    def _next(self) -> RunFiles:
        return RunFiles(self.jobs, new_job_id(time.time()), 1)

    def prepare(self, shim: ShimProcess, *preload: str, wait: bool = True, **environ: str) -> int:
        """Has a shim start a standby interpreter; its pid, once it waits for a run."""
        env = self.environ(TZ="Asia/Tokyo", FOLDER=str(self.folder), **environ)
        python = str(self.venv / "bin" / "python")
        recipe = Recipe(python, preload, str(self.folder), tuple(env.items()))
        process = psutil.Process(shim.pid)
        before = {child.pid for child in process.children()}
        assert shim.prepare_standby(recipe.message())
        new = eventually(lambda: {child.pid for child in process.children()} - before)
        if wait:
            eventually(lambda: all(map(is_waiting, new)))
        return int(min(new))

    def start(
        self, shim: ShimProcess, script: bytes, argv: Sequence[str] = (), **changes: Any
    ) -> "Bench":
        self.script.write_bytes(script)
        self.run_files = self._next().create()
        spec: Dict[str, Any] = {
            "folder": str(self.run_files.path),
            "jobs": str(self.jobs),
            "argv": [str(self.venv / "bin" / "python"), *(argv or (str(self.script), "-x", "ü"))],
            "cwd": str(self.folder),
            "env": self.environ(TZ="Asia/Tokyo", FOLDER=str(self.folder), ROBOTNI_X="1"),
            "stdin": STDIN,
            "timeout": 30,
            "grace": 1,
            "maxOutput": 1 << 20,
            "mark": self.run_files.mark,
            **changes,
        }
        assert shim.launch(self.run_files, spec)
        return self

    def end(self, shim: ShimProcess) -> Dict[str, Any]:
        assert shim.wait(self.stop_signal.fd) == ENDED
        facts = self.run_files.exit_facts()
        assert facts is not None
        return facts

    def run(self, shim: ShimProcess, script: bytes, **changes: Any) -> Ended:
        facts = self.start(shim, script, **changes).end(shim)
        assert facts["spawnError"] is None
        return Ended(facts["exitCode"], facts["signal"], self.output())

    def say(self, shim: ShimProcess, script: str, **changes: Any) -> str:
        """The output of a script that must end well."""
        ended = self.run(shim, script.encode(), **changes)
        assert ended[:2] == (0, None), ended
        return ended.output.strip()

    def output(self) -> str:
        path = Path(self.run_files.output)
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def close(self) -> None:
        for shim in self.shims:
            shim.close()
            shim.reap()
        self.stop_signal.close()
        end_all(self.folder)


def is_waiting(pid: int) -> bool:
    """Whether a standby interpreter waits at its pipe, or has ended."""
    try:
        return "pipe" in Path(f"/proc/{pid}/wchan").read_text() or not is_running(pid)
    except OSError:
        return True


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# The oldest Python has its turn when the tests run on it; the newest found here, on any other.
@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = pythons()
    version = min(found) if sys.version_info < (3, 9) else max(found)
    bench = Bench(tmp_path_factory.mktemp("bench"), found[version])
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def cold(bench: Bench) -> ShimProcess:
    return bench.shim()


@pytest.fixture(scope="module")
def warm(bench: Bench) -> ShimProcess:
    return bench.shim()


@pytest.mark.parametrize("probe", probes())
def test_a_script_cannot_tell_a_standby_interpreter_from_a_cold_start(
    bench: Bench, cold: ShimProcess, warm: ShimProcess, probe: str
) -> None:
    script = probes()[probe]
    expected = bench.run(cold, script)
    for preload in ((), PRELOAD):
        pid = bench.prepare(warm, *preload)
        assert bench.run(warm, script) == expected
        assert not is_running(pid)


def test_the_script_runs_in_the_standby_interpreter(bench: Bench, warm: ShimProcess) -> None:
    pid = bench.prepare(warm, "helper")
    assert bench.say(warm, "import os, sys; print(os.getpid(), 'helper' in sys.modules)") == (
        f"{pid} True"
    )
    assert bench.say(warm, "import sys; print('helper' in sys.modules)") == "False"  # cold again


def test_modules_are_those_of_a_new_interpreter(
    bench: Bench, cold: ShimProcess, warm: ShimProcess
) -> None:
    for script in (
        "import sys; print(*sorted(sys.modules))",
        "import sys; print(*sorted(sys.path_importer_cache), sep=',')",
    ):
        bench.prepare(warm)
        assert bench.say(warm, script) == bench.say(cold, script)


def test_a_file_beside_the_script_wins_over_a_loaded_module(
    bench: Bench, warm: ShimProcess
) -> None:
    folder = bench.folder / "own"
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text("VALUE = 'mine'")
    (folder / "json.py").write_text("VALUE = 'mine, too'")
    (folder / "script.py").write_text("import helper, json; print(helper.VALUE, json.VALUE)")
    for preload in (("helper",), ("json",), ()):
        bench.prepare(warm, *preload)
        argv = [str(folder / "script.py")]
        assert bench.run(warm, b"", argv=argv).output == "mine mine, too\n"


@pytest.mark.parametrize("changed", ["module", "venv", "packages"])
def test_a_change_since_the_import_gives_a_new_interpreter(
    bench: Bench, warm: ShimProcess, changed: str
) -> None:
    helper = bench.packages / "helper.py"
    helper.write_text("VALUE = 'old'")
    bench.prepare(warm, "helper")
    helper.write_text("VALUE = 'new one'")
    if changed != "module":
        os.utime(helper, (1, 1))
    os.utime({"venv": bench.venv / "pyvenv.cfg"}.get(changed, bench.packages), (1, time.time()))
    assert bench.say(warm, "import helper; print(helper.VALUE)") == "new one"


def test_a_module_runs_as_by_dash_m(bench: Bench, cold: ShimProcess, warm: ShimProcess) -> None:
    package = bench.folder / "jobs_of_mine"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("import sys; print('package', sys.argv)")
    (package / "nightly.py").write_text(
        "import sys\nprint(__name__, __spec__.name, __file__, __package__, sys.argv, sys.path)\n"
        "print(sorted(globals()))\nsys.exit(1 / len(sys.argv[2:]))"
    )
    for argv in (["-m", "jobs_of_mine.nightly", "x"], ["-m", "jobs_of_mine.missing"]):
        expected = bench.run(cold, b"", argv=argv)
        assert expected.exit_code == 1
        bench.prepare(warm, *PRELOAD)
        assert bench.run(warm, b"", argv=argv) == expected


def test_a_zip_file_and_bytecode_run_too(
    bench: Bench, cold: ShimProcess, warm: ShimProcess
) -> None:
    (bench.folder / "source.py").write_text("import sys; print(__name__, sys.argv)")
    python = str(bench.venv / "bin" / "python")
    subprocess.run(
        [python, "-c", "import py_compile as c, zipfile as z; c.compile('source.py', 'code.pyc');"
         "f = z.ZipFile('app.pyz', 'w'); f.write('source.py', '__main__.py'); f.close()"],
        cwd=bench.folder, check=True,
    )  # fmt: skip
    for name in ("app.pyz", "code.pyc", "missing.py"):
        path = str(bench.folder / name)
        expected = bench.run(cold, b"", argv=[path, "x"])
        bench.prepare(warm, "helper")
        assert bench.run(warm, b"", argv=[path, "x"]) == expected


# Nothing is shared between runs


def test_nothing_random_comes_twice(bench: Bench, warm: ShimProcess) -> None:
    (bench.packages / "drawn.py").write_text(
        "import random, uuid\nSOURCE = random.Random()\nNUMBER = random.random()\n"
    )
    script = """
import drawn, multiprocessing, os, random, ssl, tempfile, uuid
print(random.random(), uuid.uuid1(), uuid.uuid4(), ssl.RAND_bytes(8).hex(), os.urandom(8).hex())
print(multiprocessing.current_process().authkey.hex(), next(tempfile._get_candidate_names()))
print(drawn.SOURCE.random(), drawn.NUMBER)
"""
    words = []
    for _ in range(4):
        bench.prepare(warm, *PRELOAD, "drawn")
        words += bench.say(warm, script).split()
    assert len(words) == len(set(words)) == 36


def test_what_a_preloaded_module_opens_belongs_to_one_run(bench: Bench, warm: ShimProcess) -> None:
    """A socket, a file, a lock, a temporary folder, an exit handler, made at import."""
    (bench.folder / "lines").write_text("".join(f"line {number}\n" for number in range(9)))
    (bench.packages / "opening.py").write_text(
        "import atexit, multiprocessing, socket, tempfile\n"
        "OURS, THEIRS = socket.socketpair()\n"
        "LOCK = multiprocessing.Lock()\n"
        f"FILE = open({str(bench.folder / 'lines')!r})\n"
        "FOLDER = tempfile.TemporaryDirectory()\n"
        "atexit.register(print, 'exit')\n"
    )
    script = """
import opening, os
opening.OURS.setblocking(False)
try:
    print(opening.OURS.recv(9))
except BlockingIOError:
    print("nothing of another run")
opening.THEIRS.send(b"A's data")
print(opening.LOCK.acquire(timeout=1), opening.FILE.readline().strip())
print(os.path.isdir(opening.FOLDER.name), flush=True)
"""
    for ending in ("import time; time.sleep(60)", "", ""):
        bench.prepare(warm, "opening")
        bench.start(warm, (script + ending).encode(), timeout=1 if ending else 30).end(warm)
        lines = bench.output().splitlines()
        assert lines[:3] == ["nothing of another run", "True line 0", "True"]
        assert ending or lines[3:] == ["exit"]


def test_a_pool_of_spawned_processes_finds_a_class_of_the_script(
    bench: Bench, warm: ShimProcess
) -> None:
    bench.prepare(warm, "multiprocessing", "multiprocessing.pool")
    script = """
import multiprocessing
class Row:
    def __init__(self, number):
        self.number = number
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print([row.number for row in pool.map(Row, [1, 2])])
"""
    assert bench.say(warm, script) == "[1, 2]"


NUMPY = """
import numpy, os
print(numpy.random.rand(), numpy.random.default_rng().random())
a = numpy.ones((400, 400))
assert (a @ a)[0, 0] == 400
print(len(os.listdir("/proc/self/task")))
"""


def test_numpy_has_its_threads_and_its_own_random_numbers(tmp_path: Path) -> None:
    if "EXAMPLES_VENV" not in os.environ:
        pytest.skip("EXAMPLES_VENV names no venv with numpy; `make test` does")
    bench = Bench(tmp_path, sys.executable)
    bench.venv = Path(os.environ["EXAMPLES_VENV"])
    try:
        expected = bench.say(bench.shim(), NUMPY).split()
        words, shim = [], bench.shim()
        for _ in range(3):
            bench.prepare(shim, "numpy", "numpy.random")
            words += bench.say(shim, NUMPY).split()
        assert words[2::3] == [expected[2]] * 3
        assert len({*words[0::3], *words[1::3]}) == 6
    finally:
        bench.close()


# A preload cannot harm the shim or the next run


@pytest.mark.parametrize("module", sorted(HARMFUL))
def test_whatever_a_preload_does_the_run_ends_and_the_next_one_is_untouched(
    bench: Bench, cold: ShimProcess, module: str
) -> None:
    shim = bench.shim()
    config = (bench.venv / "pyvenv.cfg").read_bytes()
    bench.prepare(shim, module, wait=False)
    time.sleep(0.3)
    bench.start(shim, b"print('done')", timeout=5)
    facts = bench.end(shim)
    (bench.venv / "pyvenv.cfg").write_bytes(config)
    assert facts["outputBytes"] < 1100 << 20
    assert sum(f.stat().st_size for f in bench.run_files.path.glob("output*")) <= 1 << 20
    if module not in ("patches", "lowers_limits", "floods", "removes_the_venv"):
        assert (facts["exitCode"], "done" in bench.output()) == (0, True)
    eventually(lambda: psutil.Process(shim.pid).children(recursive=True) == [])
    probe = b"import os, resource; print(resource.getrlimit(7), os.getcwd(), os.umask(0))"
    assert bench.run(shim, probe) == bench.run(cold, probe)


def test_a_preload_that_hangs_ends_at_the_timeout_of_the_run(bench: Bench) -> None:
    (bench.packages / "hangs.py").write_text("while True: pass")
    shim = bench.shim()
    bench.prepare(shim, "hangs", wait=False)
    facts = bench.start(shim, b"print('never')", timeout=0.5).end(shim)
    assert facts["stoppedBy"] == "timeout"
    bench.prepare(shim, "hangs", wait=False)
    bench.start(shim, b"print('never')")
    time.sleep(0.3)  # it has the launch spec
    bench.run_files.request_cancel()
    assert bench.end(shim)["stoppedBy"] == "cancel"
    assert bench.say(shim, "print('next')") == "next"


def test_what_a_preload_prints_is_output_of_the_run_up_to_the_cap(bench: Bench) -> None:
    shim = bench.shim()
    (bench.packages / "prints.py").write_text(
        "import sys; print('out'); print('x' * 5000, file=sys.stderr)"
    )
    bench.prepare(shim, "prints")
    facts = bench.start(shim, b"print('done')", maxOutput=100).end(shim)
    assert facts["outputBytes"] == 4 + 5001 + 5
    assert bench.run_files.read_tail(100)[0].endswith("x\ndone\n")
    assert bench.log.read_text() == ""


def test_a_standby_interpreter_is_ended_when_another_is_prepared(bench: Bench) -> None:
    shim = bench.shim()
    first = bench.prepare(shim, "forks")
    bench.prepare(shim, "helper")
    assert not is_running(first)

    def preloads() -> List[str]:
        return [p.cmdline()[-1] for p in psutil.Process(shim.pid).children(recursive=True)]

    eventually(lambda: preloads() == ["helper"])


def test_a_preload_that_crashes_while_a_run_waits_for_it_costs_no_run(bench: Bench) -> None:
    (bench.packages / "crashes_late.py").write_text("import os, time; time.sleep(1); os.abort()")
    shim = bench.shim()
    for _ in range(2):
        bench.prepare(shim, "crashes_late", wait=False)
        assert bench.say(shim, "print(input())", stdin="given") == "given"


def test_a_long_launch_spec_starts_cold_and_nobody_waits_for_it(bench: Bench) -> None:
    (bench.packages / "slow.py").write_text("import time; time.sleep(600)")
    shim = bench.shim()
    bench.prepare(shim, "slow", wait=False)
    env = {**bench.environ(), **{f"LONG_{number}": "x" * 50_000 for number in range(9)}}
    assert bench.say(shim, "import os; print(len(os.environ['LONG_8']))", env=env) == "50000"


@pytest.mark.parametrize("when", ["importing", "waiting"])
@pytest.mark.parametrize("ending", ["the worker is gone", "the shim is killed"])
def test_a_standby_interpreter_ends_with_its_shim(bench: Bench, when: str, ending: str) -> None:
    (bench.packages / "slow.py").write_text("import time; time.sleep(600)")
    shim = bench.shim()
    pid = bench.prepare(shim, *(["slow"] if when == "importing" else []), wait=when == "waiting")
    if when == "importing":
        eventually(lambda: "slow.py" in psutil.Process(pid).open_files() or True)
        time.sleep(0.3)
    if ending == "the shim is killed":
        os.kill(shim.pid, signal.SIGKILL)
    else:
        shim.close()
    eventually(lambda: not is_running(pid), 3)


# The promises of a shim hold for it


def test_the_deadline_a_cancel_and_the_cap_hold(bench: Bench, warm: ShimProcess) -> None:
    bench.prepare(warm, "helper")
    facts = bench.start(warm, b"import time; time.sleep(60)", timeout=0.3).end(warm)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGTERM)
    bench.prepare(warm, "helper")
    script = b"import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    facts = bench.start(warm, script, timeout=0.5, grace=0.2).end(warm)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGKILL)
    bench.prepare(warm, "helper")
    bench.start(warm, b"import time; print('up'); time.sleep(60)")
    eventually(lambda: "up" in bench.output())
    bench.run_files.request_cancel()
    facts = bench.end(warm)
    assert (facts["stoppedBy"], facts["signal"]) == ("cancel", signal.SIGTERM)
    bench.prepare(warm, "helper")
    flood = b"import os\nfor _ in range(200): os.write(1, b'x' * 65536)"
    facts = bench.start(warm, flood, maxOutput=1000).end(warm)
    assert (facts["outputBytes"], facts["outputTruncated"]) == (200 * 65536, True)
    assert sum(f.stat().st_size for f in bench.run_files.path.glob("output*")) <= 1000


def test_a_folder_that_is_gone_is_told_as_in_a_cold_run(
    bench: Bench, cold: ShimProcess, warm: ShimProcess
) -> None:
    expected = bench.start(cold, b"", cwd="/nowhere").end(cold)["spawnError"]
    bench.prepare(warm, "helper")
    found = bench.start(warm, b"", cwd="/nowhere").end(warm)["spawnError"]
    assert "No such file" in expected
    assert found == expected
    assert psutil.Process(warm.pid).children() == []


@pytest.mark.parametrize("escape", sorted(ESCAPES))
def test_nothing_is_left_of_a_finished_run(bench: Bench, warm: ShimProcess, escape: str) -> None:
    for tail in ("", "os.abort()", "time.sleep(60)"):
        kit = ESCAPE_KIT.replace("sys.executable", "'python3'")
        script = f"{kit}\n{ESCAPES[escape]}\ntime.sleep(0.1)\nprint('ready')\n{tail}"
        bench.prepare(warm, "helper")
        bench.start(warm, script.encode(), timeout=0.6, grace=0.2)
        bench.end(warm)
        assert "ready" in bench.output()
        assert psutil.Process(warm.pid).children(recursive=True) == []
        assert processes_of(bench.folder / "jobs") == []


def test_a_run_goes_on_when_the_worker_is_gone(bench: Bench) -> None:
    shim = bench.shim()
    bench.prepare(shim, "helper")
    bench.start(shim, b"import time; print('a'); time.sleep(0.4); print('b')")
    eventually(lambda: bench.output() == "a\n")
    shim.close()
    assert bench.run_files.is_locked()
    eventually(lambda: not bench.run_files.is_locked())
    facts = bench.run_files.exit_facts()
    assert facts is not None and facts["exitCode"] == 0
    assert bench.output() == "a\nb\n"
    eventually(lambda: not is_running(shim.pid))


def test_death_of_the_shim_frees_the_lock_and_the_mark_finds_the_script(bench: Bench) -> None:
    shim = bench.shim()
    bench.prepare(shim, "helper")
    bench.start(shim, b"import os, time; os.setsid() if os.fork() == 0 else 0\n"
                b"os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)")  # fmt: skip
    eventually(lambda: bench.output().count("\n") == 2)
    pids = [int(line) for line in bench.output().split()]
    started = bench.run_files.started()
    assert started is not None and started["shim"] == shim.pid
    os.kill(shim.pid, signal.SIGKILL)
    assert shim.wait(bench.stop_signal.fd) == DIED
    eventually(lambda: not bench.run_files.is_locked())
    assert all(map(is_running, pids))
    assert OrphanedProcesses(started["mark"]).kill()
    assert not any(map(is_running, pids))
