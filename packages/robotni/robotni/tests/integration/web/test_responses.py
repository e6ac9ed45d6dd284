"""What a client has already is not sent again: ETags, and output from byte N on."""

import re
import time
from typing import Any, Dict, Iterator, Tuple

import httpx
import pytest

from robotni.tests.calls import HELLO, problem, serving
from robotni.tests.processes import Server, eventually

JOBS = "/api/worker/jobs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def done(server: Server) -> str:
    """A job that has ended, whose output is the bytes 0 to 9 and a line end."""
    job_id = server.submit("print('0123456789')")
    server.wait_for(job_id)
    return job_id


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    return server.http.get(path, headers={n.replace("_", "-"): v for n, v in headers.items()})


# ETag


def test_the_etag_of_an_unchanged_job_stays_the_same(server: Server, done: str) -> None:
    first, second = (get(server, f"{JOBS}/{done}") for _ in range(2))
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["etag"].startswith('"')


@pytest.mark.parametrize("named", ["{tag}", "W/{tag}", '"x", {tag}', '"x",W/{tag} , "y"', "*"])
def test_a_matching_etag_gets_304_without_a_body(server: Server, done: str, named: str) -> None:
    tag = get(server, f"{JOBS}/{done}").headers["etag"]
    answer = get(server, f"{JOBS}/{done}", If_None_Match=named.replace("{tag}", tag))
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("named", ["", '"x"', "{bare}", '"{bare}', 'w/"{bare}"', ",,,", '"' * 5000])
def test_another_etag_gets_the_job(server: Server, done: str, named: str) -> None:
    bare = get(server, f"{JOBS}/{done}").headers["etag"].strip('"')
    answer = get(server, f"{JOBS}/{done}", If_None_Match=named.replace("{bare}", bare))
    assert (answer.status_code, answer.json()["jobId"]) == (200, done)


def test_a_change_of_the_job_changes_the_etag(server: Server) -> None:
    job = server.client.submit({**HELLO, "delay": 3600})
    path = f"{JOBS}/{job['jobId']}"
    waiting = get(server, path)
    assert waiting.headers["retry-after"] == "5"
    unchanged = get(server, path, If_None_Match=waiting.headers["etag"])
    assert (unchanged.status_code, unchanged.headers["retry-after"]) == (304, "5")
    listed = get(server, JOBS).headers["etag"]
    server.client.cancel(job["jobId"])
    changed = get(server, path, If_None_Match=waiting.headers["etag"])
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert "retry-after" not in changed.headers
    assert get(server, JOBS, If_None_Match=listed).status_code == 200


def test_progress_changes_the_etag_while_a_job_runs(server: Server) -> None:
    job_id = server.submit(
        "import os, pathlib, time\n"
        "for n in range(3):\n"
        "    open(os.environ['ROBOTNI_PROGRESS'], 'a').write(f'{n}0 step {n}\\n')\n"
        "    while not pathlib.Path(f'step{n}').exists():\n"
        "        time.sleep(0.01)\n"
    )
    seen = set()
    for step in range(3):
        expected = {"percent": 10.0 * step, "message": f"step {step}"}
        eventually(lambda e=expected: server.client.get(job_id)["progress"] == e)  # type: ignore[misc]
        seen.add(get(server, f"{JOBS}/{job_id}").headers["etag"])
        (server.project / f"step{step}").touch()
    assert len(seen) == 3


# Range


def test_output_is_served_as_plain_text(server: Server, done: str) -> None:
    answer = get(server, f"{JOBS}/{done}/output")
    assert (answer.status_code, answer.content) == (200, b"0123456789\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == "11"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "asked, content, content_range",
    [
        ("bytes=0-", b"0123456789\n", "bytes 0-10/11"),
        ("bytes=4-", b"456789\n", "bytes 4-10/11"),
        ("bytes=10-", b"\n", "bytes 10-10/11"),
        ("bytes=-1", b"\n", "bytes 10-10/11"),
        ("bytes=-4", b"789\n", "bytes 7-10/11"),
        ("bytes=-11", b"0123456789\n", "bytes 0-10/11"),
        ("bytes=-999999999999999999", b"0123456789\n", "bytes 0-10/11"),
    ],
)
def test_output_is_served_from_byte_n_on_or_its_last_n_bytes(
    server: Server, done: str, asked: str, content: bytes, content_range: str
) -> None:
    answer = get(server, f"{JOBS}/{done}/output", Range=asked)
    assert (answer.status_code, answer.content) == (206, content)
    assert answer.headers["content-range"] == content_range
    assert answer.headers["content-length"] == str(len(content))


