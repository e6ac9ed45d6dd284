"""The files of one run, in the folder `jobs/<jobId>/<run>/`.

    (the folder)  locked with flock while the run lives; the kernel unlocks it when the shim dies
    started       written by the shim before it starts the script, with room for the end
    exit.json     how the run ended: `started`, rewritten and then renamed by the shim
    output        stdout and stderr as they came, up to half the cap
    output.<start>            what came after byte <start>: the newest two are kept
    cancel        exists when the run is to stop; the FIFO `ring` wakes the shim to look for it
    result.json, progress     written by the script

A run with `exit.json` has ended and is never called lost; one without `started` never started. A
file of evidence that cannot be read counts as a start, and so does a folder that was removed. A
script may put anything in place of these files: no link is followed, nothing waits, reads are
bounded.
"""

import json
import math
import os
import re
import stat
import time
import uuid
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from robotni.jobs.output import quote
from robotni.jobs.request import MAX_DEPTH, nests_deeper
from robotni.shim.processes import mark_of
from robotni.storage.output import Output
from robotni.system import files, locks
from robotni.system.wakeup import notify

MAX_RESULT = 1 << 20  # bytes
MAX_PROGRESS_TAIL = 4096  # bytes at the end of `progress` that are read
LOCK_TIMEOUT = 1.0  # seconds
MAX_SEARCHED = 1 << 20  # bytes at the end of the output that are searched for an exception
EXIT_FACTS = frozenset(
    ("finishedAt", "exitCode", "signal", "stoppedBy", "spawnError", "outOfMemory", "outputBytes",
     "outputTruncated")
)  # fmt: skip
_PROGRESS = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)%?(?:\s+(.*))?\Z", re.ASCII)
_JOB_ID = re.compile(r"[0-9a-f]{32}\Z")


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job id; only such a text ever becomes part of a path."""
    return _JOB_ID.match(text) is not None


class RunFiles:
    """The paths of one run's files, and what they say. Making one touches no file."""

    def __init__(self, jobs: Path, job_id: str, run: int) -> None:
        if not is_job_id(job_id):
            raise ValueError(f"{job_id!r} is no job id")
        self._name = f"{job_id}/{run}"
        self._parents = (f"{jobs}", f"{jobs}/{job_id}")
        self.folder = f"{jobs}/{self._name}"
        self.output = f"{self.folder}/output"
        self.result = f"{self.folder}/result.json"
        self.progress = f"{self.folder}/progress"

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def mark(self) -> int:
        """What the processes of this run are marked with; it follows from job id and run."""
        return mark_of(sha256(self._name.encode()).digest()[:7])

    # the folder and its lock

    def create(self) -> "RunFiles":
        """Makes the folder, and those above it that are missing."""
        for folder in (*self._parents, self.folder):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        return self

    def is_removed(self) -> bool:
        """Whether the folder, which is made before the run is claimed, is not there."""
        try:
            os.lstat(self.folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in files.NOT_THERE:
                raise
        return False

    def lock(self) -> Optional[int]:
        """The descriptor that holds the lock of this run, or None while another process holds it.

        `is_locked` takes the lock for an instant, so this tries for LOCK_TIMEOUT.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            fd = locks.take_folder(self.folder)
            if fd is not None or time.monotonic() > deadline:
                return fd
            time.sleep(0.001)

    def is_locked(self) -> bool:
        """Whether the run lives: its shim holds the lock. False also when the script has made the
        folder unreadable."""
        try:
            return locks.is_locked(self.folder)
        except OSError as error:
            if error.errno in files.NOT_THERE:
                return False
            raise

    # evidence

    def started(self) -> Optional[Dict[str, Any]]:
        """What the shim wrote before the start; None when it wrote nothing, or `exit.json` since;
        empty when it cannot be read."""
        return self._evidence("started")

    def has_started(self) -> bool:
        """Whether there is evidence, readable or not, that the script was started."""
        return any(self._evidence(name) is not None for name in ("started", "exit.json"))

    def restore_start(self) -> None:
        """Leaves evidence of a start that the script removed, before the processes that prove the
        start are killed. Does nothing where that is not possible."""
        with suppress(OSError):
            self.create()
            path = f"{self.folder}/started"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "w") as file:
                file.write("{}")

    def exit_facts(self) -> Optional[Dict[str, Any]]:
        """How the run ended, with all of EXIT_FACTS; None while that is not known."""
        for name in ("exit.json", "started"):  # a shim may be killed between rewrite and rename
            facts = self._evidence(name)
            if facts is not None and facts.keys() >= EXIT_FACTS:
                return facts
        return None

    def _evidence(self, name: str) -> Optional[Dict[str, Any]]:
        """None when there is no such file or the shim has only just created it, empty when what is
        there cannot be read. OSError when the machine is at fault (say, too many open files),
        which tells nothing of the run."""
        try:
            data = files.read_start(f"{self.folder}/{name}", MAX_RESULT, os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in files.NOT_THERE:
                return {}
            raise
        if not data.strip():  # the shim writes all of it at once
            return None
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    # cancel

    def request_cancel(self) -> None:
        """Asks the run to stop, also before its shim looks. OSError when that is not possible."""
        self.create()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with suppress(FileExistsError):
            os.close(os.open(f"{self.folder}/cancel", flags, 0o600))
        notify(f"{self.folder}/cancel.fifo")

    # output

    def open_output(self) -> Output:
        """What is kept of the output now."""
        return Output(self.folder)

    def output_size(self) -> int:
        """The bytes of output so far, with those that are left out in the middle."""
        with self.open_output() as output:
            return output.size

    def read_tail(self, limit: int) -> Tuple[str, bool]:
        """The last `limit` bytes of output as text, and whether anything precedes them. What is
        left out is not skipped: the text may be shorter."""
        with self.open_output() as output:
            part = output.last(limit)
            data = b"".join(output.chunks(part))
        if part.start > 0:  # the cut may have left a part of a character
            data = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", data)
        return data.decode("utf-8", "replace"), part.start > 0

    def quote(self, written: int) -> Optional[str]:
        """What an error message quotes of an output of `written` bytes; see `jobs.output.quote`.
        None also where the end of the output was not kept."""
        return quote(*self.read_tail(MAX_SEARCHED)) if written <= self.output_size() else None

    # what the script writes

    def read_result(self) -> Any:
        """The script's JSON result, None when it wrote none; ValueError says what is wrong with it.
        What JSON has no number for, NaN and infinities, is None."""
        try:
            data = files.read_start(self.result, MAX_RESULT + 1, os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in files.NOT_THERE:
                raise ValueError(
                    "its result is not a regular file that can be read; write the JSON to the file "
                    "named by ROBOTNI_RESULT itself"
                ) from None
            raise
        if len(data) > MAX_RESULT:
            raise ValueError(
                "its result is over 1 MiB; write it to a file and return the name of that file"
            )
        if not data.strip():
            return None
        try:
            value = json.loads(
                data.decode("utf-8"), parse_constant=lambda name: None, parse_float=_finite
            )
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its result is no JSON ({error}); write it with json.dump") from None
        if nests_deeper(value, MAX_DEPTH):
            raise ValueError(
                f"its result is nested more than {MAX_DEPTH} levels deep; write it with fewer"
            )
        return value

    def read_progress(self) -> Optional[Tuple[float, str]]:
        """Percent (0 to 100) and message of the last line of `progress` that has this form."""
        data, size = _read_end(self.progress, MAX_PROGRESS_TAIL)
        lines = data.decode("utf-8", "replace").splitlines()
        if size > MAX_PROGRESS_TAIL:
            del lines[:1]  # its beginning is cut off
        for line in reversed(lines):
            match = _PROGRESS.match(line)
            if match:
                return min(float(match[1]), 100.0), (match[2] or "").strip()[:500]
        return None


def delete_job(jobs: Path, job_id: str) -> None:
    """Removes the folder of a job with all its runs, also where a script left folders read-only or
    nested without end. Follows no link. OSError when a part cannot be removed; the rest is."""
    if not is_job_id(job_id):
        raise ValueError(f"{job_id!r} is no job id")
    folder = f"{jobs}/{job_id}"
    errors: List[OSError] = []
    todo = [folder]
    while todo:
        path = todo.pop()
        try:
            for entry in _entries(path):
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
                    elif path == folder:
                        todo.append(entry.path)
                    else:
                        todo.append(_move_below(folder, entry.path))
                except OSError as error:
                    errors.append(error)
            if path != folder:
                os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    with suppress(FileNotFoundError):
        os.rmdir(folder)


def _entries(path: str) -> "List[os.DirEntry[str]]":
    """What lies in a folder, which may be changed afterwards. What is no folder is removed."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        raise FileNotFoundError(path)
    with suppress(PermissionError):  # it belongs to another user
        os.chmod(path, 0o700)
    with os.scandir(path) as entries:
        return list(entries)


def _move_below(folder: str, inner: str) -> str:
    """Moves a folder directly below `folder`, so that neither depth nor path ever grow long."""
    with suppress(PermissionError):  # it belongs to another user
        os.chmod(inner, 0o700)
    moved = f"{folder}/{uuid.uuid4().hex}"
    os.rename(inner, moved)
    return moved


def _finite(number: str) -> Optional[float]:
    value = float(number)
    return value if math.isfinite(value) else None


def _open(path: str) -> Optional[BinaryIO]:
    """A regular file that is no link; None when there is none that can be read."""
    opened = files.try_open(path, os.O_NOFOLLOW)
    return None if opened is None else os.fdopen(opened[0], "rb")


def _read_end(path: str, limit: int) -> Tuple[bytes, int]:
    """The last `limit` bytes of a file, and its size; of a file that cannot be read, nothing."""
    file = _open(path)
    if file is None:
        return b"", 0
    with file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - limit))
        return file.read(limit), size
