"""What the docs tell to do, done as it stands, in a clean folder, against a real server.

In a page, a block in `sh` is run and the `text` block after it is what it prints, where `…` is
anything; a block with a file's name for a title is written there; one of the second terminal runs
on in the background. Blocks in `bash` are for places a test cannot reach.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path
from typing import Dict, Iterator, List, NamedTuple

import pytest

from robotni.tests.paths import ROOT
from robotni.tests.processes import clean_environ, end_all, free_port

DOCS = ROOT / "docs"
SECOND = "Second terminal"
FENCE = re.compile(
    r"^```(?P<kind>[a-z]+)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^```$", re.M | re.S
)
BORROW = f"echo {get_path('purelib')} >$(echo server-env/lib/python*/site-packages)/borrowed.pth"
UNTIL_SERVED = "for i in $(seq 200); do robotni status >/dev/null 2>&1 && break; sleep 0.1; done"

pytestmark = [
    pytest.mark.skipif(
        sys.version_info < (3, 9), reason="what a page tells to do does not depend on Python"
    ),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the pages call curl; install it"),
]


class Block(NamedTuple):
    kind: str
    title: str
    text: str


def blocks(page: str) -> List[Block]:
    found = FENCE.finditer((DOCS / page).read_text(encoding="utf-8"))
    return [Block(m["kind"], m["title"] or "", m["text"]) for m in found]


class Shop:
    """The tutorial's folder, with what a reader has in his terminals."""

    def __init__(self, home: Path, wheel: Path) -> None:
        self.home = home
        self.folder = home / "shop"
        self.log = home / "second-terminal.log"
        self.port = free_port()
        self.environ = clean_environ(
            port=self.port, url=f"http://127.0.0.1:{self.port}", kill_grace=1
        )
        (home / "bin").mkdir()
        (home / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
        # What robotni needs comes from here; that pip brings it is for test_install.py to say.
        self.environ.update(
            HOME=str(home),
            PATH=f"{home / 'bin'}:{os.environ['PATH']}",
            PIP_FIND_LINKS=str(wheel),
            PIP_NO_INDEX="1",
            PIP_NO_DEPS="1",
        )

    def read(self, page: str, folder: Path) -> None:
        """Does what a page tells, from a shell in `folder`."""
        given = blocks(page)
        lines = ["set -e"]
        if folder == self.folder:
            served = f"(robotni serve >>{self.log} 2>&1 &); {UNTIL_SERVED}"
            lines += [
                ". server-env/bin/activate",
                f"robotni status >/dev/null 2>&1 || {{ {served}; }}",
            ]
        for number, block in enumerate(given):
            lines += ["", f"printf '\\n@@@ {number}\\n'", *self._told(block, number)]
        script = "\n".join(lines).replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{page}\n{done.stdout}"
        printed = self._printed(done.stdout)
        for number, block in enumerate(given):
            if block.kind == "text":
                if block.title == SECOND:
                    self._compare(page, block.text.rstrip() + "…", self.log.read_text())
                else:
                    self._compare(page, block.text, printed[number - 1])

    def _told(self, block: Block, number: int) -> List[str]:
        if block.kind == "sh" and block.title == SECOND:
            return [
                f"(\n{block.text}) >{self.log} 2>&1 &",
                "PATH=$PWD/server-env/bin:$PATH",
                UNTIL_SERVED,
            ]
        if block.kind == "sh":
            installs = "pip install" in block.text
            return [block.text, *([BORROW] if installs else [])]
        if "." in block.title:
            folder = os.path.dirname(block.title) or "."
            return [f"mkdir -p {folder}", f"cat >{block.title} <<'END'\n{block.text}END"]
        return []

    def _printed(self, output: str) -> Dict[int, str]:
        parts = re.split(r"^@@@ (\d+)\n", output, flags=re.M)[1:]
        return {int(n): text for n, text in zip(parts[::2], parts[1::2])}

    def _compare(self, page: str, expected: str, printed: str) -> None:
        expected = expected.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        pattern = re.escape(expected.strip()).replace("…", ".*")
        assert re.fullmatch(pattern, printed.strip(), re.S), (
            f"{page} says\n{expected}\nbut it is\n{printed}"
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The tutorial has been read to its end, as far as the test of it goes well."""
    home = tmp_path_factory.mktemp("home")
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(home / "wheel")]
    subprocess.run([*wheel, str(ROOT / "packages" / "robotni")], check=True)
    shop = Shop(home, home / "wheel")
    try:
        shop.read("tutorial.md", home)
        yield shop
    finally:
        end_all(home)


def test_the_tutorial_is_true(shop: Shop) -> None:
    assert (shop.folder / ".robotni" / "robotni.db").exists()
    assert not any(b.kind == "bash" for b in blocks("tutorial.md"))  # every command in it was run


PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("howto/*.md"))


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.kind == "sh" for b in blocks(p))])
def test_a_how_to_is_true(shop: Shop, page: str) -> None:
    shop.read(page, shop.folder)
