"""Both clients against a real server: what they return and raise, and how they poll."""

import asyncio
import re
import socket
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest

from robotni.client import AsyncClient, Client, RemoteJob
from robotni.client.transport import error_from
from robotni.errors import (
    AnswerLost,
    Conflict,
    InvalidRequest,
    NotFound,
    QueueFull,
    Refused,
    RobotniError,
    TokenRequired,
    Unreachable,
)
from robotni.tests.calls import HELLO, Wire
from robotni.tests.processes import Server, free_port


def test_submit_and_wait(server: Server) -> None:
    job = server.client.submit(HELLO).wait(poll=0.05)
    assert (job["status"], job["output"], job.is_terminal) == ("completed", "hello\n", True)
    assert job.output() == b"hello\n"
    assert job.output(2) == b"llo\n"
    assert job.output(99) == b""
    assert job.retry()["retryOf"] == job.id


FLOOD = "for n in range(3000): print('%09d' % n)"


def test_past_the_cap_a_line_stands_for_what_was_left_out(
    make_server: Callable[..., Server],
) -> None:
    server = make_server(max_output=4000)
    job = server.client.get(server.submit(FLOOD))
    followed = b"".join(job.follow())
    for output in (followed, job.output()):
        parts = re.split(rb"\n\[robotni: (\d+) bytes of output are left out here\]\n", output)
        assert sum(map(int, parts[1::2])) + sum(map(len, parts[::2])) == 30_000
        assert parts[-1].endswith(b"000002999\n")
    assert job.output(2000).endswith(b"000002999\n")

    async def follow() -> bytes:
        async with AsyncClient(server.url) as client:
            return b"".join([data async for data in (await client.get(job.id)).follow()])

    assert asyncio.run(follow()) == job.output()


def test_the_end_that_was_not_kept_is_told(make_server: Callable[..., Server]) -> None:
    server = make_server(max_output=3)
    job = server.client.get(server.submit("print('hello'); exit(1)"))
    line = b"\n[robotni: 3 bytes of output are left out here]\n"
    assert b"".join(job.follow()) == job.output() == b"hel" + line
    assert "nothing is quoted" in job["error"]["message"]


def test_an_unchanged_job_costs_a_304(server: Server) -> None:
    job = server.client.submit(HELLO).wait(poll=0.05)
    assert job.refresh() is False
    assert server.client.get(job.id).refresh() is False
    assert job["status"] == "completed"


def test_polling_obeys_retry_after(server: Server) -> None:
    job = server.client.submit({**HELLO, "delay": 3600})
    assert job._retry_after == 5.0
    with pytest.raises(TimeoutError, match="still scheduled"):
        job.wait(timeout=0.2)
    assert job.cancel()["status"] == "cancelled"


def test_jobs_reads_every_page(server: Server) -> None:
    ids = [server.client.submit(HELLO).id for _ in range(5)]
    assert [job["jobId"] for job in server.client.jobs(limit=2)] == ids[::-1]


def test_an_error_answer_is_raised_as_its_class(make_server: Callable[..., Server]) -> None:
    server = make_server(max_pending=1)
    client = server.client
    with pytest.raises(InvalidRequest) as invalid:
        client.submit({"script": "nowhere.py", "venv": ".venv"})
    assert invalid.value.errors[0].pointer == "/script"
    with pytest.raises(NotFound):
        client.get("0" * 32)
    job = client.submit(HELLO).wait(poll=0.05)
    with pytest.raises(Conflict):
        job.cancel()
    client.submit({**HELLO, "delay": 60})
    with pytest.raises(QueueFull):
        client.submit(HELLO)
    client._http.headers["Host"] = "evil.example"
    with pytest.raises(Refused, match="ROBOTNI_ALLOWED_HOSTS"):
        client.status()


