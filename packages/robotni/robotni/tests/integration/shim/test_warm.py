"""Warm shims: a script that is run cold and warm must not be able to tell the difference."""

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

from robotni.consumer.shim_pool import DIED, ENDED, Slot, StopSignal
from robotni.consumer.warm_pool import Recipe, WarmSlot
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
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""
FORKING = """
import os, subprocess
subprocess.Popen(["sleep", "60"], start_new_session=True, env={"OF": os.environ["HOME"]})
"""
THIS = sys.version_info[:2]
# What a shim does for any run, warm or not, is the same on each Python.
once = pytest.mark.skipif(THIS < (3, 9), reason="the tests on another Python look at it")
STDIN = "one\ntwo grüße\nthree"


def probes() -> Dict[str, bytes]:
    text = Path(__file__).with_name("probes.txt").read_text()
    parts = re.split(r"(?m)^### (.*)\n", text)[1:]
    return {**dict(zip(parts[::2], map(str.encode, parts[1::2]))), **ODD}


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
    """A project with a venv, and its shims: one cold, others warm by what they preload."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        self.venv = folder / ".venv"
        make = [python, "-m", "venv", "--without-pip", str(self.venv)]
        subprocess.run(make, check=True)
        (self.packages / "helper.py").write_text("VALUE = [1]\n")
        (self.packages / "threaded.py").write_text(THREADED)
        (self.packages / "forking.py").write_text(FORKING)
        (self.packages / "failing.py").write_text("import os; os.nonsense()")
        (self.packages / "leaving.py").write_text("raise SystemExit(0)")
        (self.packages / "dying.py").write_text("import os; os.abort()")
        (self.packages / "opening.py").write_text("FILE = open('/dev/null', 'w')\n")
        (folder / "neighbour.py").write_text("")
        (folder / "json.py").write_text("")
        self.script = folder / "script.py"
        self.stop_signal = StopSignal()
        self.log = folder / "log"
        self.shim_pool: List[Slot] = []
        self.run_files = self._next()

    @property
    def packages(self) -> Path:
        (found,) = self.venv.glob("lib/python*/site-packages")
        return found

    def cold(self) -> Slot:
        self.shim_pool.append(Slot(self.log))
        return self.shim_pool[-1]

    def warm(self, *preload: str, **environ: str) -> WarmSlot:
        slot, why = self.try_warm(*preload, **environ)
        assert why is None
        return slot

    def try_warm(self, *preload: str, **environ: str) -> Tuple[WarmSlot, Optional[str]]:
        env = self.environ(**environ)
        recipe = Recipe(str(self.venv), preload, tuple(env.items()))
        slot = WarmSlot(self.log, self.folder, recipe)
        self.shim_pool.append(slot)
        return slot, slot.answer(self.stop_signal.fd, lambda: False, 30)

    def environ(self, **more: str) -> Dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **more}

    def _next(self) -> RunFiles:
        return RunFiles(self.jobs, new_job_id(time.time()), 1)

    def start(self, slot: Slot, script: bytes, argv: Sequence[str] = (), **changes: Any) -> "Bench":
        self.script.write_bytes(script)
        self.run_files = self._next().create()
        order: Dict[str, Any] = {
            "folder": str(self.run_files.path),
            "jobs": str(self.jobs),
            "argv": [str(self.venv / "bin" / "python"), *(argv or (str(self.script), "-x", "ü"))],
            "cwd": str(self.folder),
            "env": self.environ(TZ="Asia/Tokyo", FOLDER=str(self.folder)),
            "stdin": STDIN,
            "timeout": 30,
            "grace": 1,
            "maxOutput": 1 << 20,
            **changes,
        }
        assert slot.launch(self.run_files, order)
        return self

    def end(self, slot: Slot) -> Dict[str, Any]:
        assert slot.wait(self.stop_signal.fd) == ENDED
        facts = self.run_files.exit()
        assert facts is not None
        return facts

    def run(self, slot: Slot, script: bytes, **changes: Any) -> Ended:
        facts = self.start(slot, script, **changes).end(slot)
        assert facts["spawnError"] is None
        return Ended(facts["exitCode"], facts["signal"], self.output())

    def say(self, slot: Slot, script: str, **changes: Any) -> str:
        """The output of a script that must end well."""
        ended = self.run(slot, script.encode(), **changes)
        assert ended[:2] == (0, None), ended
        return ended.output.strip()

    def output(self) -> str:
        return (
            Path(self.run_files.output).read_text("utf-8", "replace")
            if Path(self.run_files.output).exists()
            else ""
        )

    def close(self) -> None:
        for slot in self.shim_pool:
            slot.close()
            slot.reap()
        self.stop_signal.close()
        end_all(self.folder)


# The oldest Python has its turn when the tests run on it; the newest found here, on any other.
@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = pythons()
    version = min(found) if sys.version_info < (3, 9) else max(found)
    bench = Bench(tmp_path_factory.mktemp("bench"), found[version])
    yield bench
    bench.close()


class Shims(NamedTuple):
    cold: Slot
    bare: Slot
    loaded: Slot


@pytest.fixture(scope="module")
def shims(bench: Bench) -> Shims:
    return Shims(bench.cold(), bench.warm(), bench.warm(*PRELOAD))


@pytest.mark.parametrize("probe", probes())
def test_a_script_cannot_tell_warm_from_cold(bench: Bench, shims: Shims, probe: str) -> None:
    script = probes()[probe]
    cold = bench.run(shims.cold, script)
    assert bench.run(shims.bare, script) == cold
    if "standard library" in probe:  # what is preloaded wins, and is said to
        return
    assert bench.run(shims.loaded, script) == cold


def test_signals_that_nohup_and_shells_have_robotni_ignore_are_heeded(bench: Bench) -> None:
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        cold, warm = bench.cold(), bench.warm()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    script = probes()["signals"]
    assert bench.run(warm, script) == bench.run(cold, script)


def test_modules_are_those_of_a_new_interpreter_whatever_ran_before(
    bench: Bench, shims: Shims
) -> None:
    script = "import sys; print(*sys.modules)"
    expected = set(bench.say(shims.cold, script).split())
    assert set(bench.say(shims.bare, script).split()) == expected
    loaded = set(bench.say(shims.loaded, script).split())
    assert {"helper", "ssl"} <= loaded
    assert not loaded & {"robotni", "shim", "loop", "ctypes"}
    script = "import sys; print(*sorted(sys.path_importer_cache), sep=',')"
    assert bench.say(shims.bare, script) == bench.say(shims.cold, script)


def test_what_the_shim_has_imported_is_whole_for_a_script(bench: Bench, shims: Shims) -> None:
    """Its own modules are hidden from scripts; of none may a part be left, or be missing."""
    used = "array atexit ctypes errno gc io json os resource runpy select signal socket struct time"
    script = f"""
