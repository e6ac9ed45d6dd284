"""Files that tell what happened, and how long they last."""

import errno
import os

EXIT_ROOM = 2048  # bytes set aside for exit.json while there is room on the disk
FULL = (errno.ENOSPC, errno.EDQUOT)


def write_file(path, data, flags=os.O_CREAT | os.O_EXCL):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def set_aside(path, size):
    """Takes room on the disk now, for what must be written when it may be full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b" " * size)
    finally:
        os.close(fd)


def sync(path):
    """Makes a file's contents, or a folder's names, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def oom_kills():
    """Processes the kernel ended so far for want of memory; 0 where it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:  # as text it would import modules, on 3.8
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def exit_of(status):
    """(exit code, signal number) of a wait status; None, None when nothing ran."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
