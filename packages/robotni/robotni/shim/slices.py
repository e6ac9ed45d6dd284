"""Time slices: how long a process goes on at a core before another that waits may have it.

The kernel's own slices, of 1 to 3 ms, cut the start of an interpreter (8 ms of CPU) into pieces,
and after each the caches know less. Worker, shims and scripts have long ones, so what is short runs
in one go; a script that goes on gets the kernel's own again, so that it holds nobody up. Heeded
from Linux 6.12 on; before that, and elsewhere, there is no such choice.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LONG = 20_000_000  # nanoseconds
SHORT_RUN = 0.1  # seconds in which a script may have long ones
OWN = 0  # the kernel's own
_ATTR = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, slice, and two of others
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
_SET, _GET = 0, 1  # sched_setattr, sched_getattr


def is_filtered() -> bool:
    """Whether system calls of this process are filtered, so that one may be its death; unless that
    is known, yes."""
    try:
        with open("/proc/self/status", "rb") as file:
            return b"\nSeccomp:\t0\n" not in file.read()
    except OSError:  # no Linux
        return True


def slice_of(thread: int = 0) -> int | None:
    """Nanoseconds of the slices of a thread, 0 is the calling one; None where that is not known."""
    attributes = _attributes(thread)
    return None if attributes is None else attributes[5]


def set_slice(nanoseconds: int, thread: int = 0) -> None:
    """For a thread and all that it starts from now on; where it may not be, it stays as it is."""
    attributes = _attributes(thread)
    if attributes is not None:
        changed = _ATTR.pack(*attributes[:5], nanoseconds, *attributes[6:])
        _call(_SET, thread, ctypes.create_string_buffer(changed, _ATTR.size), 0)


def shorten(process: int) -> None:
    """Gives a process, its threads and all below it the kernel's own slices for our long ones.

    By the kernel's lists of children, a fraction of a look at all processes (`descendants`); they
    may miss one, which keeps its long slices then.
    """
    if is_filtered():
        return
    todo = [process]
    while todo:
        for path in _threads(todo.pop()):
            thread = int(os.path.basename(path))
            if slice_of(thread) == LONG:
                set_slice(OWN, thread)
            todo += _children(path)


def _threads(process: int) -> list[str]:
    folder = f"/proc/{process}/task"
    try:
        return [f"{folder}/{thread}" for thread in os.listdir(folder)]
    except OSError:  # it has ended
        return []


def _children(path: str) -> list[int]:
    try:
        with open(f"{path}/children", "rb") as file:  # text would import more than scripts expect
            return [int(pid) for pid in file.read().split()]
    except OSError:  # it has ended, or the kernel does not tell
        return []


def _attributes(thread: int) -> tuple[int, ...] | None:
    buffer = ctypes.create_string_buffer(_ATTR.size)
    if _call(_GET, thread, buffer, _ATTR.size, 0) != 0:
        return None
    return _ATTR.unpack(buffer.raw)


def _call(which: int, *arguments: object) -> int:
    """The kernel's answer, 0 for yes; -1 also where its numbers are not known."""
    calls = _CALLS.get(os.uname().machine)
    if calls is None or sys.platform != "linux" or sys.maxsize < 1 << 32:
        return -1
    return int(ctypes.CDLL(None).syscall(calls[which], *arguments))
