"""What a script sees around it: exactly the command line and the variables of the contract."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest

from robotni.consumer.launch import command_line, environment, passed
from robotni.jobs.models import Job
from robotni.storage.run_files import RunFiles

JOB_ID = "01a0c4506c0070009bf1a15d4da54d39"
URL = "http://127.0.0.1:8000"
RUNDIR = RunFiles(Path("/data/jobs"), JOB_ID, 7)

PASSED = {
    "HOME": "/home/me",
    "USER": "me",
    "LOGNAME": "me",
    "SHELL": "/bin/sh",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LC_TIME": "en_GB.UTF-8",
    "TZ": "Europe/Berlin",
    "TMPDIR": "/var/tmp",
    "SSL_CERT_FILE": "/etc/ssl/cert.pem",
    "http_proxy": "http://proxy:1",
    "https_proxy": "http://proxy:2",
    "ftp_proxy": "http://proxy:3",
    "no_proxy": "localhost",
    "all_proxy": "http://proxy:4",
    "HTTP_PROXY": "http://proxy:1",
    "HTTPS_PROXY": "http://proxy:2",
    "FTP_PROXY": "http://proxy:3",
    "NO_PROXY": "localhost",
    "ALL_PROXY": "http://proxy:4",
}
KEPT_BACK = {
    "LD_PRELOAD": "/evil.so",
    "LD_LIBRARY_PATH": "/evil",
    "PYTHONPATH": "/evil",
    "PYTHONHOME": "/evil",
    "PYTHONSTARTUP": "/evil.py",
    "AWS_SECRET": "s3cret",
    "DATABASE_URL": "postgres://me:s3cret@db",
    "ROBOTNI_TOKEN": "s3cret-token",
    "ROBOTNI_PORT": "8000",
    "ROBOTNI_JOB_ID": "of an outer job",
    "BASH_ENV": "/evil.sh",
    "VIRTUAL_ENV": "/server/.venv",
    "PYTHONUNBUFFERED": "",
    "LANGUAGE": "de",
    "LC": "x",
    "MY_HOME": "/x",
    "path": "/x",
    "GIT_DIR": "/x",
}
OWN = {
    "VIRTUAL_ENV": "/srv/app/.venv",
    "PATH": "/srv/app/.venv/bin:/usr/bin:/bin",
    "PYTHONUNBUFFERED": "1",
    "ROBOTNI_JOB_ID": JOB_ID,
    "ROBOTNI_PROJECT": "demo",
    "ROBOTNI_ATTEMPT": "2",
    "ROBOTNI_JOB_URL": f"{URL}/api/worker/jobs/{JOB_ID}",
    "ROBOTNI_RESULT": f"/data/jobs/{JOB_ID}/7/result.json",
    "ROBOTNI_PROGRESS": f"/data/jobs/{JOB_ID}/7/progress",
}


def a_job(**fields: Any) -> Job:
    given = {"script": "/srv/app/a.py", "venv": "/srv/app/.venv", "project": "demo", "attempt": 2}
    return Job(job_id=JOB_ID, timestamp=0.0, **{**given, **fields})


def seen(server: Dict[str, str], pass_env: Sequence[str] = (), **fields: Any) -> Dict[str, str]:
    return environment(a_job(**fields), RUNDIR, passed(server, pass_env), URL)


# variables


def test_the_environment_is_exactly_that_of_the_contract() -> None:
    server = {"PATH": "/usr/bin:/bin", **PASSED, **KEPT_BACK}
    assert seen(server) == {**PASSED, **OWN}


def test_what_the_server_does_not_have_is_not_made_up() -> None:
    assert seen({"PATH": "/usr/bin:/bin"}) == OWN


@pytest.mark.parametrize("path", [{}, {"PATH": ""}])
def test_without_a_path_there_is_the_usual_one(path: Dict[str, str]) -> None:
    assert seen(path)["PATH"] == "/srv/app/.venv/bin:/usr/local/bin:/usr/bin:/bin"


def test_the_venv_of_the_server_comes_after_that_of_the_job() -> None:
    server = {"PATH": "/server/.venv/bin:/usr/bin", "VIRTUAL_ENV": "/server/.venv"}
    env = seen(server)
    assert env["PATH"] == "/srv/app/.venv/bin:/server/.venv/bin:/usr/bin"
    assert env["VIRTUAL_ENV"] == "/srv/app/.venv"


@pytest.mark.parametrize(
    "globs, names",
    [
        ((), set()),
        (("AWS_SECRET",), {"AWS_SECRET"}),
        (("AWS_*", "GIT_???"), {"AWS_SECRET", "GIT_DIR"}),
        (("aws_*",), set()),
        (("[AD]*",), {"AWS_SECRET", "DATABASE_URL"}),
        (("LD_*", "PYTHON*", "LD_PRELOA?", "[P]YTHONPATH", "ROBOTNI_*", "ROBOTNI_TOKEN"), set()),
        (("LD_PRELOAD", "PYTHONPATH"), {"LD_PRELOAD", "PYTHONPATH"}),
        (("*",), {"AWS_SECRET", "DATABASE_URL", "BASH_ENV", "LANGUAGE", "LC", "MY_HOME", "path",
                  "GIT_DIR"}),
    ],
)  # fmt: skip
def test_pass_env_lets_more_through_but_never_what_decides_which_code_runs(
    globs: Sequence[str], names: Any
) -> None:
    env = seen({"PATH": "/usr/bin:/bin", **KEPT_BACK}, globs)
    assert env == {**OWN, **{name: KEPT_BACK[name] for name in names}}


def test_the_request_s_env_goes_before_the_server_s_and_robotni_s_before_both() -> None:
    asked = {
        "HOME": "/elsewhere",
        "API_URL": "http://x",
        "VIRTUAL_ENV": "/mine",
        "ROBOTNI_ATTEMPT": "99",  # refused at the door; here it would not matter
        "PATH": "/mine",
    }
    env = seen({"HOME": "/home/me", "PATH": "/usr/bin"}, env=asked)
    assert (env["HOME"], env["API_URL"]) == ("/elsewhere", "http://x")
    assert (env["VIRTUAL_ENV"], env["ROBOTNI_ATTEMPT"]) == ("/srv/app/.venv", "2")
    assert env["PATH"].startswith("/srv/app/.venv/bin:")


def test_a_job_of_a_bundled_type_has_the_venv_that_robotni_runs_in() -> None:
    env = seen({"PATH": "/usr/bin"}, type="add", script=None, venv=None)
    assert env["VIRTUAL_ENV"] == sys.prefix
    assert env["PATH"] == f"{sys.prefix}/bin:/usr/bin"


def test_neither_the_server_s_nor_the_job_s_variables_are_changed() -> None:
    server, job = {"PATH": "/usr/bin"}, a_job(env={"A": "b"})
    environment(job, RUNDIR, passed(server, ()), URL)
    assert (server, job.env) == ({"PATH": "/usr/bin"}, {"A": "b"})


# command line


@pytest.mark.parametrize(
    "fields, argv",
    [
        ({}, ["/srv/app/.venv/bin/python", "/srv/app/a.py"]),
        (
            {"args": ["--n", "3", "; rm -rf /", "$(id)"], "params": {"x": 5, "dry": True}},
            ["/srv/app/.venv/bin/python", "/srv/app/a.py", "--n", "3", "; rm -rf /", "$(id)",
             "--x", "5", "--dry"],
        ),
        (
            {"script": None, "module": "jobs.nightly", "args": ["-c", "--help"]},
            ["/srv/app/.venv/bin/python", "-m", "jobs.nightly", "-c", "--help"],
        ),
        (
            {"type": "add", "script": None, "venv": None, "params": {"x": 5, "y": -3}},
            [sys.executable, "/robotni/workers/add.py", "--x", "5", "--y=-3"],
        ),
    ],
)  # fmt: skip
def test_the_command_line_of_a_job(fields: Any, argv: Any) -> None:
    assert command_line(a_job(**fields), "/robotni/workers/add.py") == argv


def test_a_real_script_sees_its_venv_its_cwd_and_nothing_of_the_server(project: Path) -> None:
    (project / "show.py").write_text(
        "import os, shutil, sys\n"
        "print(sys.prefix, shutil.which('python'), sys.argv[1:], sys.flags.isolated)\n"
        "print(*sorted(n for n in os.environ if n not in ('LC_CTYPE', 'PWD')))\n"
    )
    job = a_job(script=str(project / "show.py"), venv=str(project / ".venv"), args=["--help"])
    server = {**os.environ, "PYTHONPATH": "/evil", "PYTHONHOME": "/evil", "SECRET": "s3cret"}
    env = environment(job, RUNDIR, passed(server, ()), URL)
    done = subprocess.run(
        command_line(job, ""), env=env, cwd=project, stdout=subprocess.PIPE, check=True, text=True
    )
    first, second = done.stdout.splitlines()
    assert first == f"{project}/.venv {project}/.venv/bin/python ['--help'] 0"
    assert second.split() == sorted(env.keys() - {"LC_CTYPE"})