import sys
del sys.path[0]
for name in "{used}".split():
    __import__(name)
for name, module in list(sys.modules.items()):
    for key, value in list(vars(module).items()):
        print(name, key, type(value))
"""
    cold = bench.say(shims.cold, script).splitlines()
    assert len(cold) > 1000
    assert sorted(bench.say(shims.bare, script).splitlines()) == sorted(cold)


def test_a_module_runs_as_by_dash_m(bench: Bench, shims: Shims) -> None:
    package = bench.folder / "jobs_of_mine"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("import sys; print('package', sys.argv)")
    (package / "nightly.py").write_text(
        "import sys\nprint(__name__, __spec__.name, __file__, __package__, sys.argv, sys.path)\n"
        "print(sorted(globals()))\nsys.exit(1 / len(sys.argv[2:]))"
    )
    for argv in (["-m", "jobs_of_mine.nightly", "x"], ["-m", "jobs_of_mine.missing"]):
        cold = bench.run(shims.cold, b"", argv=argv)
        assert cold.exit_code == 1
        assert bench.run(shims.bare, b"", argv=argv) == cold
        assert bench.run(shims.loaded, b"", argv=argv) == cold


def test_a_zip_file_and_bytecode_run_too(bench: Bench, shims: Shims) -> None:
    (bench.folder / "source.py").write_text("import sys; print(__name__, sys.argv)")
    python = str(bench.venv / "bin" / "python")
    subprocess.run(
        [python, "-c", "import py_compile as c, zipfile as z; c.compile('source.py', 'code.pyc');"
         "f = z.ZipFile('app.pyz', 'w'); f.write('source.py', '__main__.py'); f.close()"],
        cwd=bench.folder, check=True,
    )  # fmt: skip
    for name in ("app.pyz", "code.pyc"):
        path = str(bench.folder / name)
        cold = bench.run(shims.cold, b"", argv=[path, "x"])
        assert cold == (0, None, f"__main__ ['{path}', 'x']\n")
        assert bench.run(shims.loaded, b"", argv=[path, "x"]) == cold


def test_nothing_random_comes_twice(bench: Bench, shims: Shims) -> None:
    script = """
import multiprocessing, os, random, ssl, tempfile, uuid
print(random.random(), uuid.uuid1(), uuid.uuid4(), ssl.RAND_bytes(8).hex(), os.urandom(8).hex())
print(multiprocessing.current_process().authkey.hex(), next(tempfile._get_candidate_names()))
"""
    words = [word for _ in range(4) for word in bench.say(shims.loaded, script).split()]
    assert len(words) == len(set(words)) == 28


def test_nothing_of_one_run_is_seen_by_the_next(bench: Bench, shims: Shims) -> None:
    first = """
