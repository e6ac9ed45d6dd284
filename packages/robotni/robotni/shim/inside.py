"""What this process itself has: open descriptors, threads."""

import os
import sys


def descriptors():
    """Open file descriptors and what they are of; that of the listing left out."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:  # no /proc on this system
        names = os.listdir("/dev/fd")
    found = {}
    for fd in map(int, names):
        try:
            stat = os.fstat(fd)
        except OSError:  # the listing's
            continue
        found[fd] = (stat.st_dev, stat.st_ino)
    return found


def close_all(kept, top):
    """Closes all above 2, less what `kept` tells. No other of this process was ever above `top`,
    but for the few that a run needs: the kernel gives the lowest that is free.
    """
    if not kept:
        os.closerange(3, top + 32)
        return
    for fd, of in descriptors().items():
        if fd > 2 and kept.get(fd) != of:
            os.close(fd)


def has_threads():
    """Whether another thread runs, less those that end by themselves before a fork.

    OpenBLAS, say, has such: they come back in the child when they are needed.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return True
    if tasks() == 1:
        return False
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return tasks() > 1


def tasks():
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # no /proc on this system
        return 1
