"""The data directory: who may use it, the locks in it, and the bell that wakes a worker.

Folders are 0700 and files 0600 by explicit modes, so the umask stays the user's and reaches his
scripts. Locks are `flock`s: the kernel drops them at death, no pid is trusted, and a lock file
is never deleted (two owners would be possible). The bell is a FIFO: a worker holds it open for
reading and writing, and ringing it finds out in one call whether a worker lives.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Optional, Union

import psutil

from robotni.errors import DataDirError

_NETWORK = (
    "nfs", "cifs", "smb", "afs", "afp", "9p", "ceph", "lustre", "webdav",
    "fuse.sshfs", "fuse.ceph", "fuse.gluster",
)  # fmt: skip


class DataDir:
    """Paths of one data directory. `open()` makes it usable or raises DataDirError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "robotni.db"
        self.jobs = path / "jobs"
        self.worker_lock = path / "worker.lock"
        self.spawn_lock = path / "spawn.lock"
        self.worker_log = path / "worker.log"
        self.warm = path / "warm.json"
        self.bell = path / "bell"
        self.leave = path / "leave"
        self.stop = path / "stop"
        self.boot = path / "boot"

    def open(self) -> "DataDir":
        kind = file_system(self.path)
        if is_network(kind):
            raise DataDirError(
                f"the data directory {self.path} lies on a network file system ({kind}), where "
                "locks cannot be trusted; set ROBOTNI_DATA_DIR to a folder on a local disk"
            )
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            os.chmod(self.path, 0o700)
            os.makedirs(self.jobs, mode=0o700, exist_ok=True)
            for fifo in (self.bell, self.leave, self.stop):
                make_fifo(fifo)
            for name, text in ((".gitignore", "*\n"), ("robotni.db", "")):
                _create(self.path / name, text)
        except OSError as error:
            raise DataDirError(
                f"the data directory {self.path} cannot be used ({error.strerror}); make it "
                "writable, or set ROBOTNI_DATA_DIR to a folder of yours"
            ) from None
        return self

    def has_rebooted(self) -> bool:
        """Whether the machine may have gone down since `remember_boot`: files that were written
        without fsync may be gone then. True also where the system does not tell."""
        now = boot_id()
        try:
            return not now or self.boot.read_text() != now
        except FileNotFoundError:
            return True

    def remember_boot(self) -> None:
        """Called once nothing is left to judge from before. A note that is lost does no harm."""
        draft = self.boot.with_suffix(".tmp")
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(boot_id())
            os.replace(draft, self.boot)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # full: the next sweep tries again
                raise


def boot_id() -> str:
    """What the kernel drew at random when it started; empty where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _create(path: Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(fd, "w") as file:
        file.write(text)


def make_fifo(path: Path) -> None:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise
    else:
        os.chmod(path, 0o600)


def file_system(path: Path) -> str:
    """Type of the file system `path` lies on, or will (`ext4`, `nfs4`); empty when unknown."""
    real = os.path.realpath(path)
    mounts = [
        (len(p.mountpoint), order, p.fstype)  # of two at one place the later hides the other
        for order, p in enumerate(psutil.disk_partitions(all=True))
        if os.path.commonpath([real, p.mountpoint]) == p.mountpoint
    ]
    return max(mounts)[2] if mounts else ""


def is_network(kind: str) -> bool:
    """Whether a type of file system is one where locks cannot be trusted."""
    return kind.startswith(_NETWORK)


def take_lock(path: Path, wait: bool = False) -> Optional[int]:
    """The descriptor that holds the lock of file `path`, or None while another holds it."""
    return _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), wait)


def take_folder(path: str) -> Optional[int]:
    """The same for a folder that exists: one file less to make."""
    return _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False)


def _locked(fd: int, wait: bool) -> Optional[int]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def release_lock(fd: Optional[int]) -> None:
    if fd is not None:
        os.close(fd)


def is_locked(path: Union[str, Path]) -> bool:
    """Whether somebody holds the lock of a file or folder; a missing one is not locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no FIFO holds us up
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def ring(fifo: Union[str, Path]) -> bool:
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


def hold_bell(fifo: Path) -> int:
    """Opens `fifo` so that ringing finds a listener; poll the descriptor to hear it."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
