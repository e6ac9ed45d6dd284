"""Programs of the tests that run as somebody for whom permissions count."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Union

NOBODY = 65534


def become_nobody() -> None:
    """For whoever is root; the working directory is nobody's, too. Imports come before this: the
    interpreter may lie where nobody may read."""
    if os.geteuid() == 0:
        os.chown(".", NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def run_as_nobody(
    program: str, *args: str, folder: Union[str, Path]
) -> "subprocess.CompletedProcess[str]":
    """What came of a program that calls `become_nobody`, run in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
