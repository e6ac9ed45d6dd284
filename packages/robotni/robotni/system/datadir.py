"""The data directory: where its files lie, how it is made, and whether it can be used.

Folders are 0700 and files 0600 by explicit modes, so the umask stays the user's and scripts inherit
it. A network file system is refused, as its locks cannot be trusted. Also here: whether the machine
has been restarted, after which files that were not synced may be missing.
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
    """The paths in one data directory; nothing is created before `open()`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "robotni.db"
        self.jobs = path / "jobs"
        self.servers = path / "servers"
        self.worker_lock = path / "worker.lock"
        self.spawn_lock = path / "spawn.lock"
        self.worker_log = path / "worker.log"
        self.warm = path / "warm.json"
        self.wakeup = path / "wakeup"
        self.stop_worker = path / "stop_worker"
        self.stop_server = path / "stop_server"
        self.boot = path / "boot"

    def open(self) -> "DataDir":
        """Creates what is missing. Raises DataDirError when the directory cannot be used."""
        kind = file_system_type(self.path)
        if is_network_file_system(kind):
            raise DataDirError(
                f"the data directory {self.path} lies on a network file system ({kind}), where "
                "locks cannot be trusted; set ROBOTNI_DATA_DIR to a folder on a local disk"
            )
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            os.chmod(self.path, 0o700)
            for folder in (self.jobs, self.servers):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            for fifo in (self.wakeup, self.stop_worker, self.stop_server):
                make_fifo(fifo)
            for name, text in ((".gitignore", "*\n"), ("robotni.db", "")):
                _create_file(self.path / name, text)
        except OSError as error:
            raise DataDirError(
                f"the data directory {self.path} cannot be used ({error.strerror}); make it "
                "writable, or set ROBOTNI_DATA_DIR to another folder"
            ) from None
        return self

    def has_rebooted(self) -> bool:
        """Whether the machine may have been restarted since `remember_boot`. True, to be safe, on
        systems that do not tell."""
        now = boot_id()
        try:
            return not now or self.boot.read_text() != now
        except FileNotFoundError:
            return True

    def remember_boot(self) -> None:
        """Stores that all runs from before this boot have been recovered. On a full disk nothing is
        stored, and the next recovery tries again."""
        draft = self.boot.with_suffix(".tmp")
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(boot_id())
            os.replace(draft, self.boot)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise


def boot_id() -> str:
    """An id that the kernel draws at random at each boot; empty on systems other than Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _create_file(path: Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(fd, "w") as file:
        file.write(text)


def file_system_type(path: Path) -> str:
    """The type of the file system that `path` is on, or would be created on (`ext4`, `nfs4`); empty
    when unknown."""
    real = os.path.realpath(path)
    mounts = [
        (len(p.mountpoint), order, p.fstype)  # of two mounts at one place the later one is seen
        for order, p in enumerate(psutil.disk_partitions(all=True))
        if os.path.commonpath([real, p.mountpoint]) == p.mountpoint
    ]
    return max(mounts)[2] if mounts else ""


def is_network_file_system(kind: str) -> bool:
    """Whether a type of file system is one over the network, whose locks cannot be trusted."""
    return kind.startswith(_NETWORK)
