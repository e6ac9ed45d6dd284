"""The files of a run: what is read of them, whatever the script has put in their place."""

import json
import os
import resource
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.jobs.models import Job, new_job_id
from robotni.jobs.request import MAX_DEPTH
from robotni.storage.run_files import EXIT_FACTS, MAX_RESULT, RunFiles, delete_job, is_job_id
from robotni.system.wakeup import listen, make_fifo
from robotni.tests.nobody import run_as_nobody

JOB_ID = "01a0c4506c0070009bf1a15d4da54d39"
END = dict.fromkeys(sorted(EXIT_FACTS))
NOT_IDS = [
    "",
    "..",
    "../" + JOB_ID,
    JOB_ID + "/..",
    JOB_ID + "\n",
    JOB_ID[:-1],
    JOB_ID + "0",
    JOB_ID.upper(),
    JOB_ID[:-1] + "g",
    JOB_ID[:-1] + "٣",
    "/" + JOB_ID[1:],
    "%2e%2e" + JOB_ID[6:],
    "x" * 5000,
]


@pytest.fixture
def run_files(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path, JOB_ID, 3).create()


def test_the_folder_is_a_function_of_id_and_run(tmp_path: Path) -> None:
    run_files = RunFiles(tmp_path, JOB_ID, 3)
    assert run_files.path == tmp_path / JOB_ID / "3"
    assert list(tmp_path.iterdir()) == []
    run_files.create().create()
    assert run_files.path.is_dir()


@pytest.mark.parametrize("text", NOT_IDS)
def test_a_text_that_is_no_job_id_never_becomes_a_path(tmp_path: Path, text: str) -> None:
    assert not is_job_id(text)
    with pytest.raises(ValueError, match="is no job id"):
        RunFiles(tmp_path, text, 1)
    with pytest.raises(ValueError, match="is no job id"):
        delete_job(tmp_path, text)


def test_every_new_job_id_has_the_form_of_one() -> None:
    assert all(is_job_id(new_job_id(float(n))) for n in range(0, 4_000_000_000, 10_000_000))


def test_all_runs_of_a_job_are_deleted_and_no_others(tmp_path: Path) -> None:
    other = new_job_id(1_790_000_001.0)
    for job_id, run in ((JOB_ID, 1), (JOB_ID, 2), (other, 1)):
        Path(RunFiles(tmp_path, job_id, run).create().output).write_text("a line")
    delete_job(tmp_path, JOB_ID)
    delete_job(tmp_path, JOB_ID)
    assert [path.name for path in tmp_path.iterdir()] == [other]


UNWRITABLE = """
import os, sys
from pathlib import Path
from robotni.storage.run_files import delete_job
from robotni.tests.nobody import become_nobody

become_nobody()
closed = Path("jobs", sys.argv[1], "1", "closed")
(closed / "within").mkdir(parents=True)
(closed / "within" / "file").touch()
(closed / "link").symlink_to("/")
(closed / "within").chmod(0)
closed.chmod(0o500)
delete_job(Path("jobs"), sys.argv[1])
print(os.listdir("jobs"))
"""


def test_folders_that_a_script_left_without_permissions_are_deleted_too(tmp_path: Path) -> None:
    run = run_as_nobody(UNWRITABLE, JOB_ID, folder=tmp_path)
    assert (run.stdout, run.stderr) == ("[]\n", "")


UNREADABLE = """
import sys
from pathlib import Path
from robotni.storage.run_files import RunFiles
from robotni.tests.nobody import become_nobody

become_nobody()
run_files = RunFiles(Path("jobs"), sys.argv[1], 1).create()
Path(run_files.output).write_text("x")
for folder in (run_files.path, run_files.path.parent):
    folder.chmod(0)
    print(run_files.is_locked(), run_files.has_started(), run_files.exit_facts())
    print(run_files.output_size())
    print(run_files.read_progress(), run_files.read_tail(9))
    try:
        run_files.read_result()
    except ValueError:
        print("no result")
    try:
        run_files.request_cancel()
    except PermissionError:
        print("no cancel")
    folder.chmod(0o700)
"""


