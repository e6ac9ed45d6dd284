"""Code of scripts that a warm interpreter keeps: compiled once, and anew when the file changed."""

import os
import sys
from pathlib import Path

import pytest

from robotni.shim.codes import COMPILED, MAX_SOURCE, Codes


def test_a_script_is_compiled_once_until_path_time_or_size_change(tmp_path: Path) -> None:
    codes = Codes()
    script, other = tmp_path / "a.py", tmp_path / "b.py"
    script.write_text("x = 1")
    other.write_text("x = 1")
    first = codes.get(str(script))
    assert codes.get(str(script)) is first
    assert codes.get(str(other)) is not first
    seen = os.stat(script)
    os.utime(script, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    second = codes.get(str(script))
    assert second is not first
    script.write_text("x = 10")
    os.utime(script, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    third = codes.get(str(script))
    assert third is not second
    assert codes.get(str(script)) is third


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    codes = Codes()
    paths = [str(tmp_path / f"{number}.py") for number in range(COMPILED + 1)]
    for path in paths:
        Path(path).write_text("")
    kept = list(map(codes.get, paths))
    assert codes.get(paths[1]) is kept[1]
    assert codes.get(paths[0]) is not kept[0]


@pytest.mark.parametrize("source", ["x = = 1", "x = 1 is 1", "x = 1\0", "#" * (MAX_SOURCE + 1)])
def test_what_the_compiler_minds_is_left_to_the_script_s_own_process(
    tmp_path: Path, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "a.py"
    script.write_text(source)
    modules = dict(sys.modules)
    assert Codes().get(str(script)) is None
    assert sys.modules == modules
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    assert Codes().get(str(tmp_path / "gone.py")) is None
    assert Codes().get(str(tmp_path)) is None
    assert Codes().get(str(tmp_path / "fifo.py")) is None