@pytest.mark.parametrize("asked", ["bytes=11-", "bytes=12-", f"bytes={'9' * 18}-", "bytes=-0"])
def test_a_range_beyond_the_end_gets_416_with_the_size(
    server: Server, done: str, asked: str
) -> None:
    answer = get(server, f"{JOBS}/{done}/output", Range=asked)
    assert "11 bytes" in problem(answer, 416, "nothing_there_yet")["detail"]
    assert answer.headers["content-range"] == "bytes */11"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-3",
        "bytes=-5-",
        "bytes=--5",
        "bytes=-",
        "bytes=-9999999999999999999",
        "bytes=0-3,5-",
        "bytes=5-,6-",
        "lines=2-",
        "bytes=\xb2-",
        "",
        "bytes=x-",
    ],
)
def test_any_other_range_gets_the_whole_output(server: Server, done: str, asked: str) -> None:
    answer = server.http.get(f"{JOBS}/{done}/output", headers=[(b"Range", asked.encode("latin-1"))])
    assert (answer.status_code, answer.content) == (200, b"0123456789\n")


def test_a_header_of_very_many_ranges_is_answered_quickly(server: Server, done: str) -> None:
    many = "bytes=" + ",".join(f"{n}-" for n in range(2500))
    took = []
    for _ in range(5):
        began = time.monotonic()
        answer = get(server, f"{JOBS}/{done}/output", Range=many)
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.content) == (200, b"0123456789\n")
    assert min(took) < 0.05  # 4.9 s where all of them are looked at


@pytest.mark.parametrize("path", ["/webdemo", "/docs", "/openapi.json"])
def test_pages_ignore_ranges(server: Server, path: str) -> None:
    many = "bytes=" + ",".join(f"{n}-" for n in range(2500))
    began = time.monotonic()
    assert get(server, path, Range=many).status_code == 200
    assert time.monotonic() - began < 1


def test_output_is_sent_byte_for_byte(server: Server) -> None:
    odd = bytes(range(256)) + b"<script>alert(1)</script>\x1b[31m\xe2\x80\xae"
    job_id = server.submit(f"import sys\nsys.stdout.buffer.write({odd!r})")
    job = server.wait_for(job_id)
    assert get(server, f"{JOBS}/{job_id}/output").content == odd
    assert job["output"] == odd.decode("utf-8", "replace")
    assert job["outputBytes"] == len(odd)


FLOOD = """
import atexit, sys
atexit.register(print, "bye")
for n in range(20_000):
    print("%09d" % n)
raise ValueError("the cause")
"""


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("capped"), max_output=40_000)


@pytest.fixture(scope="module")
def flood(capped: Server) -> Dict[str, Any]:
    job: Dict[str, Any] = capped.wait_for(capped.submit(FLOOD))
    return job


def test_past_the_cap_a_job_has_its_true_end_and_its_error(flood: Dict[str, Any]) -> None:
    assert flood["outputBytes"] > 200_000
    assert flood["outputTruncated"]
    assert flood["output"].endswith("ValueError: the cause\nbye\n")
    assert flood["error"]["message"].endswith("ended with exit code 1: ValueError: the cause")


def test_a_part_of_the_output_never_spans_what_was_left_out(
    capped: Server, flood: Dict[str, Any]
) -> None:
    path, size = f"{JOBS}/{flood['jobId']}/output", flood["outputBytes"]
    begin = get(capped, path, Range="bytes=19990-")
    assert begin.headers["content-range"] == f"bytes 19990-19999/{size}"
    assert begin.content == b"000001999\n"
    end = get(capped, path, Range="bytes=20000-")
    assert end.status_code == 206
    first = size - len(end.content)
    assert 170_000 < first < 190_001
    assert end.headers["content-range"] == f"bytes {first}-{size - 1}/{size}"
    assert end.text == get(capped, path, Range=f"bytes={first}-").text
    assert end.text.endswith(flood["output"][-5000:])
    assert get(capped, path, Range="bytes=-5").text == "\nbye\n"
    assert get(capped, path, Range=f"bytes=-{size}").content == end.content
    problem(get(capped, path, Range=f"bytes={size}-"), 416)


def test_an_answer_without_range_says_how_much_is_left_out(
    capped: Server, flood: Dict[str, Any]
) -> None:
    answer = get(capped, f"{JOBS}/{flood['jobId']}/output")
    line = r"\n\[robotni: (\d+) bytes of output are left out here\]\n"
    begin, missing, end = re.split(line, answer.text)
    assert (len(begin), len(begin) + int(missing) + len(end)) == (20_000, flood["outputBytes"])
    assert answer.headers["content-length"] == str(len(answer.content))
    assert "content-range" not in answer.headers