def test_the_token_is_sent_and_a_wrong_one_refused(make_server: Callable[..., Server]) -> None:
    server = make_server(token="a-long-secret")
    assert server.client.status()["status"] == "ok"
    with Client(server.url, "wrong") as client, pytest.raises(TokenRequired, match="Bearer"):
        client.status()


def test_without_a_server_the_error_says_how_to_start_one() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}")
    with client, pytest.raises(Unreachable, match="start one with: robotni serve"):
        client.status()


def test_an_answer_that_is_not_from_robotni_is_reported(server: Server) -> None:
    answer = server.http.get("/webdemo")
    answer.status_code = 500
    assert type(error_from(answer)) is RobotniError
    assert "check the URL" in str(error_from(answer))
    answer.status_code = 502
    assert str(error_from(answer)) == (
        "the proxy at 127.0.0.1 answered 502, so it did not reach robotni; start it with: "
        "robotni serve"
    )


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "http://", "http://a:99999", "ftp://a", "http://a:b"]
)
def test_a_wrong_url_is_reported(url: str) -> None:
    with pytest.raises(Unreachable, match="is not the URL of a server; write it like http://"):
        Client(url)


def test_a_token_that_fits_no_header_is_reported() -> None:
    for token in ("hütte12345", "two\nlines"):
        with pytest.raises(TokenRequired, match="correct ROBOTNI_TOKEN"):
            Client(token=token)


# The server, or the network to it, is down for a while


def test_wait_and_follow_survive_a_restart_of_the_server(server: Server) -> None:
    script = server.project / "slow.py"
    script.write_text("import time\nprint('a')\ntime.sleep(4)\nprint('b')\n")
    job = server.client.submit({"script": "slow.py", "venv": ".venv"})
    other = server.client.get(job.id)
    output = follow(other)
    restart = threading.Timer(0.2, lambda: (server.kill_web(), time.sleep(1), server.start()))

    async def follow_and_wait() -> Any:
        async with AsyncClient(server.url) as client:
            third = await client.get(job.id)
            chunks = [chunk async for chunk in third.follow()]
            return b"".join(chunks), (await third.wait(poll=0.2))["status"]

    server.wait_for(job.id, "running")
    restart.start()
    assert job.wait(poll=0.2)["status"] == "completed"
    assert asyncio.run(follow_and_wait()) == (b"a\nb\n", "completed")
    restart.join()
    assert output() == b"a\nb\n"


def follow(job: RemoteJob) -> Callable[[], bytes]:
    """Follows the job in a thread; the result waits for it and returns all that was read."""
    chunks: List[bytes] = []
    thread = threading.Thread(target=lambda: chunks.extend(job.follow()))
    thread.start()

    def output() -> bytes:
        thread.join(20)
        return b"".join(chunks)

    return output


def test_waiting_ends_when_the_server_does_not_answer_for_retry_timeout(server: Server) -> None:
    with Client(server.url, retry_timeout=0.5) as client:
        job = client.submit({**HELLO, "delay": 60})
        server.kill_web()
        with pytest.raises(Unreachable, match="no robotni server answers"):
            job.wait(poll=0.1)
        with pytest.raises(Unreachable, match="no robotni server answers"):
            list(job.follow())
        with pytest.raises(TimeoutError):
            job.wait(poll=0.1, timeout=0.1)


