"""Files that others put there, so that they may be anything: opened only when they are regular.

No FIFO or device holds the reader up, and a link is followed only where the caller says so.
"""

import os
import stat
from typing import Optional, Tuple


def opened(path: str, flags: int = 0) -> Optional[Tuple[int, int]]:
    """(descriptor, size); None when there is no such file, or it is not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except OSError:
        return None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return None
    return fd, found.st_size


def beginning(path: str, limit: int, flags: int = 0) -> Optional[bytes]:
    """At most `limit` bytes, in one go: a file object costs more than what is read."""
    found = opened(path, flags)
    if found is None:
        return None
    fd, size = found
    try:
        return os.read(fd, min(size, limit))
    finally:
        os.close(fd)
