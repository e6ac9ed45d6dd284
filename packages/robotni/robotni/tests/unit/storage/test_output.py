"""Output past the cap: what the shim writes is read back, with true offsets, also meanwhile."""

import resource
import signal
import threading
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from robotni.jobs.output import left_out
from robotni.shim.output import Output as Writer
from robotni.storage.output import Output, Stretch, size_of


def wrote(folder: Path, cap: int, *blocks: bytes) -> Writer:
    writer = Writer(str(folder), cap)
    for block in blocks:
        writer.keep(block)
    writer.close()
    return writer


def files(folder: Path) -> List[Tuple[str, int]]:
    return sorted((file.name, file.stat().st_size) for file in folder.iterdir())


def read(folder: Path, start: int) -> Tuple[int, bytes]:
    output = Output(str(folder))
    part = output.stretch_from(start)
    return part.start, b"".join(output.chunks(part))


def whole(folder: Path, written: int = 0) -> bytes:
    output = Output(str(folder))
    parts = output.whole(written)
    data = b"".join(output.chunks(*parts))
    assert len(data) == size_of(parts)
    return data


DIGITS = b"".join(b"%09d\n" % n for n in range(100))  # 1000 bytes


@pytest.mark.parametrize("cap", [1000, 1001, 1003, 5000])
def test_output_up_to_the_cap_is_kept_as_a_whole(tmp_path: Path, cap: int) -> None:
    writer = wrote(tmp_path, cap, DIGITS[:7], DIGITS[7:600], DIGITS[600:])
    assert (writer.written, writer.kept) == (1000, 1000)
    assert whole(tmp_path) == DIGITS
    with Output(str(tmp_path)) as output:
        assert output.stretches == [Stretch(0, 1000)]


@pytest.mark.parametrize("size", [1, 7, 50, 99, 1000])
def test_past_the_cap_the_first_half_and_the_end_are_kept(tmp_path: Path, size: int) -> None:
    writer = wrote(tmp_path, 400, *(DIGITS[at : at + size] for at in range(0, 1000, size)))
    assert files(tmp_path) == [("output", 200), ("output.800", 100), ("output.900", 100)]
    assert (writer.written, writer.kept) == (1000, 400)
    assert whole(tmp_path) == DIGITS[:200] + left_out(600) + DIGITS[800:]
    assert read(tmp_path, 0) == (0, DIGITS[:200])
    assert read(tmp_path, 199) == (199, DIGITS[199:200])
    for start in (200, 500, 800):
        assert read(tmp_path, start) == (800, DIGITS[800:])
    assert read(tmp_path, 801) == (801, DIGITS[801:])
    assert read(tmp_path, 1000) == (1000, b"")
    output = Output(str(tmp_path))
    assert (output.last(50), output.last(5000)) == (Stretch(950, 1000), Stretch(800, 1000))
    output.close()


@pytest.mark.parametrize("cap", [0, 1, 2, 3, 4, 5, 7, 100])
def test_no_cap_is_passed_at_any_moment(tmp_path: Path, cap: int) -> None:
    writer = Writer(str(tmp_path), cap)
    for at in range(0, 1000, 3):
        writer.keep(DIGITS[at : at + 3])
        assert sum(size for _, size in files(tmp_path)) == writer.kept <= cap
    writer.close()
    assert writer.written == 1000
    kept = whole(tmp_path, 1000)
    if cap >= 4:  # of less than four bytes there is no quarter
        assert kept.endswith(DIGITS[-(cap // 4) :])
    else:
        assert kept == DIGITS[:cap] + left_out(1000 - cap)


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """No file of this process can grow over 30 bytes: a full disk, for one file at a time."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("file_size_limit")
def test_what_cannot_be_written_is_left_out_and_no_later_byte_gets_its_offset(
    tmp_path: Path,
) -> None:
    writer = wrote(tmp_path, 4000, DIGITS[:20], DIGITS[20:50], DIGITS[50:70], DIGITS[70:75])
    assert (writer.written, writer.kept) == (75, 55)
    assert files(tmp_path) == [("output", 30), ("output.50", 25)]
    assert whole(tmp_path) == DIGITS[:30] + left_out(20) + DIGITS[50:75]
    assert read(tmp_path, 30) == (50, DIGITS[50:75])


def test_the_end_that_was_not_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"begin")
    assert whole(tmp_path, 9) == b"begin" + left_out(4)
    assert whole(tmp_path / "gone", 9) == left_out(9)


def test_a_reader_beside_the_writer_sees_no_wrong_byte(tmp_path: Path) -> None:
    blocks = 20_000
    done, has_left_out = threading.Event(), threading.Event()

    def write() -> None:
        writer = Writer(str(tmp_path), 4000)
        for n in range(blocks):
            writer.keep(b"%09d\n" % n)
            if n == 1000:  # past the cap: from now on there is a gap behind the first part
                has_left_out.set()
        writer.close()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert has_left_out.wait(30)
    at, gaps = 0, 0
    while not done.is_set() or at < 10 * blocks:
        start, data = read(tmp_path, at)
        gaps += start > at
        assert start >= at
        for number, line in enumerate(data.split(b"\n")[1:-1], start // 10 + 1):
            assert line == b"%09d" % number
        at = start + len(data)
    thread.join()
    assert at == 10 * blocks
    assert gaps > 0


@pytest.mark.parametrize("name", ["output.5", "output.70", "output.x", f"output.{10**18}"])
def test_what_a_script_puts_there_is_not_followed_and_harms_nobody(
    tmp_path: Path, name: str
) -> None:
    wrote(tmp_path, 100, DIGITS[:60])
    (tmp_path / name).symlink_to("/etc/passwd")
    assert whole(tmp_path) == DIGITS[:60]
    (tmp_path / name).unlink()
    (tmp_path / "output.5").write_bytes(b"in the place of other bytes")
    assert whole(tmp_path) == DIGITS[:60]


def test_a_segment_that_cannot_be_made_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "output.50").mkdir()
    writer = wrote(tmp_path, 100, DIGITS[:50], DIGITS[50:60], DIGITS[60:70])
    assert (writer.written, writer.kept) == (70, 60)
    assert read(tmp_path, 50) == (60, DIGITS[60:70])
