"""Time slices: how long a process goes on at a core before another that waits may have it.

The kernel's own slices, of 1 to 3 ms, cut the start of an interpreter (8 ms of CPU) into pieces,
and after each the caches know less. Worker, shims and scripts have long ones, so what is short runs
in one go; a script that goes on gets the kernel's own again, so that it holds nobody up. Slices
that were chosen from outside, or by a script, stay. Heeded from Linux 6.12 on; before that, and
elsewhere, there is no such choice.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LONG = 20_000_000  # nanoseconds
SHORT_RUN = 0.1  # seconds in which a script may have long ones
OWN = 0  # the kernel's own
KEEP_POLICY = 0x08  # a flag: what the thread has by now, whatever was read of it
_ATTR = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, slice, and two of others
_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr
_SET, _GET = _CALLS.get(os.uname().machine, (None, None))
_IS_KNOWN = _SET is not None and sys.platform == "linux" and sys.maxsize > 1 << 32
_call = ctypes.CDLL(None).syscall if _IS_KNOWN else lambda *arguments: -1


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
        _set(attributes, nanoseconds, thread)


def are_chosen() -> bool:
    """Whether the calling thread has slices that are not the kernel's own."""
    before = slice_of()
    if before is None:
        return False
    set_slice(OWN)
    if slice_of() == before:
        return False
    set_slice(before)
    return True


def shorten() -> None:
    """Gives all threads of all below this process the kernel's own slices for our long ones.

    By the kernel's lists of children, a fraction of a look at all processes (`descendants`). Long
    ones stay with a process that they miss at this moment, with one that may not be changed since
    it is another user's, and with one whose policy knows no slices, as `SCHED_FIFO`, for later. A
    thread that sets its nice value between our two calls, some microseconds, has the one before.
    """
    if is_filtered():
        return
    todo = [child for path in _threads(os.getpid()) for child in _children(path)]
    while todo:
        for path in _threads(todo.pop()):
            _shorten(int(os.path.basename(path)))
            todo += _children(path)


def _shorten(thread: int) -> None:
    attributes = _attributes(thread)
    if attributes is not None and attributes[5] == LONG:
        _set(attributes, OWN, thread)


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


def _set(attributes: tuple[int, ...], nanoseconds: int, thread: int) -> None:
    size, policy, flags, nice, priority, _, *others = attributes
    changed = (size, policy, flags | KEEP_POLICY, nice, priority, nanoseconds, *others)
    _call(_SET, thread, ctypes.create_string_buffer(_ATTR.pack(*changed), _ATTR.size), 0)
