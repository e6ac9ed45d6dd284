"""Files that others put there, so that they may be anything: opened only when they are regular.

No FIFO or device holds the reader up, and a link is followed only where the caller says so.
"""

import errno
import os
import stat
from typing import Optional, Tuple


def open_regular(path: str, flags: int = 0) -> Tuple[int, int]:
    """(descriptor, size); OSError when that cannot be had, ENXIO for what is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(errno.ENXIO, "this is no file", path)
    return fd, found.st_size


def try_open(path: str, flags: int = 0) -> Optional[Tuple[int, int]]:
    """(descriptor, size); None when there is no such file, or it is not ours to read."""
    try:
        return open_regular(path, flags)
    except OSError:
        return None


def try_read_start(path: str, limit: int, flags: int = 0) -> Optional[bytes]:
    """At most `limit` bytes, in one go: a file object costs more than what is read."""
    found = try_open(path, flags)
    return None if found is None else _read(*found, limit)


def read_start(path: str, limit: int, flags: int = 0) -> bytes:
    """The same, or an OSError that says why not."""
    return _read(*open_regular(path, flags), limit)


def _read(fd: int, size: int, limit: int) -> bytes:
    try:
        return os.read(fd, min(size, limit))
    finally:
        os.close(fd)
