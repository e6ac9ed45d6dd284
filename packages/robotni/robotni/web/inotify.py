"""Changes in a folder, told by the kernel (inotify), so that nobody has to look again and again."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Optional

_WRITTEN = 0x2  # IN_MODIFY: by a call; what is written to mapped memory is not told


class Changes:
    """What is written to the files in a folder: `fd` is readable until it is forgotten. It is None
    on other systems than Linux, and where the kernel allows no more of it."""

    def __init__(self, folder: Path) -> None:
        self.fd = _told_of(folder)

    def forget(self) -> None:
        """All that was told so far."""
        try:
            while self.fd is not None and os.read(self.fd, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
        self.fd = None


def _told_of(folder: Path) -> Optional[int]:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(folder), _WRITTEN) < 0:
        os.close(fd)
    elif fd >= 0:
        return fd
    return None
