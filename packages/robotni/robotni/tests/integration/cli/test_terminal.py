"""Commands as a person types them: with mistakes, on a terminal, with the Tab key."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any, Callable, Iterator, List, NamedTuple

import pytest
from click.shell_completion import ShellComplete

from robotni.cli.main import main
from robotni.tests.calls import UNKNOWN_ID, serving
from robotni.tests.paths import ROOT
from robotni.tests.processes import PROGRAM, Server, clean_environ, eventually, free_port, make_venv

HOW_TO = ROOT / "docs" / "howto" / "command-line.md"
REFERENCE = ROOT / "docs" / "reference" / "commands.md"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("shared"))


class Result(NamedTuple):
    out: str
    err: str
    code: int


@pytest.fixture
def robotni(
    shared: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs a command within this process, in the folder of the shared project."""
    monkeypatch.chdir(shared.project)
    monkeypatch.setenv("ROBOTNI_URL", shared.url)

    def call(*args: str) -> Result:
        with pytest.raises(SystemExit) as exit_:
            main(list(args), prog_name="robotni")
        out, err = capfd.readouterr()
        return Result(out, err, int(exit_.value.code or 0))

    return call


def test_run_logs_and_show_say_what_is_left_out_of_the_output(
    make_server: Callable[..., Server], robotni: Callable[..., Result]
) -> None:
    server = make_server(max_output=400)
    (server.project / "flood.py").write_text("for n in range(100): print('%09d' % n)\n1 / 0")
    url = ("--url", server.url)
    ran = robotni("run", str(server.project / "flood.py"), *url)
    assert ran.code == 1
    (job,) = server.client.list()["jobs"]
    for out in (ran.out, robotni("logs", job["jobId"], *url).out):
        assert re.search(r"\n\[robotni: \d+ bytes of output are left out here\]\n", out)
        assert out.endswith("ZeroDivisionError: division by zero\n")
    shown = robotni("show", job["jobId"], *url).out
    size = job["outputBytes"]
    assert re.search(rf"output  +the last \d+ of {size} bytes; robotni logs prints what", shown)
    assert "exit code 1: ZeroDivisionError: division by zero" in shown


# Error messages, word for word


