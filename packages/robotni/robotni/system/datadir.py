"""The data directory: who may use it, the locks in it, and the bell that wakes a worker.

Folders are 0700 and files 0600 by explicit modes, so the umask stays the user's and reaches his
scripts. Locks are `flock`s: the kernel drops them at death, no pid is trusted, and a lock file
is never deleted (two owners would be possible). The bell is a FIFO: a worker holds it open for
reading and writing, and notifying it finds out in one call whether a worker lives.
"""

import errno
import os
from pathlib import Path

import psutil

from robotni.errors import DataDirError
from robotni.system.wakeup import make_fifo

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
        self.wakeup = path / "wakeup"
        self.stop_worker = path / "stop_worker"
        self.stop_server = path / "stop_server"
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
            for fifo in (self.wakeup, self.stop_worker, self.stop_server):
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
