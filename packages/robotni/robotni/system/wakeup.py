"""Wake-up between processes: a FIFO that one process polls and others write a byte to.

The listener holds the FIFO open with O_RDWR, so it never reads an end of file. A process that
notifies it opens the FIFO with O_WRONLY | O_NONBLOCK and learns in that call whether a listener
lives: ENXIO means that none does, since the kernel closes the FIFO of a process that dies. A byte
says only "look": what there is to do is in the database. So it does no harm that several bytes wake
the listener once, or that those it has not read are lost when it exits.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Union


def make_fifo(path: Path) -> None:
    """Creates a FIFO, unless it is there. FileExistsError when something else has its name."""
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise
    else:
        os.chmod(path, 0o600)  # whatever the umask is


def notify(fifo: Union[str, Path]) -> bool:
    """Wakes the listener of `fifo`, without waiting for it; False when there is none."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):  # no listener, or no FIFO yet
            return False
        raise
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # it is full: the listener will wake up anyway
    except BrokenPipeError:
        return False  # the listener exited between open and write
    finally:
        os.close(fd)
    return True


def has_listener(fifo: Path) -> bool:
    """Whether a process listens to `fifo`; does not wake it."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # nobody reads
        return False
    return True


def listen(fifo: Path) -> int:
    """Makes this process the listener of `fifo`; the descriptor to poll, and to read empty."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