def test_without_a_server_a_command_says_how_to_start_one(robotni: Callable[..., Result]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    commands = ("jobs", f"show {UNKNOWN_ID}", "submit hello.py", "run hello.py", "logs -f x")
    for command in commands:
        result = robotni(*command.split(), "--url", url)
        assert (result.out, result.code) == ("", 1)
        assert result.err == (
            f"robotni: no robotni server answers at {url} ([Errno 111] Connection refused); start "
            "one with: robotni serve, or name another one with --url\n"
        )


def test_a_wrong_url_is_reported(robotni: Callable[..., Result]) -> None:
    assert robotni("jobs", "--url", "localhost:8000") == Result(
        "",
        "robotni: 'localhost:8000' is not the URL of a server; write it like "
        "http://127.0.0.1:8000\n",
        1,
    )


def test_an_unknown_id_is_reported(robotni: Callable[..., Result]) -> None:
    unknown = "there is no such job; ids come from a submit or from GET /api/worker/jobs, and "
    unknown += "may be shortened to their last 8 or more digits"
    invalid = "is not a job id; to see the ids: robotni jobs"
    for command in ("show", "logs", "cancel", "retry"):
        for job_id in (UNKNOWN_ID, "ä b"):
            assert robotni(command, job_id) == Result("", f"robotni: {unknown}\n", 1)
        for job_id in ("", ".."):
            assert robotni(command, job_id) == Result("", f"robotni: {job_id!r} {invalid}\n", 1)
    assert robotni("show", "../../livez").err.startswith("robotni: there is nothing at this path")


def test_a_wrong_token_is_reported(
    make_server: Callable[..., Server],
    robotni: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_server(token="a-long-secret", autostart=0)
    monkeypatch.setenv("ROBOTNI_URL", server.url)
    for token in ("", "not-the-secret"):
        monkeypatch.setenv("ROBOTNI_TOKEN", token)
        result = robotni("jobs")
        assert (result.out, result.code) == ("", 1)
        assert re.fullmatch(r"robotni: .*Authorization: Bearer.*\n", result.err), result.err
    monkeypatch.setenv("ROBOTNI_TOKEN", "schlüssel")
    assert robotni("jobs").err == (
        "robotni: the token has characters that are not visible ASCII, so no server accepts it; "
        "correct ROBOTNI_TOKEN\n"
    )
    monkeypatch.setenv("ROBOTNI_TOKEN", "a-long-secret")
    assert robotni("jobs") == Result("", "", 0)


def test_a_script_that_does_not_exist_is_reported(robotni: Callable[..., Result]) -> None:
    path = os.path.abspath("nowhere.py")
    message = f"robotni: {path} does not exist; give the path of a Python script\n"
    assert robotni("run", "nowhere.py") == Result("", message, 1)


def test_relative_paths_start_in_the_working_folder(
    robotni: Callable[..., Result], shared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared.project / "other"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    (shared.project / "up.py").write_text("import os; print(os.getcwd())")
    result = robotni("run", "../up.py", "--venv", "../other/../.venv", "--cwd", ".")
    assert (result.code, result.out) == (0, f"{folder}\n")


def test_a_venv_without_python_is_reported(robotni: Callable[..., Result], shared: Server) -> None:
    venv = make_venv(shared.project / "broken")
    (venv / "bin" / "python").unlink()
    fix = f"recreate it with: python3 -m venv --clear {venv}"
    message = f"robotni: {venv} has no bin/python; {fix}\n"
    assert robotni("run", "hello.py", "--venv", "broken") == Result("", message, 1)
    shutil.rmtree(venv)
    result = robotni("submit", "hello.py", "--venv", "broken")
    assert f"{venv} does not exist; create a virtual environment with" in result.err


def test_an_unknown_option_may_be_an_argument_of_the_script(robotni: Callable[..., Result]) -> None:
    result = robotni("run", "hello.py", "--n", "3")
    assert result.code == 2
    assert result.err.endswith("Arguments of the script come after `--`: … -- --n\n"), result.err


def test_a_key_that_fits_no_header_is_reported(robotni: Callable[..., Result]) -> None:
    assert robotni("submit", "hello.py", "--key", "ü") == Result(
        "", "robotni: the idempotency key must be 1 to 255 visible ASCII characters\n", 1
    )


# In a pipe


def test_run_in_a_pipe_prints_only_the_output_of_the_script(
    robotni: Callable[..., Result], shared: Server
) -> None:
    (shared.project / "script.py").write_text("import sys; print('x'); sys.exit('no such table')")
    assert robotni("run", "script.py") == Result("x\nno such table\n", "", 1)


def test_run_warm_uses_an_interpreter_with_the_preloaded_modules(
    robotni: Callable[..., Result], shared: Server
) -> None:
    (shared.project / "script.py").write_text("import sys; print('decimal' in sys.modules)")
    for options in ([], ["--warm"], ["--preload", "decimal"]):
        assert robotni("run", "script.py", *options) == Result("False\n", "", 0)
    (last, second, first) = shared.client.list(limit=3)["jobs"]
    eventually(lambda: robotni("run", "script.py", "--preload", "decimal").out == "True\n")
    assert [job["warm"] for job in (first, second, last)] == [False, True, True]
    assert last["preload"] == ["decimal"]
    shown = robotni("show", last["jobId"]).out
    assert re.search(r"^warm +true\npreload +\[\"decimal\"\]$", shown, re.M)
    assert "warm" not in robotni("show", first["jobId"]).out


def test_run_prints_what_the_script_prints_after_the_cancel(shared: Server) -> None:
    (shared.project / "script.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye')))\n"
        "print('on')\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "run", "script.py"],
        cwd=shared.project,
        env=clean_environ(url=shared.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert (rest, process.returncode) == (b"bye\n", 130)


def test_without_a_url_a_command_uses_the_server_of_the_project(
    shared: Server, robotni: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROBOTNI_URL")
    folder = shared.project / "sub"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    (shared.project / ".env").write_text(f"ROBOTNI_PORT={shared.port}\nROBOTNI_NONSENSE=1\n")
    try:
        assert robotni("status").code == 0
    finally:
        (shared.project / ".env").unlink()


def test_logs_can_be_json(robotni: Callable[..., Result], shared: Server) -> None:
    job_id = shared.submit("print('hello')")
    followed = robotni("logs", "-f", "--json", job_id).out
    assert followed == f'{{"jobId": "{job_id}", "output": "hello\\n"}}\n'
    assert robotni("logs", "--json", job_id).out == followed
    assert robotni("logs", "-f", "--attempt", "1", job_id).out == "hello\n"


# On a terminal


class Terminal:
    """A command with a terminal for stdin, stdout and stderr."""

    def __init__(self, server: Server, *args: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *args],
            cwd=server.project,
            env={**clean_environ(url=server.url), "TERM": "xterm", "COLUMNS": "100"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the command has closed its end
                return
            self.text += data.decode()

    def shows(self, text: str) -> None:
        eventually(lambda: text in self.text)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def types(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        os.close(self._ours)
        return code


SLOW = """
import os, time
with open(os.environ["ROBOTNI_PROGRESS"], "a") as file:
    file.write("40 reading\\n")
print("on")
time.sleep(60)
"""


@pytest.fixture
def terminal(shared: Server) -> Iterator[Callable[..., Terminal]]:
    started: List[Terminal] = []

    def start(*args: str) -> Terminal:
        started.append(Terminal(shared, *args))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.process.kill()
            each.close()


def test_run_on_a_terminal_shows_venv_and_progress_and_asks_at_ctrl_c(
    shared: Server, terminal: Callable[..., Terminal]
) -> None:
    (shared.project / "slow.py").write_text(SLOW)
    run = terminal("run", "slow.py")
    run.shows(f"robotni: using {shared.project / '.venv'}\r\n")
    run.shows("on\r\n")
    run.shows("40 %  reading")
    run.interrupt()
    run.shows("Cancel the job? [y/N]")
    run.types(b"n\n")
    assert run.close() == 130
    match = re.search(r"The job goes on. To follow it: robotni logs -f (\w{32})", run.text)
    assert match, run.text
    assert shared.client.get(match[1])["status"] == "running"
    logs = terminal("logs", "-f", match[1])
    logs.shows("on\r\n")
    logs.interrupt()
    assert logs.close() == 130
    assert "Traceback" not in run.text + logs.text
    shared.client.cancel(match[1])


def test_a_second_ctrl_c_cancels_the_job(shared: Server, terminal: Callable[..., Terminal]) -> None:
    (shared.project / "slow.py").write_text(SLOW)
    run = terminal("run", "slow.py")
    run.shows("on\r\n")
    run.interrupt()
    run.shows("Cancel the job? [y/N]")
    run.interrupt()
    assert run.close() == 130
    assert shared.client.list(limit=1)["jobs"][0]["status"] == "cancelled"
    assert "Traceback" not in run.text


def test_lists_on_a_terminal_are_tables_with_colours(
    shared: Server, terminal: Callable[..., Terminal]
) -> None:
    shared.wait_for(shared.submit("pass"))
    jobs = terminal("jobs", "-n", "1")
    assert jobs.close() == 0
    assert "status" in jobs.text and "\x1b[" in jobs.text and "completed" in jobs.text


# With the Tab key


def completions(*words: str) -> List[str]:
    shell = ShellComplete(main, {}, "robotni", "_ROBOTNI_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_the_tab_key_completes_ids_states_and_types(
    shared: Server, robotni: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = shared.submit("pass")
    for command in ("show", "logs", "cancel", "retry"):
        assert job_id in completions(command, "")
    assert completions("show", job_id[:30]) == [job_id]
    assert completions("show", "zzz") == []
    assert completions("jobs", "--status", "failed,c") == ["failed,completed", "failed,cancelled"]
    assert completions("jobs", "--type", "") == ["add", "fakejob", "python-script"]
    assert "doctor" in completions("d")
    monkeypatch.setenv("ROBOTNI_URL", f"http://127.0.0.1:{free_port()}")
    assert completions("show", "") == completions("jobs", "--type", "") == []
    assert job_id in completions("show", "--url", shared.url, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_that_switch_completion_on_are_in_the_docs(shell: str) -> None:
    assert f"_ROBOTNI_COMPLETE={shell}_source robotni" in HOW_TO.read_text()


def test_every_command_is_in_the_docs() -> None:
    text = REFERENCE.read_text()
    missing = [name for name in main.commands if f"\n## {name}\n" not in text]
    assert missing == []


def test_every_command_but_serve_worker_and_demo_prints_json() -> None:
    def options(command: Any) -> List[str]:
        return [name for param in command.params for name in param.opts]

    without = {name for name, command in main.commands.items() if "--json" not in options(command)}
    assert without == {"serve", "worker", "demo"}
