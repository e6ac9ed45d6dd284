"""The files of a run: what the script may have done to them, and what is read all the same."""

import json
import os
import resource
import stat
import threading
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.datadir import hold_bell, make_fifo, take_lock
from robotni.job import Job, new_job_id
from robotni.request import MAX_DEPTH
from robotni.rundir import EXIT_FACTS, MAX_RESULT, RunDir, delete_job, is_job_id
from robotni.tests.nobody import run_as_nobody

JOB_ID = new_job_id(1_790_000_000.0)
END = dict.fromkeys(EXIT_FACTS)
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
def rundir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path, JOB_ID, 3).create()


# paths


def test_the_folder_is_a_function_of_id_and_run(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path, JOB_ID, 3)
    assert rundir.path == tmp_path / JOB_ID / "3"
    assert list(tmp_path.iterdir()) == []  # nothing is made by asking
    rundir.create().create()
    assert rundir.path.is_dir()


@pytest.mark.parametrize("text", NOT_IDS)
def test_a_path_is_made_from_a_checked_id_only(tmp_path: Path, text: str) -> None:
    assert not is_job_id(text)
    with pytest.raises(ValueError, match="is no job id"):
        RunDir(tmp_path, text, 1)
    with pytest.raises(ValueError, match="is no job id"):
        delete_job(tmp_path, text)


def test_every_id_that_is_given_out_is_one() -> None:
    assert all(is_job_id(new_job_id(float(n))) for n in range(0, 4_000_000_000, 10_000_000))


def test_all_runs_of_a_job_are_deleted_and_no_others(tmp_path: Path) -> None:
    other = new_job_id(1_790_000_001.0)
    for job_id, run in ((JOB_ID, 1), (JOB_ID, 2), (other, 1)):
        RunDir(tmp_path, job_id, run).create().note("a line")
    delete_job(tmp_path, JOB_ID)
    delete_job(tmp_path, JOB_ID)
    assert [path.name for path in tmp_path.iterdir()] == [other]


LEFT_CLOSED = """
import os, sys
from pathlib import Path
from robotni.rundir import delete_job
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
    run = run_as_nobody(LEFT_CLOSED, JOB_ID, folder=tmp_path)
    assert (run.stdout, run.stderr) == ("[]\n", "")


CLOSED = """
import os, sys
from pathlib import Path
from robotni.rundir import RunDir
from robotni.tests.nobody import become_nobody

become_nobody()
rundir = RunDir(Path("jobs"), sys.argv[1], 1)
rundir.path.mkdir(parents=True)
Path(rundir.output).write_text("x")
for folder in (rundir.path, rundir.path.parent):
    folder.chmod(0)
    print(rundir.output_size(), rundir.is_held(), rundir.output_size())
    folder.chmod(0)
    rundir.request_cancel()
    print(rundir.is_cancel_requested())
    os.unlink(f"{rundir.folder}/cancel")