def test_a_folder_that_a_script_made_unreadable_counts_as_a_start_that_nobody_holds(
    tmp_path: Path,
) -> None:
    run = run_as_nobody(UNREADABLE, JOB_ID, folder=tmp_path)
    said = "False True None\n0\nNone ('', False)\nno result\nno cancel\n"
    assert (run.stdout, run.stderr) == (said * 2, "")


def test_deleting_follows_no_link_out_of_the_folder(tmp_path: Path, run_files: RunFiles) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (run_files.path / "link").symlink_to(precious, target_is_directory=True)
    delete_job(tmp_path, JOB_ID)
    assert (precious / "file").exists()
    assert not (tmp_path / JOB_ID).exists()


@pytest.mark.parametrize("name", ["d", "d" * 200])
def test_thousands_of_nested_folders_are_deleted(
    tmp_path: Path, run_files: RunFiles, name: str
) -> None:
    here = os.open(run_files.folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir(name, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        delete_job(tmp_path, JOB_ID)
        assert list(tmp_path.iterdir()) == []
    finally:  # pytest itself cannot remove them
        subprocess.run(["rm", "-rf", str(tmp_path / JOB_ID)], check=True)


NOT_ITS_OWN = """
import os, sys
from pathlib import Path
from robotni.storage.run_files import delete_job
from robotni.tests.nobody import become_nobody

theirs = Path("jobs", sys.argv[1], "1", "theirs")
if os.geteuid() == 0:
    theirs.mkdir(parents=True)
    (theirs / "file").touch()
    os.chown("jobs", 65534, 65534)
    for folder in (theirs.parent.parent, theirs.parent):
        os.chown(folder, 65534, 65534)
else:
    sys.exit(3)
(theirs.parent / "own").mkdir()
os.chown(theirs.parent / "own", 65534, 65534)
become_nobody()
try:
    delete_job(Path("jobs"), sys.argv[1])
except PermissionError as error:
    print(type(error).__name__, os.listdir("jobs/" + sys.argv[1] + "/1"))
"""


def test_what_belongs_to_another_user_is_said_and_the_rest_is_deleted(tmp_path: Path) -> None:
    run = run_as_nobody(NOT_ITS_OWN, JOB_ID, folder=tmp_path)
    if run.returncode == 3:
        pytest.skip("files of another user take root")
    assert (run.stdout, run.stderr) == ("PermissionError ['theirs']\n", "")


# result and progress


def no_regular_files(name: str) -> List[Tuple[str, Callable[[Path], Any]]]:
    return [
        (name, lambda path: path.symlink_to("/etc/passwd")),
        (name, lambda path: path.symlink_to(path)),
        (name, lambda path: path.symlink_to(write(path.with_name("aside"), "40"))),
        (name, lambda path: path.mkdir()),
        (name, os.mkfifo),
        (name, lambda path: path.symlink_to("/dev/zero")),
    ]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name, put",
    [pair for name in ("result.json", "progress", "output") for pair in no_regular_files(name)],
)
def test_anything_but_a_regular_file_is_read_as_no_file_without_waiting(
    run_files: RunFiles, name: str, put: Callable[[Path], Any]
) -> None:
    put(run_files.path / name)
    begin = time.monotonic()
    if name == "result.json":
        with pytest.raises(ValueError, match="its result is not a regular file"):
            run_files.read_result()
    else:
        assert run_files.read_result() is None
    assert run_files.read_progress() is None
    assert run_files.read_tail(100) == ("", False)
    assert run_files.quote(0) == ""
    assert run_files.output_size() == 0
    assert time.monotonic() - begin < 1


def test_a_script_that_wrote_nothing_has_no_result_and_no_progress(run_files: RunFiles) -> None:
    assert (run_files.read_result(), run_files.read_progress()) == (None, None)
    Path(run_files.result).write_bytes(b"")
    Path(run_files.progress).write_bytes(b"")
    assert (run_files.read_result(), run_files.read_progress()) == (None, None)
    Path(run_files.result).write_bytes(b" \n")
    assert run_files.read_result() is None


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"rows": 3}', {"rows": 3}),
        ("[1, 2.5, null, true]", [1, 2.5, None, True]),
        ("8\n", 8),
        ("null", None),
        ('[NaN, Infinity, -Infinity, 1e400, 1e3, "NaN"]', [None, None, None, None, 1000.0, "NaN"]),
        ("NaN", None),
        ('"é \U0001f600"', "é \U0001f600"),
        ("1" + "0" * 4000, 10**4000),
    ],
)
def test_a_result_is_any_json(run_files: RunFiles, text: str, value: Any) -> None:
    Path(run_files.result).write_text(text, encoding="utf-8")
    assert run_files.read_result() == value


