"""Where the servers of a data directory listen, so that commands and scripts find one at any port.

Each `robotni serve` has a file with its URL in the folder `servers`, and holds that file's lock
while it lives. What stands in a file counts only while its lock is held, so the file of a server
that was killed counts no more; the next server that starts removes it.
"""

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Iterator, List, Optional

from robotni.system.datadir import DataDir
from robotni.system.locks import is_locked, lock_open_file

_SUFFIX = ".json"  # of a file that is complete and locked
_MAX_SIZE = 4096  # bytes


@contextmanager
def announced(datadir: DataDir, url: str) -> Iterator[None]:
    """Within, `address` finds the server at `url`."""
    for path in _files(datadir):
        if not is_locked(path):
            with suppress(FileNotFoundError):  # another server removed it
                path.unlink()
    fd, draft = mkstemp(dir=str(datadir.servers))
    path = Path(draft).with_suffix(_SUFFIX)
    try:
        lock_open_file(fd)
        os.write(fd, json.dumps({"url": url}).encode())
        os.rename(draft, path)
        yield
    finally:
        for name in (draft, path):
            with suppress(FileNotFoundError):
                os.unlink(name)
        os.close(fd)


def address(datadir: DataDir) -> Optional[str]:
    """The URL of the `robotni serve` that was started last; None when none lives."""
    for path in _files(datadir):
        with suppress(FileNotFoundError, PermissionError, ValueError, KeyError, TypeError):
            if is_locked(path):
                with open(path, "rb") as file:
                    return str(json.loads(file.read(_MAX_SIZE))["url"])
    return None


def _files(datadir: DataDir) -> List[Path]:
    """The newest first."""
    try:
        found = [p for p in datadir.servers.iterdir() if p.suffix == _SUFFIX]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # none yet, or another user's
        return []
