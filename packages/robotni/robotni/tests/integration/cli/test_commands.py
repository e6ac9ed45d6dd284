"""Each command as a process: what it prints, and its exit code."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robotni.tests.processes import (
    PROGRAM,
    Server,
    clean_environ,
    end_all,
    eventually,
    processes_of,
)

HELLO = "import sys; print('hello', *sys.argv[1:])"


def robotni(*args: str, cwd: Path, **settings: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, PROGRAM, *args],
        cwd=cwd,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_submit_show_and_cancel(server: Server) -> None:
    (server.project / "hi.py").write_text(HELLO)

    def call(*args: str) -> "subprocess.CompletedProcess[str]":
        return robotni(*args, cwd=server.project, url=server.url)

    submitted = call("submit", "hi.py", "--", "--n", "3")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    server.wait_for(job_id)
    shown = call("show", job_id)
    assert "completed" in shown.stdout
    assert shown.stdout.endswith("hello --n 3\n")
    assert json.loads(call("show", job_id, "--json").stdout)["jobId"] == job_id
    late = call("cancel", job_id)
    assert late.returncode == 1
    assert late.stderr == (
        f"robotni: job {job_id} is completed already; nothing is left to cancel\n"
    )
    waiting = call("submit", "hi.py", "--delay", "60", "--json")
    waiting_id = json.loads(waiting.stdout)["jobId"]
    assert call("cancel", waiting_id).stdout == f"{waiting_id} cancelled\n"


def test_show_prints_no_control_characters_of_the_output(server: Server) -> None:
    job_id = server.submit("print('\\x1b[31mred\\x1b[0m \\u202e')")
    server.wait_for(job_id)
    shown = robotni("show", job_id, cwd=server.project, url=server.url)
    assert "red" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["serve", "--port", "99999"], "ROBOTNI_PORT=99999: input should be less than"),
        (["serve", "--host", "0.0.0.0"], "ROBOTNI_HOST=0.0.0.0 is reachable .*ROBOTNI_TOKEN"),
        (["nonsense"], "No such command"),
        (["submit"], "Missing argument"),
    ],
)
def test_wrong_usage_is_reported_with_exit_code_2(
    project: Path, args: "list[str]", sentence: str
) -> None:
    answer = robotni(*args, cwd=project)
    assert answer.returncode == 2
    assert re.search(sentence, answer.stderr), answer.stderr
    assert "Traceback" not in answer.stderr


def test_submit_without_a_venv_above_the_script_says_how_to_create_one(tmp_path: Path) -> None:
    (tmp_path / "x.py").touch()
    answer = robotni("submit", "x.py", cwd=tmp_path)
    assert answer.returncode == 1
    assert "create one with: python3 -m venv .venv" in answer.stderr


def test_submit_names_a_folder_venv_that_is_none_and_advises_nothing_onto_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.py").touch()
    (tmp_path / ".venv").mkdir()
    answer = robotni("submit", "x.py", "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert "create one with" not in answer.stderr  # the server, which is not there, says it


def test_every_wrong_setting_is_one_line(project: Path) -> None:
    answer = robotni("serve", cwd=project, workers="many", prot=1, port="x")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 3
    assert "ROBOTNI_PROT is not a setting; did you mean ROBOTNI_PORT?" in answer.stderr


def test_serve_on_a_taken_port_names_the_next_free_one(server: Server) -> None:
    answer = robotni("serve", cwd=server.project, port=server.port)
    assert answer.returncode == 1
    assert re.search(rf"port {server.port} is taken; port \d+ is free", answer.stderr)


def test_a_serve_that_cannot_listen_creates_no_data_directory(
    server: Server, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".git").mkdir()
    assert robotni("serve", cwd=elsewhere, port=server.port).returncode == 1
    assert robotni("serve", "--host", "0.0.0.0", cwd=elsewhere).returncode == 2
    assert not (elsewhere / ".robotni").exists()


def test_serve_prints_its_addresses_and_folders(server: Server) -> None:
    for text in (server.url, str(server.project), str(server.data), "worker"):
        assert text in server.log()


def test_demo_shows_a_run_and_removes_everything(tmp_path: Path) -> None:
    answer = robotni("demo", cwd=tmp_path, url="ignored")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for text in ("202 Accepted", "completed", "exit code    0", "hello from", '"python"'):
        assert text in answer.stdout
    match = re.search(r"(/\S*robotni-demo-\w+)", answer.stdout)
    assert match
    folder = Path(match[1])
    assert not folder.exists()
    eventually(lambda: processes_of(folder) == [], 5)
    end_all(folder)


def test_run_prints_the_output_and_exits_with_the_exit_code(server: Server) -> None:
    def run(script: str, *args: str) -> "subprocess.CompletedProcess[str]":
        (server.project / "script.py").write_text(script)
        return robotni("run", *args, "script.py", cwd=server.project, url=server.url)

    assert run("print('a'); import time; time.sleep(0.5); print('b')").stdout == "a\nb\n"
    assert run("raise SystemExit(7)").returncode == 7
    assert run("import os; os.kill(os.getpid(), 9)").returncode == 137
    late = run("import time; time.sleep(60)", "--timeout", "0.3")
    assert late.returncode == 124
    assert "stopped after 0.3 s" in late.stderr
    raw = run("import sys; sys.stdout.buffer.write(bytes(range(256)))", "--json")
    assert json.loads(raw.stdout)["status"] == "completed"
    twice = run("import os; print(os.environ['ROBOTNI_ATTEMPT']); raise SystemExit(1)",
                "--retries", "1")  # fmt: skip
    assert (twice.stdout, twice.returncode) == ("1\n2\n", 1)


def test_run_prints_binary_output_unchanged(server: Server) -> None:
    (server.project / "script.py").write_text("import os; os.write(1, bytes(range(256)))")
    answer = subprocess.run(
        [sys.executable, PROGRAM, "run", "script.py"],
        cwd=server.project,
        env=clean_environ(url=server.url),
        capture_output=True,
        check=True,
    )
    assert answer.stdout == bytes(range(256))


def test_ctrl_c_without_a_terminal_cancels_the_job(server: Server) -> None:
    (server.project / "script.py").write_text("import time; print('on'); time.sleep(300)")
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "run", "script.py"],
        cwd=server.project,
        env=clean_environ(url=server.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.stdout.close()
    (job,) = server.client.list()["jobs"]
    assert job["status"] == "cancelled"


def test_lists_are_tab_separated_in_a_pipe_or_json(server: Server) -> None:
    def call(*args: str) -> str:
        answer = robotni(*args, cwd=server.project, url=server.url)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    job_id = server.submit("print('hello')")
    server.wait_for(job_id)
    (line,) = call("jobs").splitlines()
    assert line.split("\t")[:2] == [job_id, "completed"]
    assert json.loads(call("jobs", "--json"))["jobs"][0]["jobId"] == job_id
    assert call("jobs", "--status", "failed") == ""
    assert call("logs", job_id) == call("logs", "-f", job_id) == "hello\n"
    retried = call("retry", job_id).strip()
    assert server.wait_for(retried)["retryOf"] == job_id
    assert "completed\t2" in call("status")
    assert json.loads(call("status", "--json"))["status"] == "ok"
    assert call("types").startswith("add\tAdd\t")


def test_show_prints_a_command_that_reproduces_the_run(server: Server) -> None:
    script = "import os, sys; print(sys.argv[1:], os.environ['SECRET'])"
    job_id = server.submit(script, args=["a b"], params={"n": 3}, env={"SECRET": "s3cret"})
    server.wait_for(job_id)
    shown = robotni("show", job_id, cwd=server.project, url=server.url).stdout
    (line,) = [text for text in shown.splitlines() if text.startswith("reproduce")]
    command = line[len("reproduce") :].strip()
    assert "s3cret" not in command
    by_hand = subprocess.run(
        command.replace("SECRET=…", "SECRET=s3cret"),
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert by_hand.stdout == server.client.get(job_id)["output"]


def test_every_command_has_an_example_in_its_help(project: Path) -> None:
    listed = robotni("--help", cwd=project).stdout.split("Commands:")[1]
    commands = re.findall(r"^  (\w+)", listed, re.MULTILINE)
    assert set(commands) == {
        "serve", "worker", "stop", "submit", "run", "jobs", "show", "logs", "cancel", "retry",
        "status", "types", "demo", "doctor",
    }  # fmt: skip
    for command in commands:
        assert f"Example: robotni {command}" in robotni(command, "--help", cwd=project).stdout


def test_python_m_robotni_is_the_same(project: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "robotni", "--version"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout == robotni("--version", cwd=project).stdout
