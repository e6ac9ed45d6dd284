"""The processes below a shim: that they come back to it, how they are marked and found."""

import os
import resource
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEAST_MARK = 1 << 61
LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))


def prctl(option, value):
    """Sets what only Linux knows of a process."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def mark_of(digest: bytes) -> int:
    """The mark of a run from 7 bytes of its own."""
    return LEAST_MARK | (int.from_bytes(digest, "big") << 4)


def mark(value):
    """Marks this process, and what it spawns from now on, with a soft RLIMIT_RTTIME; the mark, or
    None where there can be none.

    The limit (microseconds of real-time scheduling) concerns no ordinary process, survives exec,
    setsid and a cleaned environment, and can be read from outside in /proc/PID/limits.
    """
    limit = getattr(resource, "RLIMIT_RTTIME", None)
    if limit is None:
        return None
    try:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    except (OSError, ValueError):  # the hard limit is lower
        return None
    return value


def mark_others(pids):
    """Gives processes that were started earlier the mark of this one."""
    limit = getattr(resource, "RLIMIT_RTTIME", None)
    for pid in pids if limit is not None else ():
        try:
            resource.prlimit(pid, limit, resource.getrlimit(limit))
        except (OSError, ValueError):  # it has ended, or may not be changed
            pass


def conditions():
    """What a program can change of its parent, and what the programs after it would inherit:
    limits (but for the mark), scheduling, CPUs, cgroup, weight for the OOM killer. None where it
    cannot be read."""
    try:
        limits = {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS}
        limits["RLIMIT_RTTIME"] = limits.get("RLIMIT_RTTIME", (0, 0))[1]
        found = [limits, os.getpriority(os.PRIO_PROCESS, 0)]
        if sys.platform.startswith("linux"):
            found += [os.sched_getscheduler(0), os.sched_getparam(0), os.sched_getaffinity(0)]
            for name in ("cgroup", "oom_score_adj"):
                with open(f"/proc/self/{name}", "rb") as file:
                    found.append(file.read())
        return found
    except OSError:  # it may open no files any more, say
        return None


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
            except OSError:  # it ended since the listing
                continue
            parents.setdefault(int(stat[stat.rindex(b")") + 2 :].split()[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found
