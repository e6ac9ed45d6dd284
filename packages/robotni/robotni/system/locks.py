"""Locks."""

import fcntl
import os
from pathlib import Path
from typing import Optional, Union


def take_lock(path: Path, wait: bool = False) -> Optional[int]:
    """The descriptor that holds the lock of file `path`, or None while another holds it."""
    return _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), wait)


def take_folder(path: str) -> Optional[int]:
    """The same for a folder that exists: one file less to make."""
    return _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False)


def _locked(fd: int, wait: bool) -> Optional[int]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def release_lock(fd: Optional[int]) -> None:
    if fd is not None:
        os.close(fd)


def is_locked(path: Union[str, Path]) -> bool:
    """Whether somebody holds the lock of a file or folder; a missing one is not locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no FIFO holds us up
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
