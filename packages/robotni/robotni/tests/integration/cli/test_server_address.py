"""Commands, doctor and scripts find the server of their project at whatever port it listens."""

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from robotni.system.datadir import DataDir
from robotni.system.server_address import address
from robotni.tests.integration.cli.test_commands import robotni
from robotni.tests.processes import Server, eventually, free_port


@pytest.fixture
def make_another(project: Path) -> Any:
    """A second server of the project, at another port."""
    servers = []

    def make() -> Server:
        servers.append(Server(project, kill_grace=2))
        return servers[-1].start()

    yield make
    for server in servers:
        server.close()


def test_commands_find_the_server_at_its_port_from_every_folder_of_the_project(
    server: Server,
) -> None:
    job_id = server.submit("print('here')")
    server.wait_for(job_id)
    folder = server.project / "deep" / "er"
    folder.mkdir(parents=True)
    for cwd in (server.project, folder):
        shown = robotni("logs", job_id, cwd=cwd)
        assert (shown.stdout, shown.stderr) == ("here\n", "")


def test_doctor_finds_the_server_at_its_port(server: Server) -> None:
    report = json.loads(robotni("doctor", "--json", cwd=server.project).stdout)
    (found,) = [f for f in report["findings"] if f["check"] == "server"]
    assert found["ok"] and found["text"].endswith(f"at {server.url}")


def test_url_and_robotni_url_win(server: Server) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for answer in (
        robotni("status", cwd=server.project, url=nowhere),
        robotni("status", "--url", nowhere, cwd=server.project),
    ):
        assert answer.returncode == 1
        assert f"no robotni server answers at {nowhere} " in answer.stderr


def test_a_script_gets_the_address_of_the_server_that_runs_not_of_the_one_before(
    server: Server, make_another: Callable[[], Server]
) -> None:
    server.wait_for(server.submit("pass"))
    (worker,) = server.workers()
    server.kill_web()
    other = make_another()
    job = other.wait_for(other.submit("import os; print(os.environ['ROBOTNI_JOB_URL'])"))
    assert job["output"] == f"{other.url}/api/worker/jobs/{job['jobId']}\n"
    assert [w.pid for w in other.workers()] == [worker.pid]


def test_of_two_servers_the_newer_is_found_and_after_its_end_the_older(
    server: Server, make_another: Callable[[], Server]
) -> None:
    datadir = DataDir(server.data)
    other = make_another()
    assert address(datadir) == other.url
    other.stop()
    assert address(datadir) == server.url
    server.kill_web()
    assert address(datadir) is None
    assert len(list(datadir.servers.iterdir())) == 1  # of the killed one
    third = make_another()
    assert address(datadir) == third.url
    third.stop()
    eventually(lambda: list(datadir.servers.iterdir()) == [])


def test_without_a_server_the_address_of_the_settings_is_named(project: Path) -> None:
    port = free_port()
    answer = robotni("status", cwd=project, port=port)
    assert f"no robotni server answers at http://127.0.0.1:{port} " in answer.stderr
