"""The census: every process that belongs to a folder, by environment, command line or name.

It promises to find only what names the folder, so that nobody else's process is ever touched.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import List

import psutil

from robotni.system.processes import other_threads


def processes_of(folder: Path) -> List[psutil.Process]:
    """Living processes whose environment or command line names `folder`, this one excepted."""
    needle = str(folder)
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and needle in _text_of(p)]


def _text_of(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return "\0".join(_text_of_thread(thread) for thread in other_threads(process.pid))
        return "\0".join([*process.cmdline(), *process.environ().values()])
    except (psutil.Error, OSError):  # gone meanwhile, or of another user
        return ""


def _text_of_thread(folder: str) -> str:
    """What a process shows whose first thread has ended."""
    try:
        words = Path(folder, "cmdline").read_text(errors="replace")
        return words + Path(folder, "environ").read_text(errors="replace")
    except OSError:  # gone meanwhile, or of another user
        return ""


def role_of(process: psutil.Process) -> str:
    """What a process is to robotni: `web`, `worker`, `shim`, or `script`, which is all else that
    an interpreter was told to run; empty for any other program."""
    interpreter, *words = [word for word in _words_of(process) if not word.startswith("-")] or [""]
    if "python" not in os.path.basename(interpreter) or not words:
        return ""
    program = os.path.basename(words[0])
    if program == "__main__.py":
        return {"serve": "web", "worker": "worker"}.get((words[1:] or [""])[0], "")
    return "shim" if program == "shim.py" else "script"


def _words_of(process: psutil.Process) -> List[str]:
    try:
        words: List[str] = process.cmdline()
    except psutil.Error:  # gone meanwhile
        return []
    return words


def can_trace() -> bool:
    """Whether strace is here, which kills at named points."""
    return sys.platform.startswith("linux") and shutil.which("strace") is not None


def kill(process: psutil.Process) -> bool:
    """SIGKILL; whether it was there to be killed."""
    try:
        process.kill()
    except psutil.Error:  # gone meanwhile
        return False
    return True
