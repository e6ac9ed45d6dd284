"""Files that tell what happened, and how long they last."""

import errno
import os
import stat

EXIT_ROOM = 2048  # bytes that the evidence of a start takes, so that of the end finds room
VMSTAT_ROOM = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)


def create(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_padded(fd, text):
    """Writes over what was there, always EXIT_ROOM bytes: what comes later finds room on a full
    disk, and one write is there as a whole or not at all, whenever this process is killed."""
    text = text.ljust(EXIT_ROOM)
    if os.pwrite(fd, text, 0) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_at(fd, path):
    """Whether `path` is the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def open_vmstat():
    try:
        return os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no Linux
        return None


def open_up(*folders: str) -> None:
    """Gives the owner back folders, each within the one before, that a script has closed."""
    for folder in folders:
        try:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                return  # a link: what is behind it is not ours
            os.chmod(folder, 0o700)
        except (FileNotFoundError, NotADirectoryError):  # the script has removed it
            return


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def sync(*paths):
    """Makes files' contents, or folders' names, durable; as far as there are any."""
    try:
        for path in paths:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except FileNotFoundError:  # removed by the script
        pass


def oom_kills(fd):
    """Processes the kernel ended so far for want of memory, as `/proc/vmstat` tells, which is open;
    0 where it does not tell."""
    text = b"" if fd is None else os.pread(fd, VMSTAT_ROOM, 0)
    at = text.find(b"\noom_kill ")
    return int(text[at + 10 :].split(None, 1)[0]) if at >= 0 else 0


def exit_of(status):
    """(exit code, signal number) of a wait status; None, None when nothing ran."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