"""


def test_a_folder_that_a_script_has_closed_holds_up_nobody(tmp_path: Path) -> None:
    run = run_as_nobody(CLOSED, JOB_ID, folder=tmp_path)
    assert (run.stdout, run.stderr) == ("0 False 1\nTrue\n" * 2, "")


def test_deleting_follows_no_link_out_of_the_folder(tmp_path: Path, rundir: RunDir) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (rundir.path / "link").symlink_to(precious, target_is_directory=True)
    delete_job(tmp_path, JOB_ID)
    assert (precious / "file").exists()
    assert not (tmp_path / JOB_ID).exists()


# result and progress: the script's own, read with suspicion


def not_a_file(name: str) -> List[Tuple[str, Callable[[Path], Any]]]:
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
    "name, spoil", not_a_file("result.json") + not_a_file("progress") + not_a_file("output")
)
def test_what_is_no_regular_file_is_as_if_it_were_not_there_and_nothing_waits_for_it(
    rundir: RunDir, name: str, spoil: Callable[[Path], Any]
) -> None:
    spoil(rundir.path / name)
    begin = time.monotonic()
    assert rundir.read_result() is None
    assert rundir.read_progress() is None
    assert rundir.read_tail(100) == ("", False)
    assert rundir.last_line() == ""
    assert rundir.output_size() == 0
    assert list(rundir.slice(0, 100).chunks) == []
    assert time.monotonic() - begin < 1


def test_a_script_that_wrote_nothing_has_no_result_and_no_progress(rundir: RunDir) -> None:
    assert (rundir.read_result(), rundir.read_progress()) == (None, None)
    Path(rundir.result).write_bytes(b"")
    Path(rundir.progress).write_bytes(b"")
    assert (rundir.read_result(), rundir.read_progress()) == (None, None)
    Path(rundir.result).write_bytes(b" \n")
    assert rundir.read_result() is None


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"rows": 3}', {"rows": 3}),
        ("[1, 2.5, null, true]", [1, 2.5, None, True]),
        ("8\n", 8),
        ("null", None),
        ('"é \U0001f600"', "é \U0001f600"),
        ("1" + "0" * 4000, 10**4000),
    ],
)
def test_a_result_is_any_json(rundir: RunDir, text: str, value: Any) -> None:
    Path(rundir.result).write_text(text, encoding="utf-8")
    assert rundir.read_result() == value


@pytest.mark.parametrize(
    "data, words",
    [
        (b"{", "no JSON"),
        (b"{'a': 1}", "no JSON"),
        (b'{"a": 1}{"b": 2}', "no JSON"),
        (b"NaN", "NaN is not allowed"),
        (b"[Infinity]", "Infinity is not allowed"),
        (b'{"x": -Infinity}', "-Infinity is not allowed"),
        (b"1e400", "no JSON"),
        (b'"\xff"', "no JSON"),
        (b'\xef\xbb\xbf{"bom": 1}', "no JSON"),
        ('{"utf": 16}'.encode("utf-16"), "no JSON"),
        (b'"\\ud800"', "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "no JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "100 deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "100 deep"),
        (b'"' + b"x" * (2 << 20) + b'"', "over 1 MiB"),
        (b" " * (MAX_RESULT + 1), "over 1 MiB"),
    ],
    ids=map(str, range(17)),
)
def test_a_bad_result_is_refused_with_a_sentence(rundir: RunDir, data: bytes, words: str) -> None:
    Path(rundir.result).write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        rundir.read_result()
    assert str(caught.value).startswith("the result is ")
    assert len(str(caught.value)) < 300


def test_a_result_of_exactly_1_mib_is_taken(rundir: RunDir) -> None:
    Path(rundir.result).write_bytes(b'"' + b"x" * (MAX_RESULT - 2) + b'"')
    assert len(rundir.read_result()) == MAX_RESULT - 2


def test_the_deepest_result_that_is_taken_can_be_shown(rundir: RunDir) -> None:
    Path(rundir.result).write_bytes(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    result = rundir.read_result()
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
def test_progress_is_the_last_line_that_is_one(
    rundir: RunDir, text: str, seen: Optional[Tuple[float, str]]
) -> None:
    Path(rundir.progress).write_text(text, encoding="utf-8")
    assert rundir.read_progress() == seen


def test_progress_comes_from_the_end_of_a_file_of_any_size(rundir: RunDir) -> None:
    with open(rundir.progress, "w") as file:
        for step in range(200_000):
            file.write(f"{step / 2000} step\n")
    assert rundir.read_progress() == (99.9995, "step")


def test_the_line_that_the_look_back_cuts_is_not_misread(rundir: RunDir) -> None:
    line = "77 " + "5" * 4092 + " x\n"
    Path(rundir.progress).write_text(line)
    assert rundir.read_progress() is None
    Path(rundir.progress).write_text(line + "80 whole\n")
    assert rundir.read_progress() == (80.0, "whole")


def test_progress_of_bad_bytes_is_replaced(rundir: RunDir) -> None:
    Path(rundir.progress).write_bytes(b"40 \xff\xfe\n")
    assert rundir.read_progress() == (40.0, "\ufffd\ufffd")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_failing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    rundir = RunDir(tmp_path_factory.getbasetemp(), JOB_ID, 9).create()
    for path in map(Path, (rundir.output, rundir.progress, rundir.result)):
        path.write_bytes(data)
    assert rundir.read_tail(1000) == (data.decode("utf-8", "replace"), False)
    percent, message = rundir.read_progress() or (0.0, "")
    assert 0 <= percent <= 100
    assert "\n" not in message
    try:
        rundir.read_result()
    except ValueError as error:
        assert "the result is no JSON" in str(error)


# output


def test_a_run_that_said_nothing_has_no_output(rundir: RunDir) -> None:
    assert rundir.output_size() == 0
    assert rundir.read_tail(10) == ("", False)
    assert list(rundir.slice(0).chunks) == []
    Path(rundir.output).touch()
    assert rundir.read_tail(10) == ("", False)


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
        (b"\xff\xfe!", 3, ("\ufffd\ufffd!", False)),  # bad bytes of the script's own
        (b"x\xff\xfe!", 3, ("\ufffd\ufffd!", True)),
        (b"\x80" * 10, 8, ("\ufffd" * 5, True)),  # no character is longer than 3 more bytes
        (b"x\xe2\x82", 10, ("x\ufffd", False)),
    ],
)
def test_a_tail_cut_within_a_character_loses_that_character_only(
    rundir: RunDir, data: bytes, limit: int, tail: Tuple[str, bool]
) -> None:
    Path(rundir.output).write_bytes(data)
    assert rundir.read_tail(limit) == tail


@settings(deadline=None)
@given(st.text(), st.integers(0, 40))
def test_a_tail_of_good_text_never_shows_a_replacement(
    tmp_path_factory: pytest.TempPathFactory, text: str, limit: int
) -> None:
    rundir = RunDir(tmp_path_factory.getbasetemp(), JOB_ID, 8).create()
    data = text.encode()
    Path(rundir.output).write_bytes(data)
    tail, cut = rundir.read_tail(limit)
    assert cut == (len(data) > limit)
    assert text.endswith(tail)
    assert min(limit, len(data)) - len(tail.encode()) in range(4 if cut else 1)


@pytest.mark.parametrize(
    "data, line",
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"a\nKeyError: 'x'\n\n", "KeyError: 'x'"),
        (b"no newline", "no newline"),
        (b"x" * 9000, "x" * 300),
    ],
)
def test_the_last_line_says_something(rundir: RunDir, data: bytes, line: str) -> None:
    Path(rundir.output).write_bytes(data)
    assert rundir.last_line() == line


def test_a_slice_is_what_was_there_when_it_was_asked_for(rundir: RunDir) -> None:
    Path(rundir.output).write_bytes(b"0123456789")
    part = rundir.slice(4)
    with open(rundir.output, "ab") as file:
        file.write(b"later")
    assert (part.size, part.start, b"".join(part.chunks)) == (10, 4, b"456789")
    assert b"".join(rundir.slice(2, 3).chunks) == b"234"
    assert b"".join(rundir.slice(20).chunks) == b""


def test_a_big_output_comes_in_small_pieces(rundir: RunDir) -> None:
    with open(rundir.output, "wb") as file:
        file.truncate(10 << 20)
    pieces = [len(piece) for piece in rundir.slice(1).chunks]
    assert sum(pieces) == (10 << 20) - 1
    assert max(pieces) <= 65536


def test_what_robotni_has_to_say_goes_to_the_same_log(rundir: RunDir) -> None:
    rundir.note("before")
    Path(rundir.output).open("ab").close()
    rundir.note("after \ud800")
    assert Path(rundir.output).read_bytes() == b"robotni: before\nrobotni: after ?\n"
    assert stat.S_IMODE(Path(rundir.output).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.symlink_to(path.parent / "elsewhere"),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.parent.rmdir(),
        lambda path: path.symlink_to("/dev/full"),
    ],
    ids=["link", "folder", "FIFO", "no folder", "full"],
)
def test_a_note_follows_no_link_waits_for_nobody_and_never_stops_a_run_from_settling(
    rundir: RunDir, spoil: Callable[[Path], Any]
) -> None:
    spoil(Path(rundir.output))
    rundir.note("a line")
    assert not (rundir.path / "elsewhere").exists()
    assert rundir.output_size() == 0


# evidence and cancel


@pytest.mark.parametrize(
    "data, started, ended",
    [
        (None, None, None),
        (b"", None, None),  # just made: nothing has started yet
        (b" " * 2048, None, None),
        (b'{"exitCode": 0', {}, None),  # spoilt: the shim writes all at once
        (b"\xff", {}, None),
        (b"[]", {}, None),
        (json.dumps(END).encode() + b" " * 2000, END, END),
    ],
)
def test_what_is_no_evidence_of_an_end_may_be_one_of_a_start(
    rundir: RunDir, data: Optional[bytes], started: Any, ended: Any
) -> None:
    if data is not None:
        (rundir.path / "started").write_bytes(data)
        (rundir.path / "exit.json").write_bytes(data)
    assert rundir.started() == started
    assert rundir.exit() == ended
    assert rundir.has_begun() is (started is not None)
    (rundir.path / "started").unlink(missing_ok=True)  # renamed, or the script's doing
    assert rundir.has_begun() is (started is not None)


def test_what_the_machine_fails_at_is_evidence_of_nothing(rundir: RunDir) -> None:
    (rundir.path / "started").write_text('{"startedAt": 1.0, "shim": 2, "mark": 3}')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the kernel gives the lowest that is free: from here on there is none
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for look in (rundir.is_held, rundir.started, rundir.has_begun, rundir.exit):
            with pytest.raises(OSError, match="Too many open files"):
                look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rundir.has_begun()


def test_an_end_counts_from_the_moment_it_is_written(rundir: RunDir) -> None:
    started = rundir.path / "started"
    started.write_text('{"startedAt": 1.0, "shim": 2, "mark": 3}')
    assert rundir.exit() is None
    started.write_text(json.dumps(END))  # and then the shim is killed, before it renames it
    assert rundir.exit() == END


def test_a_run_is_held_by_its_folder_or_by_the_file_of_earlier_versions(rundir: RunDir) -> None:
    assert not rundir.is_held()
    fd = rundir.take()
    assert fd is not None
    assert rundir.is_held()
    assert rundir.take() is None
    os.close(fd)
    assert not rundir.is_held()
    fd = take_lock(rundir.path / "lock")
    assert fd is not None
    assert rundir.is_held()
    os.close(fd)
    assert not rundir.is_held()


@pytest.mark.parametrize("name", ["started", "exit.json"])
def test_evidence_that_is_no_file_holds_nobody_up(rundir: RunDir, name: str) -> None:
    make_fifo(rundir.path / name)
    assert rundir.started() == ({} if name == "started" else None)
    assert rundir.exit() is None


def test_a_look_at_the_lock_keeps_no_run_from_it(rundir: RunDir) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            rundir.is_held()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            fd = rundir.take()
            assert fd is not None
            os.close(fd)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_cancel_is_left_also_before_the_run_begins_to_look(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path, JOB_ID, 1)
    rundir.request_cancel()
    rundir.request_cancel()
    assert (rundir.path / "cancel").exists()


def test_a_cancel_rings_whoever_listens(rundir: RunDir) -> None:
    make_fifo(rundir.path / "ring")
    fd = hold_bell(rundir.path / "ring")
    rundir.request_cancel()
    assert os.read(fd, 10) == b"!"
    os.close(fd)
