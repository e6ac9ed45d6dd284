"""Commands with arguments that are no text, and with an output that cannot be written."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, Union

import pytest

from robotni.tests.calls import HELLO, serving
from robotni.tests.processes import PROGRAM, Server, clean_environ, eventually, free_port

ROBOTNI = [sys.executable, PROGRAM]
COMMANDS = [
    ["jobs"], ["jobs", "--json"], ["status"], ["types"], ["show", "@last"], ["logs", "@last"],
    ["logs", "-f", "@last"], ["doctor"], ["submit", "hello.py"], ["run", "hello.py"],
    ["--version"], ["--help"], ["jobs", "--help"],
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for server in serving(tmp_path_factory.mktemp("site")):
        server.wait_for(server.client.submit(HELLO).id)
        yield server


def run(
    *args: Union[str, bytes], cwd: Path, shell: str = "", **settings: Any
) -> "subprocess.CompletedProcess[bytes]":
    """`shell` redirects the output."""
    command: List[Union[str, bytes]] = [*ROBOTNI, *args]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environ(**settings),
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "args",
    [
        [b"show", b"\xff"],
        [b"jobs", b"-q", b"\xff"],
        [b"jobs", b"--project", b"\xff"],
        [b"submit", b"hello.py", b"--", b"\xff"],
        [b"submit", b"hello.py", b"-e", b"A=\xff"],
        [b"submit", b"hello.py", b"--venv", b"\xff"],
        [b"run", b"hello.py", b"--", b"\xff"],
    ],
)
def test_an_argument_that_is_not_utf_8_is_named_and_exits_with_2(
    server: Server, args: List[bytes]
) -> None:
    answer = run(*args, cwd=server.project)
    error = answer.stderr.decode()
    assert answer.returncode == 2, error
    assert error.startswith("robotni: ") and "\\udcff" in error
    assert error.endswith("is not UTF-8; rename it, or write it in UTF-8\n")
    assert error.count("\n") == 1


def test_a_folder_whose_name_is_not_utf_8_is_named(server: Server) -> None:
    folder = os.fsencode(server.project) + b"/\xff"
    os.makedirs(folder, exist_ok=True)
    (Path(os.fsdecode(folder)) / "in.py").write_text("")
    answer = run("submit", "in.py", cwd=Path(os.fsdecode(folder)))
    assert (answer.returncode, answer.stderr.count(b"\n")) == (2, 1), answer.stderr
    assert b"is not UTF-8; rename it" in answer.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_full_output_is_an_error_in_one_line(server: Server, args: List[str]) -> None:
    answer = run(*args, cwd=server.project, shell="> /dev/full")
    assert answer.stderr.decode() == (
        "robotni: the output cannot be written (No space left on device); write it elsewhere\n"
    )
    assert answer.returncode == 1


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("shell", [">&-", "<&- >&-"])
def test_a_closed_output_drops_what_is_printed(server: Server, args: List[str], shell: str) -> None:
    answer = run(*args, cwd=server.project, shell=shell)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")


def test_a_reader_that_leaves_early_ends_the_command_without_a_word(server: Server) -> None:
    command = subprocess.list2cmdline([*ROBOTNI, "logs", "@last"])
    for reader in ("true", "head -c1"):
        answer = subprocess.run(
            ["sh", "-c", f"{command} | {reader}"],
            cwd=server.project, env=clean_environ(), capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert answer.stderr == b""


@pytest.mark.parametrize(
    "args",
    [
        ["submit", "\x1b[31m.py"],
        ["submit", "hello.py", "-e", "\x1b[31m"],
        ["jobs", "-n", "\x1b[31m"],
        ["jobs", "--status", "\x1b[31m"],
        ["no\x1b[31m"],
        ["jobs", "--\x1b[31m"],
        ["serve", "--host", "\x1b[31m"],
        ["demo", "\x1b[31m"],
        ["jobs", "--url", "\x1b[31m"],
    ],
)
def test_an_error_sends_no_control_character_to_the_terminal(
    server: Server, args: List[str]
) -> None:
    terminal, its_end = pty.openpty()
    command = [*ROBOTNI, *args]
    process = subprocess.Popen(
        command, cwd=server.project, env=clean_environ(), stderr=its_end, stdout=its_end
    )
    os.close(its_end)
    shown = b""
    try:
        for part in iter(lambda: os.read(terminal, 4096), b""):
            shown += part
    except OSError:  # the other end was closed
        pass
    os.close(terminal)
    assert process.wait(20) in (1, 2)
    assert b"\x1b" not in shown, shown
    assert b"Traceback" not in shown


@pytest.mark.parametrize("pause", [0, 0.1, 0.3])
def test_more_than_one_ctrl_c_ends_serve_without_a_traceback(project: Path, pause: float) -> None:
    server = Server(project, port=free_port())
    try:
        server.start()
        server.wait_for(server.submit("pass"))
        assert server.process is not None
        for _ in range(4):
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGINT)
                time.sleep(pause)
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log() and "Aborted" not in server.log()
        eventually(lambda: not server.workers())
    finally:
        server.close()
