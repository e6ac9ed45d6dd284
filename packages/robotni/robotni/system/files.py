"""Opening and reading files that scripts and users put there.

Such a path may be a FIFO, a device or a link. Only a regular file is opened, so that no reader
blocks; with `flags=os.O_NOFOLLOW` no link is followed either. The functions named `try_…` return
None where the others raise OSError.
"""

import errno
import os
import stat
from typing import Optional, Tuple


def open_regular(path: str, flags: int = 0) -> Tuple[int, int]:
    """(descriptor, size in bytes). OSError says why not; ENXIO: it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(errno.ENXIO, "not a regular file", path)
    return fd, found.st_size


def try_open(path: str, flags: int = 0) -> Optional[Tuple[int, int]]:
    """(descriptor, size in bytes); None when it cannot be opened or is not a regular file."""
    try:
        return open_regular(path, flags)
    except OSError:
        return None


def read_start(path: str, limit: int, flags: int = 0) -> bytes:
    """The first `limit` bytes, or less. OSError says why not."""
    return _read(*open_regular(path, flags), limit)


def try_read_start(path: str, limit: int, flags: int = 0) -> Optional[bytes]:
    """The first `limit` bytes, or less; None when it cannot be opened or is not a regular file."""
    opened = try_open(path, flags)
    return None if opened is None else _read(*opened, limit)


def _read(fd: int, size: int, limit: int) -> bytes:
    try:
        return os.read(fd, min(size, limit))
    finally:
        os.close(fd)
