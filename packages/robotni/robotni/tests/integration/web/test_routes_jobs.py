"""The worker API over HTTP: each call as the backend of an app uses it, and bad input."""

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from urllib.parse import quote, urljoin

import pytest

from robotni import __version__
from robotni.jobs.models import rfc3339
from robotni.tests.calls import HELLO, JSON, UNKNOWN_ID, Wire, problem, raw, serving, stored
from robotni.tests.processes import Server, eventually, make_venv

JOBS = "/api/worker/jobs"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIELDS = [
    "jobId", "type", "project", "status", "timestamp", "output", "script", "module", "venv", "args",
    "params", "cwd", "env", "warm", "preload", "timeout", "expires", "attempt", "maxAttempts",
    "retryOf", "runAt", "startedAt", "finishedAt", "cancelRequestedAt", "exitCode", "signal",
    "error", "progress", "result", "outputBytes", "outputTruncated", "attempts",
]  # fmt: skip
LISTED = [field for field in FIELDS if field not in ("output", "attempts")]
ATTEMPT_FIELDS = {"attempt", "startedAt", "finishedAt", "exitCode", "signal", "error"}
SLEEPS = "import time\nprint('up')\ntime.sleep(600)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Runs what it is given; scripts may also lie in the folder `other` beside its own."""
    project, other = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("other")
    yield from serving(project, script_roots=f"{project}:{other}")


