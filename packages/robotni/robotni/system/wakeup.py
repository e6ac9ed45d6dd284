"""Wake-up between processes: a FIFO that one process polls and others write a byte to.

The listener holds the FIFO open with O_RDWR, so it never reads an end of file. A process that
notifies it opens the FIFO with O_WRONLY | O_NONBLOCK and learns in that call whether a listener
lives: ENXIO means that none does, since the kernel closes the FIFO of a process that dies. A byte
says only "look": what there is to do is in the database. So it does no harm that several bytes wake
the listener once, or that those it has not read are lost when it exits.

What has the name of a FIFO and is none is moved aside, not removed. A listener looks from time to
time whether its FIFO still has its name, and else makes another.
"""

import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Optional, Union


def make_fifo(path: Path) -> None:
    """Creates a FIFO, unless it is there. What else has its name is moved aside."""
    try:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            os.rename(path, f"{path}.aside-{uuid.uuid4().hex[:8]}")
    except FileNotFoundError:
        pass
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise
    else:
        os.chmod(path, 0o600)  # whatever the umask is


def notify(fifo: Union[str, Path]) -> bool:
    """Wakes the listener of `fifo`, without waiting for it; False when there is none, or when it
    cannot be told whether there is one."""
    fd = _open_to_write(fifo)
    if fd is None:
        return False
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # it is full: the listener will wake up anyway
    except OSError:
        return False  # the listener exited between open and write
    finally:
        os.close(fd)
    return True


def has_listener(fifo: Path) -> bool:
    """Whether a process listens to `fifo`; does not wake it."""
    fd = _open_to_write(fifo)
    if fd is not None:
        os.close(fd)
    return fd is not None


def _open_to_write(fifo: Union[str, Path]) -> Optional[int]:
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no listener, no FIFO yet, a folder in its place, no more descriptors
        return None
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def listen(fifo: Path) -> int:
    """Makes this process the listener of `fifo`; the descriptor to poll, and to read empty."""
    make_fifo(fifo)
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def listen_again(fd: int, fifo: Path) -> bool:
    """Makes another FIFO for the listener `fd` when its own has been removed or replaced, so that
    nobody could wake it; whether that was so. Who polls `fd` is woken. OSError when it cannot."""
    try:
        if os.path.samestat(os.fstat(fd), os.lstat(fifo)):
            return False
    except FileNotFoundError:
        pass
    old, new = os.dup(fd), listen(fifo)
    os.dup2(new, fd, inheritable=False)
    os.close(new)
    # A poll that the old one wakes looks at `fd` again, so there must be a byte in the new one too.
    for woken in (fd, old):
        with suppress(BlockingIOError):  # it is full
            os.write(woken, b"!")
    os.close(old)
    return True
