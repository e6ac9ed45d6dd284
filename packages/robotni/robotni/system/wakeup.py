"""Wake-up."""

import errno
import os
import stat
from pathlib import Path
from typing import Union


def make_fifo(path: Path) -> None:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise
    else:
        os.chmod(path, 0o600)


def notify(fifo: Union[str, Path]) -> bool:
    """Rings the bell `fifo`; False when nobody holds it, so nobody would hear it."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):  # no reader, or no run yet
            return False
        raise
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # full: rung often enough
    except BrokenPipeError:
        return False  # the reader left between open and write
    finally:
        os.close(fd)
    return True


def has_listener(fifo: Path) -> bool:
    """Whether somebody holds the bell `fifo`; it does not ring."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # nobody reads
        return False
    return True


def listen(fifo: Path) -> int:
    """Opens `fifo` so that notifying finds a listener; poll the descriptor to hear it."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