@pytest.fixture(scope="module")
def workerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts no worker, so that what is stored stays pending."""
    yield from serving(tmp_path_factory.mktemp("workerless"), autostart=0)


def post(server: Server, request: Any = HELLO, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.http.post(JOBS, json=request, headers=named)


def refused(server: Server, request: Any) -> Dict[str, str]:
    """The errors of a submit that must get 422 and store nothing: {pointer: sentence}."""
    before = stored(server)
    body = problem(post(server, request), 422, "invalid_request")
    assert stored(server) == before
    return {error["pointer"]: error["detail"] for error in body["errors"]}


def running(server: Server, script: str = SLEEPS, **fields: Any) -> str:
    job_id = server.submit(script, **fields)
    eventually(lambda: "up\n" in server.client.output(job_id).decode())
    return job_id


# Submit


def test_a_submit_is_accepted_and_says_where_to_poll(server: Server) -> None:
    answer = post(server)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{JOBS}/{job['jobId']}"
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/json"
    assert "idempotent-replayed" not in answer.headers
    assert job["status"] == "pending"
    ended = server.wait_for(job["jobId"])
    assert (ended["status"], ended["output"], ended["exitCode"]) == ("completed", "hello\n", 0)
    polled = server.http.get(answer.headers["location"])
    assert polled.json() == ended
    assert "retry-after" not in polled.headers


def test_a_job_has_exactly_the_fields_of_the_contract(server: Server) -> None:
    fresh = post(server).json()
    assert list(fresh) == FIELDS
    ended = server.wait_for(fresh["jobId"])
    assert list(ended) == FIELDS
    assert set(ended["attempts"][0]) == ATTEMPT_FIELDS
    assert [list(item) for item in server.client.list(limit=1)["jobs"]] == [LISTED]


def test_a_new_job_says_what_will_be_run(workerless: Server) -> None:
    job = post(workerless).json()
    folder = str(workerless.project)
    assert re.fullmatch("[0-9a-f]{32}", job.pop("jobId"))
    assert TIME.fullmatch(job.pop("timestamp"))
    assert job == {
        **dict.fromkeys(FIELDS[5:]),
        "type": "python-script",
        "project": "default",
        "status": "pending",
        "script": f"{folder}/hello.py",
        "venv": f"{folder}/.venv",
        "cwd": folder,
        "args": [],
        "params": {},
        "env": [],
        "warm": False,
        "preload": [],
        "timeout": 3600,
        "attempt": 0,
        "maxAttempts": 1,
        "outputBytes": 0,
        "outputTruncated": False,
        "attempts": [],
    }


def test_an_ended_job_says_how_it_went(server: Server) -> None:
    job = server.wait_for(server.submit("import sys\nprint('oh')\nsys.exit(3)"))
    assert (job["status"], job["exitCode"], job["signal"]) == ("failed", 3, None)
    assert job["error"]["code"] == "exit_nonzero"
    assert "3" in job["error"]["message"]
    assert (job["output"], job["outputBytes"], job["outputTruncated"]) == ("oh\n", 3, False)
    times = [job[name] for name in ("timestamp", "startedAt", "finishedAt")]
    assert all(TIME.fullmatch(at) for at in times)
    assert times == sorted(times)
    (attempt,) = job["attempts"]
    assert attempt == {name: job[name] for name in ATTEMPT_FIELDS}


def test_a_running_job_shows_its_attempt_and_no_output_yet(server: Server) -> None:
    job = server.client.get(running(server))
    assert (job["status"], job["attempt"], job["output"]) == ("running", 1, None)
    assert job["outputBytes"] == 3
    (attempt,) = job["attempts"]
    assert attempt == {
        "attempt": 1,
        "startedAt": job["startedAt"],
        **dict.fromkeys(("finishedAt", "exitCode", "signal", "error")),
    }
    server.client.cancel(job["jobId"])


def test_a_crashed_job_names_its_signal(server: Server) -> None:
    job = server.wait_for(server.submit("import os\nos.abort()"))
    assert (job["status"], job["exitCode"], job["signal"]) == ("failed", None, "SIGABRT")
    assert job["error"]["code"] == "signalled"


def test_a_job_that_takes_too_long_is_stopped(server: Server) -> None:
    job = server.wait_for(server.submit(SLEEPS, timeout=0.3))
    assert (job["status"], job["error"]["code"], job["timeout"]) == ("failed", "timeout", 0.3)


ODD_ARGS = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "--help",
    "-c",
    "",
    " ",
    "a\nb\tc",
    "'\"\\",
    "*",
    "~",
    "\N{GRINNING FACE}\u202e",
    "<img src=x>",
    "%s{0}",
    "x" * 20_000,
]


def test_arguments_arrive_as_they_were_sent(server: Server) -> None:
    job_id = server.submit("import json, sys\nprint(json.dumps(sys.argv[1:]))", args=ODD_ARGS)
    job = server.wait_for(job_id)
    assert job["args"] == ODD_ARGS
    assert json.loads(job["output"]) == ODD_ARGS


def test_params_arrive_as_flags(server: Server) -> None:
    params = {"x": 5, "tag": ["a", "b"], "dry": True, "no": False, "none": None, "f": 1.5}
    script = "import json, sys\nprint(json.dumps(sys.argv[1:]))"
    job = server.wait_for(server.submit(script, args=["first"], params=params))
    assert job["params"] == params
    sent = ["first", "--x", "5", "--tag", "a", "--tag", "b", "--dry", "--f", "1.5"]
    assert json.loads(job["output"]) == sent


def test_result_progress_and_stdin_are_passed_on(server: Server) -> None:
    script = (
        "import json, os, sys\n"
        "print('half', file=open(os.environ['ROBOTNI_PROGRESS'], 'w'))\n"
        "print('40 nearly', file=open(os.environ['ROBOTNI_PROGRESS'], 'a'))\n"
        "json.dump({'said': sys.stdin.read()}, open(os.environ['ROBOTNI_RESULT'], 'w'))\n"
    )
    job = server.wait_for(server.submit(script, stdin="täxt\n"))
    assert job["result"] == {"said": "täxt\n"}
    assert job["progress"] == {"percent": 40.0, "message": "nearly"}
    assert "täxt" not in json.dumps({**job, "result": None}, ensure_ascii=False)


@pytest.mark.parametrize("result", ["[" * 300 + "]" * 300, "[" * 900 + "]" * 900, "9" * 4000])
def test_a_job_can_be_read_whatever_result_its_script_wrote(server: Server, result: str) -> None:
    script = f"import os\nopen(os.environ['ROBOTNI_RESULT'], 'w').write({result!r})"
    job_id = server.submit(script)
    eventually(lambda: server.client.status()["jobs"]["running"] == 0)
    time.sleep(0.2)
    assert server.http.get(f"{JOBS}/{job_id}").status_code == 200
    assert server.http.get(JOBS).status_code == 200
    assert server.http.get(f"/result/{job_id}").status_code == 200


def test_a_module_runs_from_its_folder(server: Server) -> None:
    package = server.project / "apps" / "jobs"
    package.mkdir(parents=True)
    (package / "nightly.py").write_text("import sys\nprint(__name__, sys.argv[1:])")
    request = {"module": "jobs.nightly", "venv": ".venv", "cwd": "apps", "args": ["x"]}
    job = server.wait_for(post(server, request).json()["jobId"])
    assert (job["script"], job["module"]) == (None, "jobs.nightly")
    assert job["output"] == "__main__ ['x']\n"


def test_other_types_are_run(server: Server) -> None:
    request = {"type": "add", "params": {"x": 40, "y": 2}, "project": "sums"}
    job = server.wait_for(post(server, request).json()["jobId"])
    assert (job["type"], job["project"], job["result"]) == ("add", "sums", 42)
    assert (job["script"], job["venv"]) == (None, None)


def test_the_values_of_the_environment_are_never_shown(server: Server) -> None:
    secret = "s3cret-that-nobody-may-see"
    script = "import os, pathlib\npathlib.Path('seen').write_text(os.environ['API_KEY'])\nexit(1)"
    job_id = server.submit(script, env={"API_KEY": secret, "A": secret})
    job = server.wait_for(job_id)
    assert (server.project / "seen").read_text() == secret
    assert job["env"] == ["A", "API_KEY"]
    again = server.client.retry(job_id)
    server.wait_for(again["jobId"])
    bad = post(server, {**HELLO, "env": {"PATH": secret, "B": f"{secret}\0", "C": [secret]}})
    assert bad.status_code == 422
    texts = [
        json.dumps(job),
        json.dumps(again),
        json.dumps(server.client.list()),
        server.http.get(f"/result/{job_id}").text,
        server.http.get("/queue").text,
        bad.text,
        server.log(),
        server.worker_log(),
    ]
    assert not [text for text in texts if secret in text]


def test_a_job_can_be_scheduled_for_later(server: Server) -> None:
    soon = datetime.now(timezone(timedelta(hours=5, minutes=30))) + timedelta(seconds=0.8)
    by_time = post(server, {**HELLO, "runAt": soon.isoformat()}).json()
    by_delay = post(server, {**HELLO, "delay": 0.8}).json()
    for job in (by_time, by_delay):
        assert job["status"] == "scheduled"
        assert TIME.fullmatch(job["runAt"])
    assert by_time["runAt"] == rfc3339(soon.timestamp())
    for job in (by_time, by_delay):
        ended = server.wait_for(job["jobId"])
        assert ended["status"] == "completed"
        assert ended["startedAt"] >= job["runAt"]


@pytest.mark.parametrize("past", ["2001-01-01T00:00:00Z", "2020-02-29t12:00:00.5+00:00"])
def test_a_time_in_the_past_means_now(workerless: Server, past: str) -> None:
    assert post(workerless, {**HELLO, "runAt": past}).json()["status"] == "pending"


# Bad input

OVER = 10**400
FORBIDDEN_ENV = [
    "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME",
    "PYTHONUNBUFFERED", "BASH_ENV", "ROBOTNI_RESULT", "ROBOTNI_TOKEN", "ROBOTNI_X",
]  # fmt: skip


@pytest.mark.parametrize(
    "fields, pointer",
    [
        ({"typo": 1}, "/typo"),
        ({"Script": "hello.py"}, "/Script"),
        ({"retry_delay": 1}, "/retry_delay"),
        ({"run_at": "2026-11-22T12:00:00Z"}, "/run_at"),
        ({"jobId": UNKNOWN_ID}, "/jobId"),
        ({"status": "completed"}, "/status"),
        ({"": 1}, "/"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"script": 5}, "/script"),
        ({"script": ["hello.py"]}, "/script"),
        ({"script": True}, "/script"),
        ({"script": None}, "/script"),
        ({"module": "hello"}, "/script"),
        ({"script": None, "module": "no.such"}, "/module"),
        ({"script": None, "module": "../hello"}, "/module"),
        ({"script": None, "module": "hello; import os"}, "/module"),
        ({"script": None, "module": ""}, "/module"),
        ({"script": None, "module": "-c"}, "/module"),
        ({"script": None, "module": "os"}, "/module"),
        ({"script": None, "module": "h\u00e9llo"}, "/module"),
        ({"script": None, "module": "a." * 200 + "a"}, "/module"),
        ({"venv": None}, "/venv"),
        ({"venv": {}}, "/venv"),
        ({"venv": "hello.py"}, "/venv"),
        ({"venv": "nothing-here"}, "/venv"),
        ({"venv": "."}, "/venv"),
        ({"cwd": "hello.py"}, "/cwd"),
        ({"cwd": "nothing-here"}, "/cwd"),
        ({"cwd": 0}, "/cwd"),
        ({"type": "no-such-type"}, "/type"),
        ({"type": "../add"}, "/type"),
        ({"type": ""}, "/type"),
        ({"type": "x" * 65}, "/type"),
        ({"type": None}, "/type"),
        ({"type": "add", "params": {"x": 1, "y": 2}}, "/script"),
        ({"project": ""}, "/project"),
        ({"project": "a b"}, "/project"),
        ({"project": "x" * 65}, "/project"),
        ({"project": "x\n"}, "/project"),
        ({"project": "<b>"}, "/project"),
        ({"project": None}, "/project"),
        ({"args": "--n 3"}, "/args"),
        ({"args": [1]}, "/args/0"),
        ({"args": ["a", None]}, "/args/1"),
        ({"args": ["a\0b"]}, "/args"),
        ({"args": ["x"] * 101}, "/args"),
        ({"args": ["x" * 32 * 1024]}, "/args"),
        ({"args": ["\N{GRINNING FACE}" * 10_000]}, "/args"),
        ({"args": {}}, "/args"),
        ({"args": None}, "/args"),
        ({"params": []}, "/params"),
        ({"params": {"-x": 1}}, "/params"),
        ({"params": {"x y": 1}}, "/params"),
        ({"params": {"x=1": 1}}, "/params"),
        ({"params": {"": 1}}, "/params"),
        ({"params": {"x": "\0"}}, "/params"),
        ({"params": {"x": "y" * 200_000}}, "/params"),
        ({"params": {"x": ["y"] * 2000}}, "/params"),
        ({"env": []}, "/env"),
        ({"env": {"A": 1}}, "/env/A"),
        ({"env": {"A": None}}, "/env/A"),
        ({"env": {"1A": "x"}}, "/env"),
        ({"env": {"A=B": "x"}}, "/env"),
        ({"env": {"": "x"}}, "/env"),
        ({"env": {"A\n": "x"}}, "/env"),
        ({"env": {"A": "x\0"}}, "/env"),
        ({"env": {"A": "x" * 200_000}}, "/env"),
        ({"env": {f"A{n}": "x" for n in range(101)}}, "/env"),
        *(({"env": {name: "x"}}, "/env") for name in FORBIDDEN_ENV),
        ({"stdin": 5}, "/stdin"),
        ({"stdin": ["x"]}, "/stdin"),
        *(
            ({"timeout": bad}, "/timeout")
            for bad in (0, -1, -0.0, "5", "1h", True, [], OVER, 86401, 1e300)
        ),
        *(({"expires": bad}, "/expires") for bad in (0, -1, "5", True, OVER, 1e12)),
        *(({"retries": bad}, "/retries") for bad in (-1, 101, 1.5, "1", True, None, OVER)),
        *(({"retryDelay": bad}, "/retryDelay") for bad in (-1, 1e9, "1", False, None, OVER)),
        *(({"delay": bad}, "/delay") for bad in (-1, 1e9, "1", True, {}, OVER)),
        *(
            ({"runAt": bad}, "/runAt")
            for bad in (
                "2026-11-22T12:00:00",
                "2026-11-22T12:00:00.123",
                "2026-11-22 12:00:00",
                "2026-11-22",
                "2026-11-22T12:00Z",
                "2026-02-30T12:00:00Z",
                "2026-13-01T12:00:00Z",
                "2026-11-22T25:00:00Z",
                "2026-11-22T12:00:00+99:99",
                "2026-11-22T12:00:00Zulu",
                "2026-11-22T12:00:00Z\n",
                "2026-11-22T12:00:00.Z.",
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-14:00",
                "\u0662\u0660\u0662\u0666-11-22T12:00:00Z",
                "tomorrow",
                "",
                "x" * 65,
                1790000000,
                True,
            )
        ),
        ({"delay": 5, "runAt": "2026-11-22T12:00:00Z"}, ""),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    workerless: Server, fields: Dict[str, Any], pointer: str
) -> None:
    errors = refused(workerless, {**HELLO, **fields})
    assert pointer in errors
    assert all(10 < len(sentence) <= 500 for sentence in errors.values())


@pytest.mark.parametrize("body", ["[]", "[{}]", '"x"', "5", "null", "true", '""'])
def test_a_body_that_is_not_an_object_is_refused(workerless: Server, body: str) -> None:
    before = stored(workerless)
    answer = problem(workerless.http.post(JOBS, content=body.encode(), headers=JSON), 422)
    assert [error["pointer"] for error in answer["errors"]] == [""]
    assert stored(workerless) == before


def test_all_wrong_fields_are_named_at_once(workerless: Server) -> None:
    shape = {"script": 1, "venv": 2, "retries": "x", "typo": 1}
    assert set(refused(workerless, shape)) == {"/script", "/venv", "/retries", "/typo"}
    assert set(refused(workerless, {})) == {"/script", "/venv"}
    places = {"script": "nothing.py", "venv": "nothing", "cwd": "nothing"}
    assert set(refused(workerless, places)) == {"/script", "/venv", "/cwd"}


@pytest.mark.parametrize(
    "params, pointer",
    [
        ({}, "/params"),
        ({"x": 1}, "/params"),
        ({"x": "1", "y": 2}, "/params/x"),
        ({"x": None, "y": 2}, "/params/x"),
        ({"x": True, "y": 2}, "/params/x"),
        ({"x": 1.5, "y": 2}, "/params/x"),
        ({"x": 1, "y": 2, "z": 3}, "/params"),
    ],
)
def test_the_params_of_a_type_are_checked_by_its_schema(
    workerless: Server, params: Dict[str, Any], pointer: str
) -> None:
    assert pointer in refused(workerless, {"type": "add", "params": params})


@pytest.mark.parametrize("number", ["1.0", "1e3"])
def test_a_whole_number_written_with_a_point_adds_like_any_other(
    server: Server, number: str
) -> None:
    body = b'{"type": "add", "params": {"x": %s, "y": 2}}' % number.encode()
    answer = server.http.post(JOBS, content=body, headers=JSON)
    if answer.status_code != 422:
        job = server.wait_for(answer.json()["jobId"])
        assert job["result"] == float(number) + 2, job["output"]


# Paths


@pytest.fixture(scope="module")
def outside(workerless: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beyond the roots, where `x.py`, `.venv` and `link.py` are, and nothing else."""
    folder = workerless.project.parent / f"{workerless.project.name}2"
    folder.mkdir()
    (folder / "x.py").write_text("print('outside')")
    (folder / "link.py").symlink_to("/etc/hostname")
    make_venv(folder / ".venv")
    root = workerless.project
    (root / "sub").mkdir()
    (root / "sub" / "deep.py").touch()
    (root / "inside.py").symlink_to("hello.py")
    (root / "out.py").symlink_to(folder / "x.py")
    (root / "out-gone.py").symlink_to(folder / "gone.py")
    (root / "out").symlink_to(folder)
    (root / "loop.py").symlink_to("loop.py")
    os.mkfifo(root / "fifo.py")
    return folder


