"""The rehearsal: a fork that runs an empty script, to learn which pages of memory each run writes.

A page that a fork shares with its shim is copied at the first write to it, which is most of what a
short run costs. A fork that stands by copies these while nobody waits. Linux only: elsewhere, and
where system calls are filtered, no page is copied ahead.
"""

import _signal as signal
import ctypes
import os
import select
from array import array

from .standby import Fork

WITHIN = 5.0  # seconds
PAGE = os.sysconf("SC_PAGESIZE")
PRESENT, OF_FILE, ALONE = 1 << 63, 1 << 61, 1 << 56  # of an entry in pagemap
AT_ONCE = 1024  # vectors of a system call


class Rehearsal(Fork):
    """The fork has a pipe to the shim as its descriptor 0, by which it tells at its end."""

    def __init__(self):
        self.memory = list(private_memory())
        self.pipe, theirs = os.pipe()
        try:
            super().__init__()
            if self.pid == 0:
                os.dup2(theirs, 0)
        finally:
            os.close(theirs)

    def tell(self):
        """In the fork, when nothing is left of its interpreter, not even names like `len`."""
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        for begin, end in self.memory:
            os.write(0, os.pread(pagemap, (end - begin) // PAGE * 8, begin // PAGE * 8))
        os._exit(0)

    def pages(self):
        """In the shim: the addresses of the pages that were written to."""
        entries = array("Q", self.told())
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        addresses = (at for begin, end in self.memory for at in range(begin, end, PAGE))
        wanted, bits = PRESENT | ALONE, PRESENT | ALONE | OF_FILE
        return [at for at, entry in zip(addresses, entries) if entry & bits == wanted]

    def told(self):
        data = b""
        while select.select([self.pipe], [], [], WITHIN)[0]:
            part = os.read(self.pipe, 1 << 16)
            if not part:
                return data
            data += part
        return b""


def private_memory():
    """(begin, end) of what this process may write and shares with nobody but by forks."""
    try:
        with open("/proc/self/maps", "rb") as file:  # as text it would import modules
            for line in file:
                span, modes = line.split(None, 2)[:2]
                if modes == b"rw-p":
                    begin, end = span.split(b"-")
                    yield int(begin, 16), int(end, 16)
    except OSError:  # no Linux
        pass


class Vector(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Pages:
    """Pages of memory, by their addresses. To copy them a byte of each is read, and written where
    it was; the kernel minds those that are gone."""

    def __init__(self, addresses):
        self.parts = [] if is_filtered() else [*map(vectors, parts(addresses))]

    def copy(self):
        libc, me = ctypes.CDLL(None), os.getpid()
        for _, here, there, count in self.parts:
            for call in (libc.process_vm_readv, libc.process_vm_writev):
                call(me, here, 1, there, count, 0)


def parts(addresses):
    return [addresses[at : at + AT_ONCE] for at in range(0, len(addresses), AT_ONCE)]


def vectors(addresses):
    """What a system call wants: a buffer, one vector of all of it, one for each byte, how many."""
    count = len(addresses)
    buffer = ctypes.create_string_buffer(count)
    here = Vector(ctypes.addressof(buffer), count)
    there = (Vector * count)(*[(at, 1) for at in addresses])
    return buffer, ctypes.byref(here), there, count


def is_filtered():
    """Whether a system call may be the death of this process."""
    try:
        with open("/proc/self/status", "rb") as file:
            return b"\nSeccomp:\t0\n" not in file.read()
    except OSError:  # no Linux
        return True