def follow(server: Server, job_id: str) -> Iterator[Tuple[int, bytes]]:
    """(status, bytes) of each answer to a client that polls the output until the job has ended."""
    have = 0
    while True:
        ended = server.client.get(job_id)["status"] in ("completed", "failed", "cancelled")
        answer = get(server, f"{JOBS}/{job_id}/output", Range=f"bytes={have}-")
        if answer.status_code == 206:
            have += len(answer.content)
            assert answer.headers["content-range"].endswith(f"/{have}")
            yield 206, answer.content
        else:
            problem(answer, 416)
            assert answer.headers["content-range"] == f"bytes */{have}"
            yield 416, b""
            if ended:
                return


def test_growing_output_can_be_followed_without_gaps_or_repeats(server: Server) -> None:
    job_id = server.submit(
        "import time\nfor n in range(200):\n    print('line', n)\n    time.sleep(0.005)\n"
    )
    server.wait_for(job_id, "running", "completed")
    answers = list(follow(server, job_id))
    assert len([1 for status, _ in answers if status == 206]) > 1
    whole = b"".join(content for _, content in answers)
    assert whole == b"".join(b"line %d\n" % n for n in range(200))
    assert get(server, f"{JOBS}/{job_id}/output").content == whole


def test_a_job_that_has_not_started_has_empty_output(server: Server) -> None:
    job_id = server.client.submit({**HELLO, "delay": 3600})["jobId"]
    answer = get(server, f"{JOBS}/{job_id}/output")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    nothing = get(server, f"{JOBS}/{job_id}/output", Range="bytes=0-")
    problem(nothing, 416)
    assert nothing.headers["content-range"] == "bytes */0"
    problem(get(server, f"{JOBS}/{job_id}/output?attempt=1"), 404)
    server.client.cancel(job_id)
    assert get(server, f"{JOBS}/{job_id}/output").content == b""


def test_a_script_that_wrote_nothing_has_empty_output(server: Server) -> None:
    job_id = server.submit("")
    assert server.wait_for(job_id)["output"] == ""
    assert get(server, f"{JOBS}/{job_id}/output").content == b""
    problem(get(server, f"{JOBS}/{job_id}/output", Range="bytes=0-"), 416)


# Attempts


@pytest.fixture(scope="module")
def three_attempts(server: Server) -> str:
    text = "import os\nn = int(os.environ['ROBOTNI_ATTEMPT'])\nprint('try', n)\nexit(n < 3)"
    job_id = server.submit(text, retries=4)
    assert server.wait_for(job_id)["status"] == "completed"
    return job_id


@pytest.mark.parametrize(
    "query, text", [("", "try 3\n"), *((f"?attempt={n}", f"try {n}\n") for n in (1, 2, 3))]
)
def test_each_attempt_keeps_its_output(
    server: Server, three_attempts: str, query: str, text: str
) -> None:
    assert get(server, f"{JOBS}/{three_attempts}/output{query}").text == text
    part = get(server, f"{JOBS}/{three_attempts}/output{query}", Range="bytes=4-")
    assert (part.status_code, part.text) == (206, text[4:])


def test_a_job_lists_its_attempts(server: Server, three_attempts: str) -> None:
    job = server.client.get(three_attempts)
    assert (job["attempt"], job["maxAttempts"], job["output"]) == (3, 5, "try 3\n")
    assert [a["attempt"] for a in job["attempts"]] == [1, 2, 3]
    assert [a["exitCode"] for a in job["attempts"]] == [1, 1, 0]
    codes = [a["error"] and a["error"]["code"] for a in job["attempts"]]
    assert codes == ["exit_nonzero", "exit_nonzero", None]


@pytest.mark.parametrize(
    "query, status",
    [
        ("?attempt=4", 404),
        ("?attempt=1000", 404),
        ("?attempt=0", 422),
        ("?attempt=-1", 422),
        ("?attempt=1001", 422),
        ("?attempt=99999999999999999999", 422),
        ("?attempt=1.5", 422),
        ("?attempt=", 422),
        ("?attempt=../1", 422),
        ("?attempt=%00", 422),
    ],
)
def test_the_output_of_an_attempt_that_does_not_exist_is_an_error(
    server: Server, three_attempts: str, query: str, status: int
) -> None:
    body: Dict[str, Any] = problem(get(server, f"{JOBS}/{three_attempts}/output{query}"), status)
    assert status == 404 or body["errors"][0]["pointer"] == "/attempt"