@pytest.mark.parametrize(
    "path", ["hello.py", "./hello.py", "sub/deep.py", "sub//deep.py", "inside.py"]
)
def test_a_path_below_the_root_is_accepted_however_it_is_written(
    workerless: Server, outside: Path, path: str
) -> None:
    assert post(workerless, {**HELLO, "script": path}).status_code == 202
    assert post(workerless, {**HELLO, "script": f"{workerless.project}/{path}"}).status_code == 202


@pytest.mark.parametrize(
    "path",
    [
        "../hello.py",
        "sub/../hello.py",
        "sub/../../x.py",
        "/etc/passwd",
        "/etc/../etc/passwd",
        "/",
        "//etc/passwd",
        "{root}2/x.py",
        "{root}/../{name}2/x.py",
        "out.py",
        "out-gone.py",
        "out/x.py",
        "loop.py",
        "~/x.py",
        "~root/x.py",
        "$HOME/x.py",
        "file:///etc/passwd",
        "http://localhost/x.py",
        "",
        " ",
        ".",
        "-c",
        "--help",
        "-",
        "sub",
        "fifo.py",
        "/dev/null",
        "/dev/stdin",
        "/proc/self/environ",
        "nothing.py",
        "hello.py/x",
        "hello.py\0",
        "hello.py\0.txt",
        "hello.py\n",
        "hel\rlo.py",
        "\x1b[31mhello.py",
        "hello.py\x7f",
        "x" * 300,
        "x" * 5000,
        "x/" * 2500,
        "%2e%2e/hello.py",
        "..\\hello.py",
        "\u2025/hello.py",
        "\uff0e\uff0e/hello.py",
    ],
)
def test_a_path_that_leaves_the_root_or_is_not_a_path_is_refused(
    workerless: Server, outside: Path, path: str
) -> None:
    name = workerless.project.name
    path = path.replace("{root}", str(workerless.project)).replace("{name}", name)
    assert set(refused(workerless, {**HELLO, "script": path})) == {"/script"}
    assert set(refused(workerless, {**HELLO, "venv": path})) == {"/venv"}
    if path not in (".", "sub"):
        assert set(refused(workerless, {**HELLO, "cwd": path})) == {"/cwd"}


