"""Locks between processes: an `flock` on a file or a folder.

A lock is held as long as the descriptor that took it is open, in this process or in one that it
was passed to. The kernel drops it at once when the last of them dies, also by SIGKILL, so whether a
lock is held tells whether its holder lives: no pid, clock or heartbeat is needed. A lock file is
never deleted, since two processes could then each hold a lock of that name. Threads of one process
exclude each other, too.
"""

import fcntl
import os
from pathlib import Path
from typing import Callable, Optional, Union


def take_lock(path: Path, wait: bool = False) -> Optional[int]:
    """The descriptor that holds the lock of file `path`, which is created if need be. While another
    holds it: None, or with `wait` the lock as soon as it is free."""
    return _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), wait)


def take_folder(path: str) -> Optional[int]:
    """The descriptor that holds the lock of an existing folder; None while another holds it."""
    return _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), wait=False)


def share_lock(path: Path, first: Callable[[int], None]) -> int:
    """The descriptor that holds a shared lock of file `path`, which is created if need be. When no
    other holds it, `first` is called with this one, while it holds the lock alone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it is shared already, or just being shared by the first
            pass
        else:
            first(fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError:
        os.close(fd)
        raise
    return fd


def lock_open_file(fd: int) -> None:
    """Takes the lock of an open file that no other process knows yet."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked(fd: int, wait: bool) -> Optional[int]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def release_lock(fd: Optional[int]) -> None:
    """Closes the descriptor of a lock; does nothing for None."""
    if fd is not None:
        os.close(fd)


def is_locked(path: Union[str, Path]) -> bool:
    """Whether the lock of a file or folder is held; that of a missing one is not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # never wait at a FIFO
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
