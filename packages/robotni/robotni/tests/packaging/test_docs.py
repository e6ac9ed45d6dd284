"""The commands and examples of README, tutorial and how-tos, run in order on a real server.

In a page, a block in `sh` is run, and the `text` block after it is what it prints, where `…` stands
for any text. A block whose title is a file name is written to that file. A block in `python`
without a title is run by `python`. A block titled "Second terminal" goes on in the background.
Blocks in `bash` cannot be run in a test and are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path
from typing import Dict, Iterator, List, NamedTuple, Set

import pytest

from robotni.tests.paths import EXAMPLES, PACKAGE, ROOT
from robotni.tests.processes import clean_environ, end_all, free_port, make_venv

README = ROOT / "README.md"
DOCS = ROOT / "docs"
SECOND = "Second terminal"
CLONE = "../robotni/packages/robotni"  # where the pages install robotni from
FENCE = re.compile(
    r"^```(?P<kind>[a-z]+)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^```$", re.M | re.S
)
# What robotni depends on is taken from this environment; test_install.py tests that pip brings it.
BORROW = f"echo {get_path('purelib')} >$(echo {{env}}/lib/python*/site-packages)/borrowed.pth"
UNTIL_SERVED = (
    "for i in $(seq 200); do curl -sf http://127.0.0.1:8000/readyz >/dev/null && break; "
    "sleep 0.1; done"
)

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 9), reason="the pages are the same for every Python"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the pages call curl; install it"),
]


class Block(NamedTuple):
    kind: str
    title: str
    text: str


def blocks(page: Path) -> List[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["kind"], m["title"] or "", m["text"]) for m in found]


class Reader:
    """Somebody who follows the pages: a home folder, a port, and two terminals."""

    def __init__(self, home: Path, wheel: Path) -> None:
        self.log = home / "second-terminal.log"
        self.port = free_port()
        self.environ = clean_environ(
            port=self.port, url=f"http://127.0.0.1:{self.port}", kill_grace=1
        )
        (home / "bin").mkdir()
        (home / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
        self.environ.update(
            HOME=str(home),
            PATH=f"{home / 'bin'}:{os.environ['PATH']}",
            PIP_FIND_LINKS=str(wheel),
            PIP_NO_INDEX="1",
            PIP_NO_DEPS="1",
        )

    def read(self, page: Path, folder: Path, *first: str) -> None:
        """Runs the lines `first` and then the blocks of a page, in one shell in `folder`."""
        given = blocks(page)
        lines = ["set -e", *first]
        for number, block in enumerate(given):
            lines += ["", f"printf '\\n@@@ {number}\\n'", *self._commands(block)]
        done = subprocess.run(
            ["bash", "-c", self._adapted("\n".join(lines)).replace(CLONE, "robotni")],
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}\n{done.stdout}"
        printed = self._printed(done.stdout)
        for number, block in enumerate(given):
            if block.kind == "text" and block.title == SECOND:
                self._compare(page, block.text.rstrip() + "…", self.log.read_text())
            elif block.kind == "text":
                self._compare(page, block.text, printed[number - 1])

    def _commands(self, block: Block) -> List[str]:
        if block.kind == "sh" and block.title == SECOND:
            return [f"(\n{block.text}) >{self.log} 2>&1 &", UNTIL_SERVED]
        if block.kind == "sh":
            installs = "pip install" in block.text
            return [block.text, *([BORROW.format(env="server-env")] if installs else [])]
        if "." in block.title:
            folder = os.path.dirname(block.title) or "."
            return [f"mkdir -p {folder}", f"cat >{block.title} <<'END'\n{block.text}END"]
        if block.kind == "python":
            return [f"python - <<'END'\n{block.text}END"]
        return []

    def _printed(self, output: str) -> Dict[int, str]:
        parts = re.split(r"^@@@ (\d+)\n", output, flags=re.M)[1:]
        return {int(n): text for n, text in zip(parts[::2], parts[1::2])}

    def _compare(self, page: Path, expected: str, printed: str) -> None:
        expected = self._adapted(expected)
        pattern = re.escape(expected.strip()).replace("…", ".*")
        assert re.fullmatch(pattern, printed.strip(), re.S), (
            f"{page.name} says\n{expected}\nbut the command printed\n{printed}"
        )

    def _adapted(self, text: str) -> str:
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of robotni."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    subprocess.run([*build, str(ROOT / "packages" / "robotni")], check=True)
    return folder


# README.md


def test_the_readme_is_true(wheel: Path, tmp_path: Path) -> None:
    """In a clone after `make demo`: robotni in `.venv`, and `examples/.venv` for scripts."""
    clone = tmp_path / "clone"
    (clone / ".git").mkdir(parents=True)
    shutil.copytree(EXAMPLES, clone / "examples", ignore=shutil.ignore_patterns(".venv*", "nextjs"))
    make_venv(clone / "examples" / ".venv")
    install = ["python3 -m venv .venv", ".venv/bin/python -m pip install -q robotni"]
    try:
        Reader(tmp_path, wheel).read(README, clone, *install, BORROW.format(env=".venv"))
    finally:
        end_all(tmp_path)


def test_the_readme_fits_on_three_screens() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


# The tutorial, and the how-tos in its folder


class Shop(NamedTuple):
    """The tutorial's folder after the last line of the tutorial."""

    folder: Path
    reader: Reader


@pytest.fixture(scope="module")
def shop(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("home")
    reader = Reader(home, wheel)
    try:
        reader.read(DOCS / "tutorial.md", home)
        yield Shop(home / "shop", reader)
    finally:
        end_all(home)


def test_the_tutorial_is_true(shop: Shop) -> None:
    assert (shop.folder / ".robotni" / "robotni.db").exists()


def test_every_command_of_the_tutorial_is_run() -> None:
    assert not any(block.kind == "bash" for block in blocks(DOCS / "tutorial.md"))


PAGES = sorted(
    path for path in DOCS.glob("howto/*.md") if any(b.kind == "sh" for b in blocks(path))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_is_true(shop: Shop, page: Path) -> None:
    is_served = "curl -sf http://127.0.0.1:8000/readyz >/dev/null"
    serve = f"(robotni serve >>{shop.reader.log} 2>&1 &); {UNTIL_SERVED}"
    first = [". server-env/bin/activate", f"{is_served} || {{ {serve}; }}"]
    shop.reader.read(page, shop.folder, *first)


# Names of files in the docs


def files_named_in(page: str) -> Set[str]:
    """`web/app.py`, `settings.py`, …"""
    text = (DOCS / page).read_text(encoding="utf-8")
    return set(re.findall(r"`((?:\w+/)*\w+\.py)`", text))


def test_every_test_named_on_the_reliability_page_exists() -> None:
    names = files_named_in("reliability.md")
    assert names
    assert [name for name in names if not (PACKAGE / "tests" / name).is_file()] == []


def test_every_file_named_on_the_architecture_page_exists() -> None:
    names = files_named_in("architecture.md") - {"main.py", "huey_app.py"}
    assert names
    assert [name for name in names if not (PACKAGE / name).is_file()] == []
