"""Opening and reading files that scripts and users put there.

Such a path may be a FIFO, a device or a link. Only a regular file is opened, so that no reader
blocks; with `flags=os.O_NOFOLLOW` no link is followed either. The functions named `try_…` return
None where nothing usable is there (NOT_THERE). Any other OSError is the machine's (no descriptors,
a broken disk): it tells nothing of the file, so all functions raise it.
"""

import errno
import os
import stat
from typing import Optional, Tuple

# Missing, below a file, a circle of links, a name too long, closed to this user, no regular file.
NOT_THERE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV),
)


def open_regular(path: str, flags: int = 0) -> Tuple[int, int]:
    """(descriptor, size in bytes). OSError says why not; ENXIO: it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENXIO, "not a regular file", path)
    except OSError:
        os.close(fd)
        raise
    return fd, found.st_size


def try_open(path: str, flags: int = 0) -> Optional[Tuple[int, int]]:
    """(descriptor, size in bytes); None when there is no regular file that may be opened."""
    try:
        return open_regular(path, flags)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def read_start(path: str, limit: int, flags: int = 0) -> bytes:
    """The first `limit` bytes, or less. OSError says why not."""
    return _read(*open_regular(path, flags), limit)


def try_read_start(path: str, limit: int, flags: int = 0) -> Optional[bytes]:
    """The first `limit` bytes, or less; None when there is no regular file that may be opened."""
    opened = try_open(path, flags)
    return None if opened is None else _read(*opened, limit)


def _read(fd: int, size: int, limit: int) -> bytes:
    try:
        return os.read(fd, min(size, limit))
    finally:
        os.close(fd)


def try_stat(path: str, follow: bool = True) -> Optional[os.stat_result]:
    """What `path` is, or what it links to; None when nothing is there."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def is_folder(path: str) -> bool:
    found = try_stat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: str) -> bool:
    found = try_stat(path)
    return found is not None and stat.S_ISREG(found.st_mode)
