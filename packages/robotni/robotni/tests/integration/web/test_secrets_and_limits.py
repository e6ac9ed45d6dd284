"""Security beyond single requests: hostile rows in the queue, secrets, connections to the network.

Which requests are refused is in `test_security.py`; scripts that are swapped for a link are in
`chaos/test_swapped_script.py`.
"""

import inspect
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from robotni.consumer.huey_queue import run_job_message
from robotni.tests.calls import HELLO, serving
from robotni.tests.conftest import House
from robotni.tests.paths import PACKAGE
from robotni.tests.processes import PROGRAM, Server, eventually, free_port
from robotni.tests.unit.consumer.test_huey_queue import huey_of
from robotni.web import security as guard

TOKEN = "a-token-to-be-kept-secret"
SECRET = "v4lue-that-nobody-may-see"
SURPLUS = 2000 if sys.version_info < (3, 9) else 10_000


class Bomb:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.target,))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("door"), token=TOKEN)


def test_a_pickle_bomb_random_bytes_and_surplus_messages_run_nothing_and_stop_nothing(
    server: Server,
) -> None:
    done = server.submit("print('once')")
    server.wait_for(done)
    house = House(server.project, data_dir=server.data)
    bomb = pickle.dumps(Bomb(str(server.project / "went-off")))
    rows: List[Any] = [bomb, *(os.urandom(100) for _ in range(100))]
    rows += [run_job_message(done) for _ in range(SURPLUS)]
    with house.store._db.write():
        for row in rows:
            house.store._db.sql("INSERT INTO task (queue, data) VALUES ('robotni', ?)", (row,))
    started = time.monotonic()
    after = server.submit("print('after')")
    assert server.wait_for(after, within=180)["output"] == "after\n"
    print(f"{len(rows)} rows that are of no use took {time.monotonic() - started:.1f} s")
    job = server.client.get(done)
    assert (job["attempt"], job["output"]) == (1, "once\n")
    assert not (server.project / "went-off").exists()
    assert server.worker_log().count("worker started") == 1
    assert "Traceback" not in server.worker_log() + server.log()
    house.store.close()


def test_a_pickle_bomb_is_not_loaded_in_the_web_process(tmp_path: Path) -> None:
    for server in serving(tmp_path, autostart=0):  # so that no worker takes it from the table
        waiting = server.client.submit(HELLO)["jobId"]
        house = House(server.project, data_dir=server.data)
        huey_of(house).storage.close()  # Huey has made its tables
        bomb = pickle.dumps(Bomb(str(server.project / "went-off")))
        house.store._db.sql("INSERT INTO task (queue, data) VALUES ('robotni', ?)", (bomb,))
        for path in ("/queue/", f"/result/{waiting}", "/api/worker/status", "/readyz", "/metrics"):
            assert server.http.get(path).status_code == 200
        assert server.http.get("/queue/").json()["totals"]["pending"] == 1
        assert server.http.delete(f"/queue/{waiting}").json()["revoked"]
        assert server.http.post("/queue/flush/").status_code == 200
        left = house.store._db.sql("SELECT count(*) FROM task WHERE data = ?", (bomb,))
        assert left.fetchone() == (1,)
        assert not (server.project / "went-off").exists()
        assert "Traceback" not in server.log()
        house.store.close()


def test_environment_values_and_the_token_are_in_no_answer_and_no_log(server: Server) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    job_id = server.submit("import time; time.sleep(0.5); exit(3)", env={"API_KEY": SECRET})
    bad = server.http.post(
        "/api/worker/jobs", json={**HELLO, "env": {"LD_PRELOAD": SECRET}}, headers=bearer
    )
    assert bad.status_code == 422
    seen = [bad.text]
    paths = server.http.get("/openapi.json").json()["paths"]
    for _ in range(2):  # while it runs, and when it has ended
        for path, verbs in paths.items():
            if "get" in verbs:
                filled = re.sub(r"\{\w+\}", job_id, path)
                answer = server.http.get(filled, headers=bearer)
                seen.append(answer.text + repr(answer.headers))
        server.wait_for(job_id)
    assert sum(job_id in text for text in seen) > 4
    seen += [server.log(), server.worker_log()]
    assert [text for text in seen if SECRET in text or TOKEN in text] == []


def test_the_token_is_compared_in_constant_time() -> None:
    source = inspect.getsource(guard.SecurityMiddleware._check_token)
    assert "hmac.compare_digest(" in source
    assert not re.search(r"(==|!=| in )\s*token\b|\btoken\s*(==|!=)", source)


@pytest.fixture
def traced(tmp_path: Path) -> Callable[..., List[str]]:
    """The command line that writes down every connection of what follows."""
    if shutil.which("strace") is None:
        pytest.skip("to see every connection takes strace (apt install strace)")
    calls = "trace=connect,sendto,sendmsg"
    return lambda *command: [
        *("strace", "-f", "--seccomp-bpf", "-qq", "-s", "200", "-e", calls),
        *("-o", str(tmp_path / "calls")),
        *command,
    ]


def foreign_addresses(calls: Path) -> List[str]:
    """What is neither this machine nor a file; a name that is looked up shows as port 53."""
    text = calls.read_text()
    assert "sendto(" in text or "sendmsg(" in text  # it was looking
    addresses = re.findall(r"inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\"", text)
    assert addresses
    found = [a or b for a, b in addresses if not (a or b).startswith(("127.", "::1"))]
    return found + re.findall(r"htons\(53\)", text)


def test_no_connection_of_server_worker_and_script_leaves_the_machine(
    project: Path, traced: Callable[..., List[str]]
) -> None:
    server = Server(project, port=free_port())
    with open(project / "server.log", "ab") as log:
        tracer = subprocess.Popen(
            traced(sys.executable, PROGRAM, "serve"),
            cwd=project,
            env=server.environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(server.answers, 60)
        script = "import socket; print(socket.create_connection(('127.0.0.1', %d)) and 'hello')"
        job_id = server.submit(script % server.port)
        assert server.wait_for(job_id, within=60)["output"] == "hello\n"
        for path in ("/webdemo", "/docs", "/openapi.json", "/readyz", "/api/worker/status"):
            assert server.http.get(path).status_code == 200
    finally:
        server.close()
        tracer.wait()
    assert foreign_addresses(project / "calls") == []


def test_no_connection_of_a_test_run_leaves_the_machine(
    tmp_path: Path, traced: Callable[..., List[str]]
) -> None:
    """The tests of the commands: servers, workers, scripts and clients."""
    tests = str(PACKAGE / "tests/integration/cli/test_terminal.py")
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner")]
    command = traced(sys.executable, "-m", "pytest", *options, tests)
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert foreign_addresses(tmp_path / "calls") == []
