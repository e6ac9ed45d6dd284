"""Code of scripts that a warm interpreter keeps: compiled once, and anew when the file changed."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from robotni.shim.codes import COMPILED, MAX_SOURCE, Codes


def test_a_script_is_compiled_once_until_path_time_or_size_change(tmp_path: Path) -> None:
    codes = Codes()
    script, other = tmp_path / "a.py", tmp_path / "b.py"
    script.write_text("x = 1")
    other.write_text("x = 1")

    def get(path: Path) -> Any:
        code, folder = codes.get(str(path))
        assert folder == os.path.realpath(tmp_path)
        return code

    first = get(script)
    assert get(script) is first
    assert get(other) is not first
    seen = os.stat(script)
    os.utime(script, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    second = get(script)
    assert second is not first
    script.write_text("x = 10")
    os.utime(script, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    third = get(script)
    assert third is not second
    assert get(script) is third


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    codes = Codes()
    paths = [str(tmp_path / f"{number}.py") for number in range(COMPILED + 1)]
    for path in paths:
        Path(path).write_text("")
    kept = [codes.get(path)[0] for path in paths]
    assert codes.get(paths[1])[0] is kept[1]
    assert codes.get(paths[0])[0] is not kept[0]


@pytest.mark.parametrize("source", ["x = = 1", "x = 1 is 1", "x = 1\0", "#" * (MAX_SOURCE + 1)])
def test_what_the_compiler_minds_is_left_to_the_script_s_own_process(
    tmp_path: Path, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "a.py"
    script.write_text(source)
    modules = dict(sys.modules)
    assert Codes().get(str(script))[0] is None
    assert sys.modules == modules
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    for name in ("gone.py", ".", "fifo.py"):
        assert Codes().get(str(tmp_path / name)) == (None, None)


def test_the_folder_is_that_of_the_file_itself_whatever_links_lead_to_it(tmp_path: Path) -> None:
    real = tmp_path / "real folder"
    real.mkdir()
    (real / "a.py").write_text("")
    (tmp_path / "there").symlink_to("real folder")
    (tmp_path / "link.py").symlink_to("there/a.py")
    for path in ("real folder/a.py", "there/a.py", "link.py", "there/../link.py"):
        assert Codes().get(str(tmp_path / path))[1] == os.path.realpath(real)