import builtins, helper, os, signal, sys
helper.VALUE.append(2); builtins.left = sys.left = os.left = 1; sys.path.append("/left")
os.environ["LEFT"] = "1"; os.chdir("/"); os.umask(0o777); signal.signal(15, signal.SIG_IGN)
"""
    second = """
import builtins, gc, helper, os, sys, threading
assert helper.VALUE == [1] and "/left" not in sys.path and "S3CRET" not in os.environ
assert not any(hasattr(o, "left") for o in (builtins, sys, os)) and "LEFT" not in os.environ
found = [o for o in gc.get_objects() if isinstance(o, dict) and "S3CRET" in o]
print(found, b"S3CRET" in open("/proc/self/environ", "rb").read())
"""
    env = bench.environ(S3CRET="x")
    for slot in (shims.loaded, shims.loaded):
        assert bench.say(slot, first, env=env) == ""
        assert bench.say(slot, second) == "[] False"


def test_a_script_that_was_edited_is_run_as_it_is_now(bench: Bench, shims: Shims) -> None:
    for number in range(3):
        assert bench.say(shims.loaded, f"print({number})") == str(number)
        again = bench.start(shims.loaded, f"print({number})".encode()).end(shims.loaded)
        assert again["exitCode"] == 0 and bench.output() == f"{number}\n"


def test_what_a_module_opened_at_its_import_stays_open(bench: Bench) -> None:
    slot = bench.warm("opening")
    script = "import opening, os; print(opening.FILE.write('x'), opening.FILE.flush())"
    assert bench.say(slot, script) == "1 None"


NUMPY = """
import numpy, os, sys, threading
print(numpy.random.rand(), numpy.random.default_rng().random())
a = numpy.ones((400, 400))
assert (a @ a)[0, 0] == 400
print(len(os.listdir("/proc/self/task")))
"""


def test_numpy_is_warm_though_it_starts_threads_and_random_all_the_same(tmp_path: Path) -> None:
    if "EXAMPLES_VENV" not in os.environ:
        pytest.skip("EXAMPLES_VENV names no venv with numpy; `make test` does")
    bench = Bench(tmp_path, sys.executable)
    bench.venv = Path(os.environ["EXAMPLES_VENV"])
    (tmp_path / "json.py").unlink()  # beside the script, where numpy of 3.8 would find it
    try:
        slot = bench.warm("numpy", "numpy.random")
        cold = bench.say(bench.cold(), NUMPY).split()
        words = [word for _ in range(3) for word in bench.say(slot, NUMPY).split()]
        assert words[2::3] == [cold[2]] * 3  # the threads are there when they are needed
        assert len({*words[0::3], *words[1::3]}) == 6
    finally:
        bench.close()


@once
@pytest.mark.parametrize(
    "module, words",
    [
        ("threaded", "importing threaded starts a thread"),
        ("forking", "the preloaded modules start a process"),
        ("failing", "importing failing failed (AttributeError: module 'os' has no attribute"),
        ("missing", "importing missing failed (ModuleNotFoundError: No module named 'missing')"),
        ("leaving", "importing leaving failed (SystemExit: 0)"),
        ("dying", "bin/python ended before it was ready"),
    ],
)
def test_what_cannot_be_preloaded_is_told_and_leaves_nothing(
    bench: Bench, module: str, words: str
) -> None:
    slot, why = bench.try_warm("helper", module, HOME=str(bench.folder / module))
    assert why is not None and words in why
    slot.kill()
    eventually(lambda: processes_of(bench.folder / module) == [], 3)


@once
def test_waiting_for_modules_ends_when_the_run_is_cancelled_or_has_waited_enough(
    bench: Bench,
) -> None:
    (bench.packages / "slow.py").write_text("import time; time.sleep(60)")
    recipe = Recipe(str(bench.venv), ("slow",), ())
    for is_cancelled, within, expected in ((True, 30, ""), (False, 0, "not imported within 0 s")):
        slot = WarmSlot(bench.log, bench.folder, recipe)
        began = time.monotonic()
        why = slot.answer(bench.stop_signal.fd, lambda: is_cancelled, within)  # noqa: B023
        assert why is not None and expected in why
        assert time.monotonic() - began < 5
        slot.kill()


@once
def test_an_interpreter_is_fresh_until_its_venv_or_a_module_changes(bench: Bench) -> None:
    outside = bench.folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "edited.py").write_text("")
    (bench.packages / "outside.pth").write_text(str(outside))
    for path in (bench.packages / "helper.py", outside / "edited.py", bench.packages,
                 bench.venv / "pyvenv.cfg"):  # fmt: skip
        slot = bench.warm("helper", "edited")
        assert slot.is_fresh()
        os.utime(path, (1, time.time() % 1000))
        assert not slot.is_fresh()


# the promises of a shim, warm


@once
def test_the_deadline_a_cancel_and_the_cap_hold(bench: Bench, shims: Shims) -> None:
    slot = shims.loaded
    facts = bench.start(slot, b"import time; time.sleep(60)", timeout=0.3).end(slot)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGTERM)
    script = b"import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    facts = bench.start(slot, script, timeout=0.5, grace=0.2).end(slot)
    assert (facts["stoppedBy"], facts["signal"]) == ("timeout", signal.SIGKILL)
    bench.start(slot, b"import time; print('up'); time.sleep(60)")
    eventually(lambda: "up" in bench.output())
    bench.run_files.request_cancel()
    facts = bench.end(slot)
    assert (facts["stoppedBy"], facts["signal"]) == ("cancel", signal.SIGTERM)
    flood = b"import os\nfor _ in range(200): os.write(1, b'x' * 65536)"
    facts = bench.start(slot, flood, maxOutput=1000).end(slot)
    assert (facts["outputBytes"], facts["outputTruncated"]) == (200 * 65536, True)
    assert bench.run_files.output_size() == 1000


def test_a_folder_that_is_gone_is_told_as_in_a_cold_run(bench: Bench, shims: Shims) -> None:
    errors = [
        bench.start(slot, b"", cwd="/nowhere").end(slot)["spawnError"]
        for slot in (shims.cold, shims.loaded)
    ]
    assert "No such file" in errors[0]
    assert errors[0] == errors[1]


@once
@pytest.mark.parametrize("escape", sorted(ESCAPES))
def test_nothing_is_left_of_a_finished_run(bench: Bench, shims: Shims, escape: str) -> None:
    """Found by the mark, since a fork has the environment and command line of its shim."""
    for tail in ("", "os.abort()", "time.sleep(60)"):
        kit = ESCAPE_KIT.replace("sys.executable", "'python3'")
        script = f"{kit}\n{ESCAPES[escape]}\ntime.sleep(0.1)\nprint('ready')\n{tail}"
        slot = shims.loaded
        bench.start(slot, script.encode(), timeout=0.6, grace=0.2)
        bench.end(slot)
        assert "ready" in bench.output()
        assert children_of(slot.pid) == []
        assert processes_of(bench.folder / "jobs") == []


def children_of(pid: int) -> List[int]:
    return [p.pid for p in psutil.Process(pid).children(recursive=True)]


@once
def test_a_run_goes_on_when_the_worker_is_gone(bench: Bench) -> None:
    slot = bench.warm()
    bench.start(slot, b"import time; print('a'); time.sleep(0.4); print('b')")
    eventually(lambda: bench.output() == "a\n")
    slot.close()
    assert bench.run_files.is_held()
    eventually(lambda: not bench.run_files.is_held())
    facts = bench.run_files.exit()
    assert facts is not None and facts["exitCode"] == 0
    assert bench.output() == "a\nb\n"
    eventually(lambda: not psutil.pid_exists(slot.pid) or not slot.is_alive())


def test_death_of_a_warm_shim_frees_the_lock_and_the_mark_finds_the_script(bench: Bench) -> None:
    slot = bench.warm()
    bench.start(slot, b"import os, time; os.setsid() if os.fork() == 0 else 0\n"
                b"os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)")  # fmt: skip
    eventually(lambda: bench.output().count("\n") == 2)
    pids = [int(line) for line in bench.output().split()]
    started = bench.run_files.started()
    assert started is not None and started["shim"] == slot.pid
    os.kill(slot.pid, signal.SIGKILL)
    assert slot.wait(bench.stop_signal.fd) == DIED
    eventually(lambda: not bench.run_files.is_held(), 3)
    assert bench.run_files.exit() is None
    assert all(map(psutil.pid_exists, pids))
    assert OrphanedProcesses([started["mark"]], "no/such/run").kill()
    eventually(lambda: not any(map(is_running, pids)), 3)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_venv_may_have_another_python_than_robotni(tmp_path: Path) -> None:
    found = {version: python for version, python in pythons().items() if version != THIS}
    if not found:
        pytest.skip("there is no other Python here to make the venv of the jobs with")
    bench = Bench(tmp_path, found[min(found)])
    try:
        cold, warm = bench.cold(), bench.warm(*PRELOAD)
        for name in ("the interpreter", "streams", "an exception", "multiprocessing"):
            script = probes()[name]
            assert bench.run(warm, script) == bench.run(cold, script)
    finally:
        bench.close()


def test_a_note_of_robotni_begins_the_output(bench: Bench, shims: Shims) -> None:
    ended = bench.run(shims.cold, b"print('x')", note="robotni: cold\n")
    assert ended.output == "robotni: cold\nx\n"
    assert bench.run_files.exit()["outputBytes"] == 16  # type: ignore[index]
