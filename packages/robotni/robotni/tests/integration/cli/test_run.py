"""Commands as a person types them: on a terminal, with mistakes, with the Tab key."""

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

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("shared"))


class Said(NamedTuple):
    out: str
    err: str
    code: int


@pytest.fixture
def robotni(
    shared: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Calls the command line within this process, in the folder of the shared project."""
    monkeypatch.chdir(shared.project)
    monkeypatch.setenv("ROBOTNI_URL", shared.url)

    def call(*args: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(list(args), prog_name="robotni")
        out, err = capfd.readouterr()
        return Said(out, err, int(ended.value.code or 0))

    return call


# What goes wrong, word for word


def test_where_no_server_is_it_is_said_how_to_start_one(robotni: Callable[..., Said]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for command in (["jobs"], ["show", UNKNOWN_ID], ["run", "hello.py"], ["logs", "-f", "x"]):
        said = robotni(*command, "--url", url)
        assert (said.out, said.code) == ("", 1)
        assert said.err == (
            f"robotni: no robotni answers at {url} ([Errno 111] Connection refused); start one "
            "with: robotni serve, or name another with --url\n"
        )


def test_what_is_no_url_is_said(robotni: Callable[..., Said]) -> None:
    assert robotni("jobs", "--url", "localhost:8000") == Said(
        "",
        "robotni: 'localhost:8000' is no URL of a server; write it as http://127.0.0.1:8000\n",
        1,
    )


def test_an_unknown_id_is_said(robotni: Callable[..., Said]) -> None:
    unknown = "there is no such job; ids come from a submit or from GET /api/worker/jobs"
    empty = "an empty id names no job; ids come from a submit or from a list"
    for command in ("show", "logs", "cancel", "retry"):
        for job_id, words in ((UNKNOWN_ID, unknown), ("ä b", unknown), ("", empty), ("..", empty)):
            assert robotni(command, job_id) == Said("", f"robotni: {words}\n", 1)
    assert robotni("show", "../../livez").err.startswith("robotni: there is nothing at this path")


def test_a_wrong_token_is_said(
    make_server: Callable[..., Server],
    robotni: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_server(token="a-long-secret", autostart=0)
    monkeypatch.setenv("ROBOTNI_URL", server.url)
    for token in ("", "not-the-secret"):
        monkeypatch.setenv("ROBOTNI_TOKEN", token)
        said = robotni("jobs")
        assert (said.out, said.code) == ("", 1)
        assert re.fullmatch(r"robotni: .*Authorization: Bearer.*\n", said.err), said.err
    monkeypatch.setenv("ROBOTNI_TOKEN", "schlüssel")
    assert robotni("jobs").err == (
        "robotni: the token is no line of visible ASCII characters, so no server takes it; look "
        "at ROBOTNI_TOKEN\n"
    )
    monkeypatch.setenv("ROBOTNI_TOKEN", "a-long-secret")
    assert robotni("jobs") == Said("", "", 0)


def test_a_script_that_does_not_exist_is_said(robotni: Callable[..., Said]) -> None:
    path = os.path.abspath("nowhere.py")
    words = f"robotni: {path} does not exist; name a Python script\n"
    assert robotni("run", "nowhere.py") == Said("", words, 1)


def test_paths_are_meant_as_a_shell_means_them(
    robotni: Callable[..., Said], shared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared.project / "elsewhere"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    (shared.project / "up.py").write_text("import os; print(os.getcwd())")
    said = robotni("run", "../up.py", "--venv", "../elsewhere/../.venv", "--cwd", ".")
    assert (said.code, said.out) == (0, f"{folder}\n")


def test_a_venv_without_python_is_said(robotni: Callable[..., Said], shared: Server) -> None:
    venv = make_venv(shared.project / "broken")
    (venv / "bin" / "python").unlink()
    words = f"robotni: {venv} has no bin/python; recreate it with: python3 -m venv --clear {venv}\n"
    assert robotni("run", "hello.py", "--venv", "broken") == Said("", words, 1)
    shutil.rmtree(venv)
    said = robotni("submit", "hello.py", "--venv", "broken")
    assert said.err.startswith(f"robotni: {venv} does not exist; create a virtual environment with")


def test_arguments_without_the_two_dashes_are_told_of_them(robotni: Callable[..., Said]) -> None:
    said = robotni("run", "hello.py", "--n", "3")
    assert said.code == 2
    assert said.err.endswith("If it is the script's, put it after `--`: … -- --n\n"), said.err


def test_a_key_that_fits_no_header_is_said(robotni: Callable[..., Said]) -> None:
    assert robotni("submit", "hello.py", "--key", "ü") == Said(
        "", "robotni: the idempotency key must be 1 to 255 visible ASCII characters\n", 1
    )


# In a pipe


def test_run_says_in_a_pipe_what_the_script_says_and_no_more(
    robotni: Callable[..., Said], shared: Server
) -> None:
    (shared.project / "it.py").write_text("import sys; print('x'); sys.exit('no such table')")
    assert robotni("run", "it.py") == Said("x\nno such table\n", "", 1)


def test_run_warm_forks_it_from_what_is_preloaded(
    robotni: Callable[..., Said], shared: Server
) -> None:
    (shared.project / "it.py").write_text("import sys; print('decimal' in sys.modules)")
    for options, loaded in (([], False), (["--warm"], False), (["--preload", "decimal"], True)):
        assert robotni("run", "it.py", *options) == Said(f"{loaded}\n", "", 0)
    (last, second, first) = shared.client.list(limit=3)["jobs"]
    assert [job["warm"] for job in (first, second, last)] == [False, True, True]
    assert last["preload"] == ["decimal"]
    shown = robotni("show", last["jobId"]).out
    assert re.search(r"^warm +true\npreload +\[\"decimal\"\]$", shown, re.M)
    assert "warm" not in robotni("show", first["jobId"]).out


def test_a_script_may_go_on_printing_after_the_cancel(shared: Server) -> None:
    (shared.project / "it.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye')))\n"
        "print('on')\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "run", "it.py"],
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


def test_without_a_url_the_project_says_where_its_server_is(
    shared: Server, robotni: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
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


def test_logs_come_as_json_too(robotni: Callable[..., Said], shared: Server) -> None:
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
            except OSError:  # nobody has the other end any more
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


def test_on_a_terminal_run_shows_venv_and_progress_and_asks_at_ctrl_c(
    shared: Server, terminal: Callable[..., Terminal]
) -> None:
    (shared.project / "slow.py").write_text(SLOW)
    run = terminal("run", "slow.py")
    run.shows(f"robotni: in {shared.project / '.venv'}\r\n")
    run.shows("on\r\n")
    run.shows("40 %  reading")
    run.interrupt()
    run.shows("Cancel the job? [y/N]")
    run.types(b"n\n")
    assert run.close() == 130
    match = re.search(r"It goes on: robotni logs -f (\w{32})", run.text)
    assert match, run.text
    assert shared.client.get(match[1])["status"] == "running"
    logs = terminal("logs", "-f", match[1])
    logs.shows("on\r\n")
    logs.interrupt()
    assert logs.close() == 130
    assert "Traceback" not in run.text + logs.text
    shared.client.cancel(match[1])


def test_a_second_ctrl_c_cancels(shared: Server, terminal: Callable[..., Terminal]) -> None:
    (shared.project / "slow.py").write_text(SLOW)
    run = terminal("run", "slow.py")
    run.shows("on\r\n")
    run.interrupt()
    run.shows("Cancel the job? [y/N]")
    run.interrupt()
    assert run.close() == 130
    assert shared.client.list(limit=1)["jobs"][0]["status"] == "cancelled"
    assert "Traceback" not in run.text


def test_lists_are_tables_with_colours_on_a_terminal(
    shared: Server, terminal: Callable[..., Terminal]
) -> None:
    shared.wait_for(shared.submit("pass"))
    jobs = terminal("jobs", "-n", "1")
    assert jobs.close() == 0
    assert "status" in jobs.text and "\x1b[" in jobs.text and "completed" in jobs.text


# With the Tab key


def completions(*words: str) -> List[str]:
    *args, begun = words
    found = ShellComplete(main, {}, "robotni", "_ROBOTNI_COMPLETE").get_completions(args, begun)
    return [item.value for item in found]


def test_ids_states_and_types_complete(
    shared: Server, robotni: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
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
def test_the_lines_that_switch_completion_on_are_in_the_readme(shell: str) -> None:
    assert f"_ROBOTNI_COMPLETE={shell}_source robotni" in README.read_text()


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text()
    missing = [name for name in main.commands if not re.search(rf"`(robotni )?{name}\b", text)]
    assert missing == []


def test_commands_are_helped_with_json_wherever_it_makes_sense() -> None:
    def options(command: Any) -> List[str]:
        return [name for param in command.params for name in param.opts]

    without = {name for name, command in main.commands.items() if "--json" not in options(command)}
    assert without == {"serve", "worker", "demo"}
