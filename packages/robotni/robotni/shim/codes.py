"""Compiled scripts, kept while a warm interpreter lives and their files do not change."""

import os
import sys
from stat import S_ISREG

COMPILED = 64  # scripts whose code is kept
MAX_SOURCE = 1 << 18  # bytes; longer ones are compiled in the fork, where it costs the script alone


class Codes:
    """Code by the path of its script, and what the file was like when it was read."""

    def __init__(self):
        self.kept = {}

    def get(self, path):
        """The compiled script and the folder that it is in, links resolved; None for each that is
        better found out by its own process."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no FIFO holds us up
        except OSError:  # gone, or no file: the script's interpreter says so
            return None, None
        try:
            found = os.fstat(fd)
            if not S_ISREG(found.st_mode):
                return None, None
            return self.code(path, fd, found), folder(fd)
        except OSError:
            return None, None
        finally:
            os.close(fd)

    def code(self, path, fd, found):
        seen = stamp(found)
        kept = self.kept.get(path)
        if kept is None or kept[0] != seen:
            kept = (seen, quietly_compiled(os.read(fd, MAX_SOURCE + 1), path))
            self.kept.pop(path, None)
            self.kept[path] = kept
            while len(self.kept) > COMPILED:
                del self.kept[next(iter(self.kept))]
        return kept[1]

    def clear(self):
        self.kept.clear()


def folder(fd):
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # no /proc on this system
        return None
    return None if path.endswith(" (deleted)") else path.rpartition("/")[0] or "/"


class Ear:
    """In the place of stderr: whether anything was said."""

    def __init__(self):
        self.heard = False

    def write(self, text):
        self.heard = True

    def flush(self):
        pass


def stamp(stat: os.stat_result) -> "list[int]":
    """What tells one content of a file from another: a list, as JSON gives it back.

    The worker compares those that a shim told it with its own, so it calls this too.
    """
    return [stat.st_mtime_ns, stat.st_size, stat.st_ino]


def quietly_compiled(source, path):
    """The code; None for what is too long, does not compile, or makes the compiler warn.

    With an empty module `warnings` it is the interpreter itself that prints: the real one would
    be imported, and remember lines of the script, in every later fork.
    """
    if len(source) > MAX_SOURCE:
        return None
    stderr, sys.stderr = sys.stderr, Ear()
    warnings = sys.modules.get("warnings")
    sys.modules["warnings"] = type(sys)("warnings")
    try:
        code = compile(source, path, "exec", dont_inherit=True)
        return None if sys.stderr.heard else code
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None
    finally:
        sys.stderr = stderr
        if warnings is None:
            del sys.modules["warnings"]
        else:
            sys.modules["warnings"] = warnings
