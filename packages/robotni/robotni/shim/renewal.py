"""What a script must not have in common with those forked before it."""

import io
import os
import sys


def new_streams():
    """stdin, stdout and stderr as they will be: a stream remembers whether its file can seek.

    They are made beforehand, while the descriptors are a file and a pipe, as a script's are.
    """
    held = [os.dup(fd) for fd in (1, 2)]
    reader, writer = os.pipe()
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        return [new_stream("stdin", "r"), new_stream("stdout", "w"), new_stream("stderr", "w")]
    finally:
        for fd, number in zip(held, (1, 2)):
            os.dup2(fd, number)
        for fd in (*held, reader, writer):
            os.close(fd)


def new_stream(name, mode):
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
    return stream


def renew_environ(variables):
    """As by `clear` and `update`, in the order of `variables`, at a tenth of the cost."""
    for name in os.environ._data:
        os.unsetenv(name)
    os.environ._data.clear()
    add_to_environ(variables)


def add_to_environ(variables):
    kept, coding = os.environ._data, (sys.getfilesystemencoding(), "surrogateescape")
    for name, value in variables:
        key, data = name.encode(*coding), value.encode(*coding)
        os.putenv(key, data)
        kept[key] = data


def renew_randomness():
    """Nothing random, unique or secret may come out the same in two scripts.

    `random` sees to itself at a fork; so does OpenSSL since 1.1.1.
    """
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "ssl" in sys.modules and sys.modules["ssl"].OPENSSL_VERSION_INFO < (1, 1, 1):
        sys.modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "uuid" in sys.modules:
        sys.modules["uuid"]._last_timestamp = None
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # TMPDIR is the script's own
