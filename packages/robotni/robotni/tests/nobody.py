"""Test programs that run as the user nobody, since permissions do not bind root."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Union

NOBODY = 65534


def become_nobody() -> None:
    """Does nothing unless root. The working directory then belongs to nobody, too. To be called
    after all imports: nobody may not be allowed to read the interpreter's files."""
    if os.geteuid() == 0:
        os.chown(".", NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def run_as_nobody(
    program: str, *args: str, folder: Union[str, Path]
) -> "subprocess.CompletedProcess[str]":
    """Runs a Python program that calls `become_nobody`, in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