@pytest.mark.parametrize(
    "data, words",
    [
        (b"{", "no JSON"),
        (b"{'a': 1}", "no JSON"),
        (b'{"a": 1}{"b": 2}', "no JSON"),
        (b"NAN", "no JSON"),
        (b'"\xff"', "no JSON"),
        (b'\xef\xbb\xbf{"bom": 1}', "no JSON"),
        ('{"utf": 16}'.encode("utf-16"), "no JSON"),
        (b'"\\ud800"', "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "no JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "100 levels deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "100 levels deep"),
        (b'"' + b"x" * (2 << 20) + b'"', "over 1 MiB"),
        (b" " * (MAX_RESULT + 1), "over 1 MiB"),
    ],
    ids=map(str, range(14)),
)
def test_a_bad_result_is_refused_with_a_sentence(
    run_files: RunFiles, data: bytes, words: str
) -> None:
    Path(run_files.result).write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        run_files.read_result()
    assert str(caught.value).startswith("its result is ")
    assert len(str(caught.value)) < 300


def test_a_result_of_exactly_1_mib_is_accepted(run_files: RunFiles) -> None:
    Path(run_files.result).write_bytes(b'"' + b"x" * (MAX_RESULT - 2) + b'"')
    assert len(run_files.read_result()) == MAX_RESULT - 2


def test_the_deepest_result_that_is_accepted_can_be_shown(run_files: RunFiles) -> None:
    Path(run_files.result).write_bytes(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    result = run_files.read_result()
    job = Job(job_id=JOB_ID, timestamp=0.0, result=result)
    assert json.loads(job.model_dump_json())["result"] == result


@pytest.mark.parametrize(
    "text, seen",
    [
        ("40", (40.0, "")),
        ("40\n", (40.0, "")),
        ("40 half way\n", (40.0, "half way")),
        ("  40.5%   half way  \n", (40.5, "half way")),
        ("0 begin\n100 done\n", (100.0, "done")),
        ("33.333333333333336 a third\n", (33.333333333333336, "a third")),
        ("150 too much\n", (100.0, "too much")),
        ("40 good\nnot progress\n", (40.0, "good")),
        ("40 good\n\n\n", (40.0, "good")),
        ("40 good\n-5 below\n", (40.0, "good")),
        ("40 good\n1e2 x\nnan x\n1000 x\n\u0664 x\n40x\n", (40.0, "good")),
        ("40 a\tb <b>\n", (40.0, "a\tb <b>")),
        ("40 " + "x" * 3000, (40.0, "x" * 500)),
        ("nothing", None),
        ("9" * 3000, None),
    ],
)
def test_progress_is_the_last_line_of_the_right_form(
    run_files: RunFiles, text: str, seen: Optional[Tuple[float, str]]
) -> None:
    Path(run_files.progress).write_text(text, encoding="utf-8")
    assert run_files.read_progress() == seen


def test_progress_comes_from_the_end_of_a_file_of_any_size(run_files: RunFiles) -> None:
    with open(run_files.progress, "w") as file:
        for step in range(200_000):
            file.write(f"{step / 2000} step\n")
    assert run_files.read_progress() == (99.9995, "step")


def test_a_line_whose_beginning_is_not_read_is_no_progress(run_files: RunFiles) -> None:
    line = "77 " + "5" * 4092 + " x\n"
    Path(run_files.progress).write_text(line)
    assert run_files.read_progress() is None
    Path(run_files.progress).write_text(line + "80 whole\n")
    assert run_files.read_progress() == (80.0, "whole")


def test_bad_bytes_in_progress_are_replaced(run_files: RunFiles) -> None:
    Path(run_files.progress).write_bytes(b"40 \xff\xfe\n")
    assert run_files.read_progress() == (40.0, "\ufffd\ufffd")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_files_of_any_bytes_are_read_without_failing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    run_files = RunFiles(tmp_path_factory.getbasetemp(), JOB_ID, 9).create()
    for path in map(Path, (run_files.output, run_files.progress, run_files.result)):
        path.write_bytes(data)
    assert run_files.read_tail(1000) == (data.decode("utf-8", "replace"), False)
    percent, message = run_files.read_progress() or (0.0, "")
    assert 0 <= percent <= 100
    assert "\n" not in message
    try:
        run_files.read_result()
    except ValueError as error:
        assert "its result is no JSON" in str(error)


# output


def test_a_run_that_printed_nothing_has_no_output(run_files: RunFiles) -> None:
    assert run_files.output_size() == 0
    assert run_files.read_tail(10) == ("", False)
    Path(run_files.output).touch()
    assert run_files.read_tail(10) == ("", False)


@pytest.mark.parametrize(
    "data, limit, tail",
    [
        (b"hello", 5, ("hello", False)),
        (b"hello", 4, ("ello", True)),
        ("aé".encode(), 1, ("", True)),
        ("éb".encode(), 2, ("b", True)),
        ("éb".encode(), 3, ("éb", False)),
        ("€€".encode(), 5, ("€", True)),
        ("€€".encode(), 4, ("€", True)),
        ("€€".encode(), 3, ("€", True)),
        ("\U0001f600!".encode(), 4, ("!", True)),
        ("\U0001f600!".encode(), 3, ("!", True)),
        ("\U0001f600!".encode(), 2, ("!", True)),
        (b"\xff\xfe!", 3, ("\ufffd\ufffd!", False)),  # bad bytes that the script wrote
        (b"x\xff\xfe!", 3, ("\ufffd\ufffd!", True)),
        (b"\x80" * 10, 8, ("\ufffd" * 5, True)),  # no character is longer than 3 more bytes
        (b"x\xe2\x82", 10, ("x\ufffd", False)),
    ],
)
def test_a_tail_that_begins_within_a_character_loses_that_character_only(
    run_files: RunFiles, data: bytes, limit: int, tail: Tuple[str, bool]
) -> None:
    Path(run_files.output).write_bytes(data)
    assert run_files.read_tail(limit) == tail


@settings(deadline=None)
@given(st.text(), st.integers(0, 40))
def test_a_tail_of_valid_text_has_no_replacement_character(
    tmp_path_factory: pytest.TempPathFactory, text: str, limit: int
) -> None:
    run_files = RunFiles(tmp_path_factory.getbasetemp(), JOB_ID, 8).create()
    data = text.encode()
    Path(run_files.output).write_bytes(data)
    tail, cut = run_files.read_tail(limit)
    assert cut == (len(data) > limit)
    assert text.endswith(tail)
    assert min(limit, len(data)) - len(tail.encode()) in range(4 if cut else 1)


@pytest.mark.parametrize(
    "data, written, quoted",
    [
        (b"", 0, ""),
        (b"a\nKeyError: 'x'\n\n", 15, "KeyError: 'x'"),
        (b"x" * 9000, 9000, "x" * 300),
        (b"the beginning of a line", 24, None),  # the end was not kept
        (b"", 1, None),
    ],
)
def test_what_is_quoted_is_the_end_of_the_output(
    run_files: RunFiles, data: bytes, written: int, quoted: Optional[str]
) -> None:
    Path(run_files.output).write_bytes(data)
    assert run_files.quote(written) == quoted


def test_nothing_is_quoted_from_before_what_is_left_out(run_files: RunFiles) -> None:
    failed = b"Traceback (most recent call last):\n  File ...\nKeyError: 1\n"
    Path(run_files.output).write_bytes(failed)
    (run_files.path / "output.9000").write_bytes(b"96\n97\n")
    assert run_files.quote(9006) == "97"
    assert run_files.read_tail(1000) == ("96\n97\n", True)


# evidence and cancel


@pytest.mark.parametrize(
    "data, started, ended",
    [
        (None, None, None),
        (b"", None, None),  # just created: nothing has started yet
        (b" " * 2048, None, None),
        (b'{"exitCode": 0', {}, None),  # not the shim's, which writes all of it at once
        (b"\xff", {}, None),
        (b"[]", {}, None),
        (b"null", {}, None),
        (b"[" * 200_000, {}, None),
        (json.dumps(END).encode() + b" " * 2000, END, END),
    ],
)
def test_evidence_that_is_not_readable_counts_as_a_start_but_not_as_an_end(
    run_files: RunFiles, data: Optional[bytes], started: Any, ended: Any
) -> None:
    if data is not None:
        (run_files.path / "started").write_bytes(data)
        (run_files.path / "exit.json").write_bytes(data)
    assert run_files.started() == started
    assert run_files.exit_facts() == ended
    assert run_files.has_started() is (started is not None)
    (run_files.path / "started").unlink(missing_ok=True)  # renamed, or removed by the script
    assert run_files.has_started() is (started is not None)


def test_an_error_of_the_machine_is_raised_and_is_no_evidence(run_files: RunFiles) -> None:
    (run_files.path / "started").write_text('{"startedAt": 1.0, "shim": 2, "mark": 3}')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the kernel gives the lowest that is free: no other is free then
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for look in (
            run_files.is_locked,
            run_files.started,
            run_files.has_started,
            run_files.exit_facts,
        ):
            with pytest.raises(OSError, match="Too many open files"):
                look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert run_files.has_started()


def test_a_run_has_ended_as_soon_as_its_end_is_written(
    run_files: RunFiles,
) -> None:
    started = run_files.path / "started"
    started.write_text('{"startedAt": 1.0, "shim": 2, "mark": 3}')
    assert run_files.exit_facts() is None
    started.write_text(json.dumps(END))  # and then the shim is killed, before it renames it
    assert run_files.exit_facts() == END


def test_a_run_is_held_while_its_folder_is_locked(run_files: RunFiles) -> None:
    assert not run_files.is_locked()
    fd = run_files.lock()
    assert fd is not None
    assert run_files.is_locked()
    assert run_files.lock() is None
    os.close(fd)
    assert not run_files.is_locked()


@pytest.mark.parametrize("name", ["started", "exit.json"])
def test_a_fifo_in_place_of_evidence_is_not_waited_for(run_files: RunFiles, name: str) -> None:
    make_fifo(run_files.path / name)
    assert run_files.started() == ({} if name == "started" else None)
    assert run_files.exit_facts() is None


def test_a_run_gets_its_lock_while_others_look_whether_it_is_held(run_files: RunFiles) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            run_files.is_locked()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            fd = run_files.lock()
            assert fd is not None
            os.close(fd)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_cancel_is_requested_also_before_the_run_has_a_folder(tmp_path: Path) -> None:
    run_files = RunFiles(tmp_path, JOB_ID, 1)
    run_files.request_cancel()
    run_files.request_cancel()
    assert (run_files.path / "cancel").exists()


def test_a_cancel_wakes_the_shim_that_listens(run_files: RunFiles) -> None:
    make_fifo(run_files.path / "cancel.fifo")
    fd = listen(run_files.path / "cancel.fifo")
    run_files.request_cancel()
    assert os.read(fd, 10) == b"!"
    os.close(fd)
