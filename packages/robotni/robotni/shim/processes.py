"""The processes below a shim: that they come back to it, how they are marked and found."""

import os
import resource
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEAST_MARK = 1 << 61


def controller():
    """`control(option, value)` sets what only Linux knows of a process."""
    if not sys.platform.startswith("linux"):
        return lambda option, value: None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda option, value: prctl(option, value, 0, 0, 0)


def mark_of(digest: bytes) -> int:
    """The mark of a run from 7 bytes of its own."""
    return LEAST_MARK | (int.from_bytes(digest, "big") << 4)


def mark(value):
    """Marks what is spawned from now on with a soft RLIMIT_RTTIME, random unless it is given;
    returns the mark.

    The limit (microseconds of real-time scheduling) concerns no ordinary process, survives exec,
    setsid and a cleaned environment, and can be read from outside in /proc/PID/limits.
    """
    limit = getattr(resource, "RLIMIT_RTTIME", None)
    if limit is None:
        return None
    value = value or mark_of(os.urandom(7))
    try:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    except (OSError, ValueError):  # a hard limit below: no mark then
        return None
    return value


def descendants():
    """Pids of every process below this one. Without /proc: none."""
    parents = {}
    try:
        entries = os.listdir("/proc")
    except OSError:
        return []
    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    stat = file.read()
            except OSError:  # gone since the listing
                continue
            parents.setdefault(int(stat[stat.rindex(b")") + 2 :].split()[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found