class LossyProxy:
    """A proxy that forwards every request, but closes the connection of the first one instead of
    returning its answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: List[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                request = connection.recv(65536)
                while not request.rstrip().endswith(b"}"):
                    request += connection.recv(65536)
                self.requests.append(request)
                with Wire(self._server) as wire:
                    wire.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                    answer = b""
                    for part in iter(lambda: wire.socket.recv(65536), b""):
                        answer += part
                if len(self.requests) > 1:
                    connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def lossy(server: Server) -> Iterator[LossyProxy]:
    proxy = LossyProxy(server)
    yield proxy
    proxy.close()


def test_a_submit_whose_answer_got_lost_is_repeated_and_stored_once(
    server: Server, lossy: LossyProxy
) -> None:
    with Client(f"http://127.0.0.1:{lossy.port}") as client:
        job_id = client.submit(HELLO).id
    assert len(lossy.requests) == 2
    assert [job["jobId"] for job in server.client.jobs()] == [job_id]


def test_the_async_client_also_repeats_a_submit(server: Server, lossy: LossyProxy) -> None:
    async def submit() -> str:
        async with AsyncClient(f"http://127.0.0.1:{lossy.port}") as client:
            return (await client.submit(HELLO)).id

    job_id = asyncio.run(submit())
    assert len(lossy.requests) == 2
    assert [job["jobId"] for job in server.client.jobs()] == [job_id]


class ClosingServer:
    """Answers the first request on each connection, and closes it when a second one arrives, as a
    server does whose idle timeout has passed at that moment. With `answers=0` it answers none."""

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: List[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                for number in range(self._answers + 1):
                    request = connection.recv(65536)
                    if request:
                        self.requests.append(request.decode().split()[0])
                    if number < self._answers:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def closing(request: pytest.FixtureRequest) -> Iterator[ClosingServer]:
    server = ClosingServer(request.param)
    yield server
    server.close()


@pytest.mark.parametrize("closing", [1], indirect=True)
def test_a_call_that_reads_is_repeated_once_when_an_idle_connection_was_closed(
    closing: ClosingServer,
) -> None:
    with Client(closing.url) as client:
        assert [client.status() for _ in range(3)] == [{}, {}, {}]
    assert closing.requests == ["GET"] * 5

    async def use_client() -> Any:
        async with AsyncClient(closing.url) as client:
            return [await client.status() for _ in range(3)]

    assert asyncio.run(use_client()) == [{}, {}, {}]
    assert closing.requests == ["GET"] * 10


@pytest.mark.parametrize("closing", [0], indirect=True)
def test_a_call_that_gets_no_answer_twice_fails_and_one_that_changes_is_sent_once(
    closing: ClosingServer,
) -> None:
    with Client(closing.url) as client:
        with pytest.raises(AnswerLost, match="may have been carried out"):
            client.status()
        for call in (client.cancel, client.retry):
            with pytest.raises(AnswerLost, match="may have been carried out"):
                call("0" * 32)
    assert closing.requests == ["GET", "GET", "DELETE", "POST"]


def test_two_submits_are_two_jobs(server: Server) -> None:
    assert server.client.submit(HELLO).id != server.client.submit(HELLO).id


def test_follow_reads_one_attempt_after_the_other(server: Server) -> None:
    script = "import os; print(os.environ['ROBOTNI_ATTEMPT']); raise SystemExit(1)"
    (server.project / "script.py").write_text(script)
    job = server.client.submit({"script": "script.py", "venv": ".venv", "retries": 2})
    assert b"".join(job.follow()) == b"1\n2\n3\n"
    assert job["status"] == "failed"
    assert b"".join(job.follow(attempt=3)) == b"3\n"


def test_the_async_client_does_the_same(server: Server) -> None:
    async def use_client() -> Any:
        async with AsyncClient(server.url) as client:
            jobs = await asyncio.gather(*(client.submit(HELLO) for _ in range(3)))
            done = await asyncio.gather(*(job.wait(poll=0.05) for job in jobs))
            assert [job["output"] for job in done] == ["hello\n"] * 3
            assert await done[0].output(1) == b"ello\n"
            assert (await done[0].retry())["retryOf"] == done[0].id
            listed = [job["jobId"] async for job in client.jobs(limit=2)]
            assert len(listed) == 4
            waiting = await client.submit({**HELLO, "delay": 60})
            with pytest.raises(TimeoutError):
                await waiting.wait(timeout=0.1)
            assert (await waiting.cancel())["status"] == "cancelled"
            with pytest.raises(NotFound):
                await client.get("0" * 32)
            return await client.status()

    assert asyncio.run(use_client())["jobs"]["cancelled"] == 1