def test_a_lone_surrogate_in_a_path_is_refused(workerless: Server) -> None:
    for field in ("script", "venv", "cwd"):
        body = json.dumps({**HELLO, field: "\ud800.py"}).encode()
        problem(workerless.http.post(JOBS, content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "there, not_there",
    [
        ("/etc/passwd", "/etc/nothing"),
        ("/etc", "/nowhere"),
        ("{root}2/x.py", "{root}2/y.py"),
        ("{root}2/.venv", "{root}2/venv2"),
        ("out/x.py", "out/y.py"),
        ("out/link.py", "out/y.py"),
        ("out/.venv/bin/python", "out/.venv/bin/nothing"),
        ("/proc/self/exe", "/proc/self/nothing"),
        ("../x.py", "../y.py"),
        ("~/.bashrc", "~/nothing"),
    ],
)
@pytest.mark.parametrize("field", ["script", "venv", "cwd"])
def test_answers_do_not_show_what_lies_outside_the_roots(
    workerless: Server, outside: Path, field: str, there: str, not_there: str
) -> None:
    """The words are the same but for the name that was asked for."""
    sentences = []
    for asked in (there, not_there):
        path = asked.replace("{root}", str(workerless.project))
        sentence = refused(workerless, {**HELLO, field: path})[f"/{field}"]
        sentences.append(sentence.replace(path.rsplit("/", 1)[1], "NAME"))
    assert sentences[0] == sentences[1]


def test_the_error_for_a_path_outside_the_roots_has_the_exact_setting(
    workerless: Server, outside: Path
) -> None:
    sentence = refused(workerless, {**HELLO, "script": str(outside / "x.py")})["/script"]
    assert f"ROBOTNI_SCRIPT_ROOTS={workerless.project}:{outside}" in sentence


def test_a_script_in_a_second_root_is_run(server: Server) -> None:
    other = Path(server.environ["ROBOTNI_SCRIPT_ROOTS"].split(":")[1])
    (other / "x.py").write_text("print('other')")
    job = post(server, {**HELLO, "script": str(other / "x.py")}).json()
    assert server.wait_for(job["jobId"])["output"] == "other\n"


def test_a_script_swapped_for_a_link_before_its_launch_is_not_run(server: Server) -> None:
    secret = server.project.parent / "beyond.py"
    secret.write_text("print('beyond')")
    script = server.project / "swapped.py"
    script.write_text("print('mine')")
    job = post(server, {**HELLO, "script": "swapped.py", "delay": 0.5}).json()
    script.unlink()
    script.symlink_to(secret)
    ended = server.wait_for(job["jobId"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "spawn_failed")
    assert "beyond\n" not in ended["output"]


def test_a_file_name_cannot_add_lines_to_the_log(server: Server) -> None:
    name = "<img src=x onerror=alert(1)>\u2028.py"
    (server.project / name).write_text("print('ok')")
    job = post(server, {**HELLO, "script": name}).json()
    assert server.wait_for(job["jobId"])["output"] == "ok\n"
    assert "onerror" not in server.log() + server.worker_log()
    lines = [line for line in server.worker_log().splitlines() if job["jobId"] in line]
    assert len(lines) == 2  # started, settled
    assert all(re.match(r"\d{4}-\d\d-\d\d \S+ INFO \w+ job=", line) for line in lines)


@pytest.mark.parametrize(
    "job_id",
    [
        UNKNOWN_ID,
        UNKNOWN_ID.upper(),
        f"{UNKNOWN_ID}0",
        "x",
        "..",
        "../jobs",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cetc",
        "%00",
        f"{UNKNOWN_ID}%00",
        f"{UNKNOWN_ID}%0a",
        "'",
        "%22",
        "' OR 1=1 --",
        "%ff%fe",
        "\N{GRINNING FACE}",
        "*",
        "null",
        "0",
        "9" * 5000,
    ],
)
def test_an_invalid_or_unknown_id_is_not_found(workerless: Server, job_id: str) -> None:
    before = stored(workerless)
    encoded = quote(job_id, safe="%./*'")
    for method, path in (
        ("GET", "{}"),
        ("GET", "{}/output"),
        ("DELETE", "{}"),
        ("POST", "{}/retry"),
    ):
        line = f"{method} {JOBS}/{path.format(encoded)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = raw(workerless, line.encode())
        assert answer.status_code in (404, 405)
        problem(answer, answer.status_code)
    assert stored(workerless) == before


# Idempotency-Key


def test_the_same_key_and_body_give_the_first_job(server: Server) -> None:
    first = post(server, Idempotency_Key="k1")
    again = post(server, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    ended = server.wait_for(first.json()["jobId"])
    assert post(server, Idempotency_Key="k1").json() == ended
    assert post(server, Idempotency_Key="k2").json()["jobId"] != ended["jobId"]


def test_spaces_and_the_order_of_fields_are_not_another_body(workerless: Server) -> None:
    first = post(workerless, Idempotency_Key="order").json()
    body = b'{ "venv": "\\u002evenv",\n "script" : "hello.py" }'
    headers = {**JSON, "Idempotency-Key": "order"}
    again = workerless.http.post(JOBS, content=body, headers=headers)
    assert (again.status_code, again.json()["jobId"]) == (200, first["jobId"])


def test_the_same_key_with_another_body_is_refused(workerless: Server) -> None:
    post(workerless, Idempotency_Key="other")
    before = stored(workerless)
    another = post(workerless, {**HELLO, "args": ["x"]}, Idempotency_Key="other")
    assert "Idempotency-Key" in problem(another, 422, "invalid_request")["detail"]
    for request in ({**HELLO, "typo": 1}, {}, [], None):
        problem(post(workerless, request, Idempotency_Key="other"), 422, "invalid_request")
    assert stored(workerless) == before


def test_a_replay_comes_before_any_other_check(workerless: Server) -> None:
    script = workerless.project / "short-lived.py"
    script.touch()
    request = {**HELLO, "script": script.name}
    first = post(workerless, request, Idempotency_Key="gone")
    script.unlink()
    again = post(workerless, request, Idempotency_Key="gone")
    assert (again.status_code, again.json()["jobId"]) == (200, first.json()["jobId"])
    problem(post(workerless, request, Idempotency_Key="gone2"), 422)


def test_the_key_of_a_refused_request_can_be_used_again(workerless: Server) -> None:
    problem(post(workerless, {**HELLO, "script": "no.py"}, Idempotency_Key="free"), 422)
    assert post(workerless, Idempotency_Key="free").status_code == 202


@pytest.mark.parametrize("key", ["race1", "race2", "race3"])
def test_twenty_concurrent_submits_with_one_key_make_one_job(workerless: Server, key: str) -> None:
    before = stored(workerless)
    body = json.dumps(HELLO)
    head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    wires = [Wire(workerless) for _ in range(20)]
    for wire in wires:
        wire.send(request[:-1])
    time.sleep(0.1)
    for wire in wires:
        wire.send(request[-1:])
    answers = [wire.answer() for wire in wires]
    for wire in wires:
        wire.socket.close()
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    assert stored(workerless) == before + 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9", "tab\there"])
def test_an_invalid_key_is_refused(workerless: Server, key: str) -> None:
    before = stored(workerless)
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    problem(workerless.http.post(JOBS, json=HELLO, headers=headers), 422)
    assert stored(workerless) == before


def test_the_error_for_a_key_that_is_too_long_points_at_the_header(workerless: Server) -> None:
    answer = workerless.http.post(JOBS, json=HELLO, headers={"Idempotency-Key": "x" * 256})
    (error,) = problem(answer, 422, "invalid_request")["errors"]
    assert error == {
        "pointer": "/idempotency-key",
        "detail": "string should have at most 255 characters",
    }


@pytest.mark.parametrize("key", ["x", "x" * 255, "01:a/b+c=", "'; DROP TABLE job; --", '"quoted"'])
def test_any_visible_ascii_is_accepted_as_a_key(workerless: Server, key: str) -> None:
    key = key.replace(" ", "")
    assert post(workerless, Idempotency_Key=key).status_code == 202
    assert post(workerless, Idempotency_Key=key).status_code == 200


# MAX_PENDING


def test_a_full_queue_refuses_further_jobs(make_server: Callable[..., Server]) -> None:
    server = make_server(max_pending=3, autostart=0)
    assert server.client.list() == {"jobs": [], "nextCursor": None}
    kept = post(server, Idempotency_Key="first").json()
    post(server, {**HELLO, "delay": 3600})
    third = post(server).json()
    for path, request in ((JOBS, HELLO), ("/add", {"x": 1, "y": 2}), ("/fakejob", {})):
        answer = server.http.post(path, json=request)
        assert "ROBOTNI_MAX_PENDING" in problem(answer, 429, "queue_full")["detail"]
        assert int(answer.headers["retry-after"]) > 0
    assert stored(server) == 3
    assert post(server, Idempotency_Key="first").json()["jobId"] == kept["jobId"]
    problem(post(server, {**HELLO, "typo": 1}), 422)
    server.client.cancel(third["jobId"])
    assert server.http.post(f"{JOBS}/{third['jobId']}/retry").status_code == 202
    problem(server.http.post(f"{JOBS}/{third['jobId']}/retry"), 429)
    server.client.cancel(kept["jobId"])
    assert post(server).status_code == 202


# Cancel


def test_a_waiting_job_is_cancelled_at_once(workerless: Server) -> None:
    for request in (HELLO, {**HELLO, "delay": 3600}):
        job_id = post(workerless, request).json()["jobId"]
        answer = workerless.http.delete(f"{JOBS}/{job_id}")
        job = answer.json()
        assert (answer.status_code, job["status"]) == (200, "cancelled")
        assert TIME.fullmatch(job["finishedAt"])
        assert (job["error"], job["startedAt"], job["attempt"]) == (None, None, 0)
        assert "retry-after" not in answer.headers
        again = workerless.http.delete(f"{JOBS}/{job_id}")
        assert (again.status_code, again.json()) == (200, job)


def test_a_running_job_is_asked_to_end(server: Server) -> None:
    job_id = running(server)
    answer = server.http.delete(f"{JOBS}/{job_id}")
    job = answer.json()
    assert (answer.status_code, job["status"]) == (202, "running")
    assert answer.headers["retry-after"] == "5"
    assert TIME.fullmatch(job["cancelRequestedAt"])
    ended = server.wait_for(job_id)
    assert (ended["status"], ended["error"], ended["output"]) == ("cancelled", None, "up\n")
    assert ended["cancelRequestedAt"] == job["cancelRequestedAt"]
    assert server.http.delete(f"{JOBS}/{job_id}").status_code == 200
    assert server.scripts(job_id) == []


def test_a_second_cancel_keeps_the_time_of_the_first(server: Server) -> None:
    stubborn = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\n" + SLEEPS
    job_id = running(server, stubborn)
    first = server.http.delete(f"{JOBS}/{job_id}").json()
    second = server.http.delete(f"{JOBS}/{job_id}")
    assert second.status_code == 202
    assert second.json()["cancelRequestedAt"] == first["cancelRequestedAt"]
    assert server.wait_for(job_id)["status"] == "cancelled"


@pytest.mark.parametrize("script, status", [("", "completed"), ("exit(1)", "failed")])
def test_an_ended_job_cannot_be_cancelled(server: Server, script: str, status: str) -> None:
    job = server.wait_for(server.submit(script))
    assert job["status"] == status
    answer = server.http.delete(f"{JOBS}/{job['jobId']}")
    assert status in problem(answer, 409, "conflict")["detail"]
    assert server.client.get(job["jobId"]) == job


# Retry


@pytest.mark.parametrize("script, status", [("", "completed"), ("exit(1)", "failed")])
def test_a_retry_is_a_new_job_from_the_same_request(
    server: Server, script: str, status: str
) -> None:
    fields = {"args": ["a"], "params": {"x": 1}, "env": {"E": "v"}, "project": "p", "timeout": 50}
    more = {"expires": 500, "retries": 1, "stdin": "in"}
    old = server.wait_for(server.submit(script, **fields, **more))
    answer = server.http.post(f"{JOBS}/{old['jobId']}/retry")
    new = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{JOBS}/{new['jobId']}"
    assert answer.headers["retry-after"] == "5"
    assert (new["retryOf"], new["attempt"], new["attempts"]) == (old["jobId"], 0, [])
    theirs = {"jobId", "status", "timestamp", "retryOf", "attempt", "attempts", "output"}
    ending = {"startedAt", "finishedAt", "exitCode", "error", "outputBytes"}
    same = set(FIELDS) - theirs - ending
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert server.wait_for(new["jobId"])["status"] == status
    assert server.client.get(old["jobId"]) == old


def test_a_cancelled_job_can_be_retried_and_a_pending_one_cannot(workerless: Server) -> None:
    job_id = post(workerless).json()["jobId"]
    before = stored(workerless)
    problem(workerless.http.post(f"{JOBS}/{job_id}/retry"), 409, "conflict")
    assert stored(workerless) == before
    workerless.client.cancel(job_id)
    assert workerless.http.post(f"{JOBS}/{job_id}/retry").json()["status"] == "pending"


def test_a_running_job_cannot_be_retried(server: Server) -> None:
    job_id = running(server)
    problem(server.http.post(f"{JOBS}/{job_id}/retry"), 409, "conflict")
    server.client.cancel(job_id)


def test_the_retry_of_a_job_whose_script_is_gone_is_refused(workerless: Server) -> None:
    script = workerless.project / "to-be-gone.py"
    script.touch()
    job_id = post(workerless, {**HELLO, "script": script.name}).json()["jobId"]
    workerless.client.cancel(job_id)
    script.unlink()
    before = stored(workerless)
    body = problem(workerless.http.post(f"{JOBS}/{job_id}/retry"), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/script"
    assert stored(workerless) == before


# List


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nothing but 25 jobs, of three names, two types, two projects and three states."""
    for server in serving(tmp_path_factory.mktemp("listed"), autostart=0):
        (server.project / "other.py").touch()
        (server.project / "job_a.py").touch()
        for n in range(25):
            request: Dict[str, Any] = {
                0: HELLO,
                1: {**HELLO, "script": "other.py", "project": "web"},
                2: {**HELLO, "script": None, "module": "job_a", "delay": 3600},
                3: {"type": "add", "params": {"x": n, "y": 1}, "project": "web"},
            }[n % 4]
            job = server.client.submit(request)
            if n % 5 == 0:
                server.client.cancel(job["jobId"])
        yield server


def pages(server: Server, **query: Any) -> Iterator[List[Dict[str, Any]]]:
    """Every page, by the Link header, which must agree with the cursor."""
    answer = server.http.get(JOBS, params=query)
    for _ in range(100):
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"jobs", "nextCursor"}
        yield body["jobs"]
        if body["nextCursor"] is None:
            assert "link" not in answer.headers
            return
        following = answer.links["next"]["url"]
        assert following.startswith(f"{JOBS}?")
        by_cursor = server.http.get(JOBS, params={**query, "cursor": body["nextCursor"]})
        answer = server.http.get(urljoin(str(answer.url), following))
        assert answer.json() == by_cursor.json()
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 24, 25, 26, 200])
@pytest.mark.parametrize(
    "query", [{}, {"project": "web"}, {"status": "pending,cancelled"}], ids=str
)
def test_pages_have_no_gaps_and_no_repeats(listed: Server, limit: int, query: Any) -> None:
    whole = [job["jobId"] for job in listed.client.list(**query, limit=200)["jobs"]]
    assert whole == sorted(set(whole), reverse=True)
    parts = list(pages(listed, **query, limit=limit))
    assert [job["jobId"] for part in parts for job in part] == whole
    assert all(len(part) == limit for part in parts[:-1])
    assert 0 < len(parts[-1]) <= limit


def test_the_newest_job_is_first_and_a_page_has_fifty(workerless: Server) -> None:
    for n in range(60 - min(60, stored(workerless))):
        workerless.client.submit({"type": "add", "params": {"x": n, "y": n}})
    newest = workerless.client.submit(HELLO)["jobId"]
    page = workerless.client.list()
    assert page["jobs"][0]["jobId"] == newest
    assert len(page["jobs"]) == 50
    assert page["nextCursor"] is not None
    times = [job["timestamp"] for job in page["jobs"]]
    assert times == sorted(times, reverse=True)


def test_jobs_that_are_added_meanwhile_do_not_shift_the_pages(workerless: Server) -> None:
    for _ in range(6):
        workerless.client.submit(HELLO)
    whole = [job["jobId"] for job in workerless.client.list(limit=6)["jobs"]]
    seen = []
    cursor: Dict[str, str] = {}
    for _ in range(3):
        page = workerless.client.list(limit=2, **cursor)
        seen += [job["jobId"] for job in page["jobs"]]
        cursor = {"cursor": page["nextCursor"]}
        workerless.client.submit(HELLO)
    assert seen == whole


@pytest.mark.parametrize(
    "query, count, fits",
    [
        ({}, 25, lambda job: True),
        ({"type": "add"}, 6, lambda job: job["type"] == "add"),
        ({"type": "python-script"}, 19, lambda job: job["type"] == "python-script"),
        ({"type": "fakejob"}, 0, None),
        ({"project": "web"}, 12, lambda job: job["project"] == "web"),
        ({"project": "we"}, 0, None),
        ({"status": "cancelled"}, 5, lambda job: job["status"] == "cancelled"),
        ({"status": "pending"}, 15, lambda job: job["status"] == "pending"),
        ({"status": "scheduled"}, 5, lambda job: job["status"] == "scheduled"),
        ({"status": "pending,scheduled"}, 20, None),
        ({"status": " pending , cancelled,"}, 20, None),
        ({"status": "running,completed,failed"}, 0, None),
        ({"q": "hello"}, 7, lambda job: job["script"].endswith("/hello.py")),
        ({"q": "hello.py"}, 7, None),
        ({"q": "ello"}, 0, None),
        ({"q": "job_"}, 6, lambda job: job["module"] == "job_a"),
        ({"q": "job%"}, 0, None),
        ({"q": "%"}, 0, None),
        ({"q": "_"}, 0, None),
        ({"q": "*"}, 0, None),
        ({"q": "' OR 1=1 --"}, 0, None),
        ({"q": "\0"}, 0, None),
        ({"q": "\U0010ffff"}, 0, None),
        ({"q": "other", "project": "web", "status": "cancelled"}, 1, None),
        ({"q": "other", "type": "add"}, 0, None),
        ({"q": ""}, 25, None),
    ],
)
def test_a_list_can_be_filtered(listed: Server, query: Any, count: int, fits: Any) -> None:
    jobs = listed.client.list(limit=200, **query)["jobs"]
    assert len(jobs) == count
    assert fits is None or all(fits(job) for job in jobs)


def test_a_job_is_found_by_the_start_of_its_id(listed: Server) -> None:
    wanted = listed.client.list(limit=1)["jobs"][0]["jobId"]
    for length in (20, 31, 32):
        found = listed.client.list(q=wanted[:length])["jobs"]
        assert wanted in [job["jobId"] for job in found]
    assert len(listed.client.list(q=wanted)["jobs"]) == 1


@pytest.mark.parametrize(
    "query, pointer",
    [
        *(
            ({"limit": bad}, "/limit")
            for bad in (
                "-1",
                "0",
                "201",
                "1e9",
                "9" * 20,
                "9" * 5000,
                "1.5",
                "ten",
                "",
                "NaN",
                "\u0665",
            )
        ),
        *(
            ({"cursor": bad}, "/cursor")
            for bad in (
                "x",
                "../x",
                "'",
                "0",
                UNKNOWN_ID[:-1],
                UNKNOWN_ID.upper(),
                "9" * 5000,
                "\0",
                "",
            )
        ),
        *(
            ({"status": bad}, "/status")
            for bad in ("done", "pending,done", "PENDING", "x" * 5000, "\0", "*", "pending;running")
        ),
        ({"type": "x" * 65}, "/type"),
        ({"project": "x" * 65}, "/project"),
        ({"q": "x" * 201}, "/q"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_filter_is_named(listed: Server, query: Dict[str, str], pointer: str) -> None:
    body = problem(listed.http.get(JOBS, params=query), 422, "invalid_request")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_a_cursor_works_when_its_job_does_not_exist(listed: Server) -> None:
    assert len(listed.client.list(cursor="f" * 32)["jobs"]) == 25
    assert listed.client.list(cursor="0" * 32) == {"jobs": [], "nextCursor": None}


# Status and types


def test_the_status_counts_the_jobs(listed: Server) -> None:
    status = listed.client.status()
    assert status["warm"] == {"interpreters": 0, "memoryBytes": 0}
    assert status["workers"] == {"max": 4, "busy": 0, "consumer": "idle"}
    assert set(status) == {
        "status", "version", "uptime", "pollInterval", "workers", "jobs", "queue", "slo",
        "warm", "nextWake",
    }  # fmt: skip
    assert (status["status"], status["version"], status["pollInterval"]) == ("ok", __version__, 5)
    assert status["jobs"] == {
        "scheduled": 5, "pending": 15, "running": 0, "completed": 0, "failed": 0, "cancelled": 5,
    }  # fmt: skip
    queue = status["queue"]
    assert (queue["pending"], queue["scheduled"]) == (15, 5)
    assert 0 < queue["oldestPendingSeconds"] < 600
    assert 0 < status["uptime"] < 600
    assert set(status["slo"]) == {"completedWithinTimeout", "apiP95Ms"}
    assert status["slo"]["completedWithinTimeout"] is None
    assert status["slo"]["apiP95Ms"] > 0
    assert TIME.fullmatch(status["nextWake"])


def test_the_status_shows_running_jobs(server: Server) -> None:
    eventually(lambda: server.client.status()["workers"]["busy"] == 0)
    job_id = running(server)
    workers = server.client.status()["workers"]
    assert workers == {"max": 4, "busy": 1, "consumer": "running"}
    server.client.cancel(job_id)
    server.wait_for(job_id)
    assert server.client.status()["workers"]["busy"] == 0
    assert 0 < server.client.status()["slo"]["completedWithinTimeout"] <= 1


def test_the_types_describe_themselves(server: Server) -> None:
    types = {t["type"]: t for t in server.http.get("/api/worker/types").json()["types"]}
    assert set(types) == {"add", "fakejob", "python-script"}
    for described in types.values():
        assert set(described) == {"type", "title", "description", "capabilities", "schema"}
        assert described["capabilities"] == [
            "cancel", "timeout", "retry", "output", "progress", "result",
        ]  # fmt: skip
        assert described["schema"]["type"] == "object"
    assert types["add"]["schema"]["required"] == ["x", "y"]
    assert types["fakejob"]["schema"]["properties"]["seconds"]["maximum"] == 86400


# Disconnects and concurrency


def test_a_client_that_disconnects_before_the_answer_does_no_harm(workerless: Server) -> None:
    body = json.dumps({**HELLO, "project": "left"})
    head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(20):
        with Wire(workerless) as wire:
            wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    eventually(lambda: len(workerless.client.list(project="left")["jobs"]) > 0)
    assert workerless.http.get("/livez").status_code == 200
    assert "Traceback" not in workerless.log()


def test_many_concurrent_calls_are_all_answered(workerless: Server) -> None:
    def call(n: int) -> Tuple[int, int]:
        request = {"type": "add", "params": {"x": n, "y": n}, "project": "crowd"}
        return post(workerless, request).status_code, workerless.http.get(JOBS).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(call, range(64))) == {(202, 200)}
    assert len(workerless.client.list(project="crowd", limit=200)["jobs"]) == 64


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("args", "abc", "/args: this must be a list; write it in [ ]"),
        ("args", [1], "/args/0: this must be a string; write it in double quotes"),
        ("params", [], "/params: this must be an object; write it in { }"),
        ("timeout", "5", "/timeout: this must be a number; write it without quotes"),
        (
            "retries",
            "5",
            "/retries: this must be a whole number; write it like 3, without quotes",
        ),
    ],
)
def test_the_error_for_a_value_of_the_wrong_type_says_how_to_write_it(
    server: Server, field: str, value: Any, detail: str
) -> None:
    answer = server.http.post(JOBS, json={**HELLO, field: value})
    assert problem(answer, 422)["detail"] == detail
