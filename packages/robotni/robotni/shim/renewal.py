"""What a script must not have in common with those forked before it."""

import io
import os
import sys


def renew_streams():
    """New ones over the new descriptors: a stream remembers whether its file can seek."""
    streams = []
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, f"__{name}__")
        raw = io.FileIO(old.fileno(), mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = raw if isinstance(old.buffer, io.FileIO) else None
        if buffer is None:
            buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(
            buffer,
            encoding=old.encoding,
            errors=old.errors,
            newline=None if mode == "r" else "\n",
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
        stream.mode = mode
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    return streams


def renew_randomness():
    """Nothing random, unique or secret may come out the same in two scripts.

    `random` sees to itself at a fork.
    """
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "uuid" in sys.modules:
        sys.modules["uuid"]._last_timestamp = None
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # TMPDIR is the script's own
