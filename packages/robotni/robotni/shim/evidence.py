"""The evidence of a run: the files that tell that it started and how it ended."""

import errno
import os

ROOM = 2048  # bytes that the evidence of a start takes, so that there is room for that of the end
VMSTAT_SIZE = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)


def create(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_padded(fd, text):
    """Writes over what was there, always ROOM bytes at least: what comes later finds room on a full
    disk, and one write is there as a whole or not at all, whenever this process is killed."""
    text = text.ljust(ROOM)
    if os.pwrite(fd, text, 0) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def close(fd):
    """Closes a descriptor. It is closed also where the kernel reports an error of an earlier write
    by this call."""
    try:
        os.close(fd)
    except OSError:
        pass


def sync(*paths):
    """Makes the content of files, or the names in folders, durable."""
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:  # removed by the script, or by the clean-up
            continue
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the script put a FIFO there
                raise
        finally:
            os.close(fd)


def open_vmstat():
    try:
        return os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # this is not Linux
        return None


def oom_kills(fd):
    """How many processes the kernel has killed so far for want of memory, by the open
    `/proc/vmstat`; 0 where that does not tell."""
    try:
        text = b"" if fd is None else os.pread(fd, VMSTAT_SIZE, 0)
    except OSError:  # it says less then why a process was killed
        text = b""
    at = text.find(b"\noom_kill ")
    return int(text[at + 10 :].split(None, 1)[0]) if at >= 0 else 0


def exit_of(status):
    """(exit code, signal number) of a wait status; None, None when nothing ran."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
