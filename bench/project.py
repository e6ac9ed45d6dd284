"""The folder from which all systems run scripts: one virtual environment, and the scripts."""

from __future__ import annotations

import os
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAMP = """\
import time
now = time.monotonic()
import os, sys
with open(sys.argv[1] + "~", "w") as file:
    file.write(repr(now))
os.rename(sys.argv[1] + "~", sys.argv[1])
"""
SCRIPTS = {
    "noop.py": "",
    "stamp.py": STAMP,
    "stamp_numpy.py": "import numpy\n" + STAMP,
    "family.py": """\
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
with open(sys.argv[1] + "~", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + "~", sys.argv[1])
time.sleep(60)
""",
    "nap.py": """\
import time
for number in range(5):
    print("line", number, flush=True)
    time.sleep(0.1)
""",
}


class Project:
    """`python` is the interpreter that runs every script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".robotni").mkdir(parents=True)  # makes it a project folder
        venv.create(folder / ".venv", with_pip=False, symlinks=True)
        self.python = str(folder / ".venv" / "bin" / "python")
        for name, text in SCRIPTS.items():
            (folder / name).write_text(text)
        self._outs = 0

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def new_out(self) -> str:
        """The path of a file that does not exist, for a script to write."""
        self._outs += 1
        return self.path(f"out-{self._outs}")


def numpy_venv() -> Path | None:
    """The examples' environment, where it has numpy; `make bench` makes it."""
    folder = Path(os.environ.get("EXAMPLES_VENV", ROOT / "examples" / ".venv"))
    return folder if any(folder.glob("lib/python3*/site-packages/numpy")) else None
