"""The files of one run: `jobs/<jobId>/<run>/`, a pure function of id and run.

    (itself)    held (flock) as long as the run lives; the kernel drops it at death
    started     written by the shim before it spawns the script, with room for how it ends
    exit.json   what `started` becomes, rewritten and renamed by the shim, when all is over
    output      stdout and stderr as they came, capped
    cancel      exists when the run shall stop; `ring` is the FIFO that says "look"
    result.json, progress     the script's own; read with suspicion

A run with `exit.json` is never called lost; one without `started` never started. A script may spoil
both: what is there and cannot be read counts as a start, and so does a folder that is gone.
"""

import errno
import json
import os
import re
import shutil
import stat
import time
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, NamedTuple, Optional, Tuple, TypeVar

from robotni.jobs.request import MAX_DEPTH, nests_deeper
from robotni.shim.processes import mark_of
from robotni.system import files
from robotni.system.locks import is_locked, take_folder
from robotni.system.wakeup import notify

MAX_RESULT = 1 << 20
LOOKED_AT = 1.0  # seconds
EXIT_FACTS = frozenset(
    ("finishedAt", "exitCode", "signal", "stoppedBy", "spawnError", "outOfMemory", "outputBytes",
     "outputTruncated")
)  # fmt: skip
MAX_PROGRESS_TAIL = 4096
# What a look fails with where a script has put something else, or takes away what it is given back.
SPOILT = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
OURS = ("started", "exit.json", "cancel", "ring", "output")  # files that nobody may close to us
Result = TypeVar("Result")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_JOB_ID = re.compile(r"[0-9a-f]{32}\Z")


def is_job_id(text: str) -> bool:
    """Whether `text` may name a job; only such a text ever becomes part of a path."""
    return _JOB_ID.match(text) is not None


class Slice(NamedTuple):
    """`size` is the whole file's; `chunks` yields the asked-for part."""

    size: int
    start: int
    chunks: Iterator[bytes]


class RunFiles:
    """One run's folder; nothing is touched until a method says so."""

    def __init__(self, jobs: Path, job_id: str, run: int) -> None:
        if not is_job_id(job_id):
            raise ValueError(f"{job_id!r} is no job id")
        self._job = f"{jobs}/{job_id}"  # text: a Path costs as much as what is done with it
        self.folder = f"{self._job}/{run}"
        self.output = f"{self.folder}/output"
        self.result = f"{self.folder}/result.json"
        self.progress = f"{self.folder}/progress"

    @property
    def mark(self) -> int:
        """What the processes of this run are marked with: known without any file of it."""
        name = "/".join(self.folder.split("/")[-2:])
        return mark_of(sha256(name.encode()).digest()[:7])

    def is_gone(self) -> bool:
        """Whether what was made before the claim has been removed, which robotni never does."""
        return not os.path.lexists(self.folder)

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def create(self) -> "RunFiles":
        try:
            self._for_sure(self._create)
        except FileNotFoundError:  # somebody has removed what was kept of all jobs
            _make(os.path.dirname(self._job))
            self._create()
        return self

    def prepare(self) -> None:
        """The same before a claim, from which on it is evidence when the folder is gone. Where it
        cannot be made the launch says why."""
        with suppress(OSError):
            self.create()

    def _create(self) -> None:
        _make(self._job)  # makedirs' mode is for the last one only
        _make(self.folder)

    def take(self) -> Optional[int]:
        """The lock of a run that begins, or None while another holds it. Whoever looks whether it
        is held holds it for a moment."""
        give_up = time.monotonic() + LOOKED_AT
        while True:
            fd = take_folder(self.folder)
            if fd is not None or time.monotonic() > give_up:
                return fd
            time.sleep(0.001)

    def is_held(self) -> bool:
        """Whether the run lives. Those that began before an upgrade hold a file `lock`."""
        try:
            return self._for_sure(self._is_locked)
        except OSError as error:
            if error.errno in SPOILT:
                return False
            raise

    def _is_locked(self) -> bool:
        return is_locked(self.folder) or is_locked(f"{self.folder}/lock")

    def _for_sure(self, look: Callable[[], Result]) -> Result:
        """What `look` finds, also where a script has closed what is ours."""
        try:
            return look()
        except PermissionError:
            open_up(self._job, self.folder)
            for name in OURS:
                _give_back(f"{self.folder}/{name}")
            return look()

    def _evidence(self, name: str) -> Optional[Dict[str, Any]]:
        """What a file of evidence says: None when there is none, or the shim has only just made it;
        empty when a script has spoilt it."""
        path = f"{self.folder}/{name}"
        read = partial(files.read_start, path, MAX_RESULT, os.O_NOFOLLOW)
        try:
            data = self._for_sure(read)  # the shim writes all of it at once
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in SPOILT:
                return {}
            raise  # the machine's fault, say too many open files: it tells nothing of the run
        try:
            value = json.loads(data) if data.strip() else None
        except ValueError:
            value = {}
        return value if value is None or isinstance(value, dict) else {}

    def started(self) -> Optional[Dict[str, Any]]:
        """What the shim said at the start; None when it said nothing, or has said since how the run
        ended."""
        return self._evidence("started")

    def restore_start(self) -> None:
        """Leaves evidence of the start where the script removed it, before the processes that prove
        the start are killed."""
        try:
            self._create()
            flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            os.close(os.open(f"{self.folder}/started", flags, 0o600))
            with open(f"{self.folder}/started", "w") as file:
                file.write("{}")
        except OSError:  # a full disk, or something else lies there: the row will tell
            pass

    def has_begun(self) -> bool:
        """Whether there is evidence, be it spoilt, that the script started."""
        return any(self._evidence(name) is not None for name in ("started", "exit.json"))

    def exit(self) -> Optional[Dict[str, Any]]:
        """How the run ended; None while that is not known."""
        for name in ("exit.json", "started"):  # the latter when killed between the last two steps
            facts = self._evidence(name)
            if facts is not None and facts.keys() >= EXIT_FACTS:
                return facts
        return None

    def request_cancel(self) -> None:
        """Leaves word that the run shall stop. Also when the run has not begun to look yet."""
        self._for_sure(self._request_cancel)

    def _request_cancel(self) -> None:
        self._create()
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            os.close(os.open(f"{self.folder}/cancel", flags, 0o600))
        except (IsADirectoryError, FileExistsError):  # the script's own; it exists, which is all
            pass
        notify(f"{self.folder}/ring")

    def is_cancel_requested(self) -> bool:
        return os.path.exists(f"{self.folder}/cancel")

    def output_size(self) -> int:
        try:
            found = os.lstat(self.output)
        except OSError:  # none yet, or out of reach by the script's doing
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def read_tail(self, limit: int) -> Tuple[str, bool]:
        """The last `limit` bytes of output as text, and whether that is less than all."""
        file = self._opened_output()
        if file is None:
            return "", False
        with file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - limit))
            data = file.read(limit)
        if size > limit:  # a cut within a character is no bad byte of the script's
            data = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", data)
        return data.decode("utf-8", "replace"), size > limit

    def last_line(self, limit: int = 300) -> str:
        """The last line of output that is not blank, as plain text, cut to `limit` characters."""
        text = _ANSI.sub("", self.read_tail(4096)[0])
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(c for c in lines[-1] if c.isprintable())[:limit] if lines else ""

    def slice(self, start: int, limit: Optional[int] = None) -> Slice:
        """Output from byte `start` to what is there now, at most `limit` bytes."""
        size = self.output_size()
        end = size if limit is None else min(size, start + limit)
        return Slice(size, start, _chunks(self._opened_output(), start, end))

    def _opened_output(self) -> Optional[BinaryIO]:
        file = _open_regular(self.output)
        if file is None and self.output_size() > 0:
            _give_back(self.output)
            file = _open_regular(self.output)
        return file

    def note(self, text: str) -> None:
        """Writes a line of robotni's own into the job's log, where that is possible."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            with os.fdopen(os.open(self.output, flags | os.O_CLOEXEC, 0o600), "ab") as file:
                file.write(f"robotni: {text}\n".encode("utf-8", "replace"))
        except OSError:
            pass  # a full disk, or no file: the run must settle

    def read_result(self) -> Any:
        """The script's JSON result, None when it wrote none; ValueError says what is wrong."""
        data = files.try_read_start(self.result, MAX_RESULT + 1, os.O_NOFOLLOW)
        if data is None:
            return None
        if len(data) > MAX_RESULT:
            raise ValueError("the result is over 1 MiB; write it to a file and hand on its name")
        if not data.strip():
            return None
        try:
            value = json.loads(data.decode("utf-8"), parse_constant=_reject)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the result is no JSON ({error}); write it with json.dump") from None
        if nests_deeper(value, MAX_DEPTH):
            raise ValueError(f"the result is nested over {MAX_DEPTH} deep; write it flatter")
        return value

    def read_progress(self) -> Optional[Tuple[float, str]]:
        """Percent (0 to 100) and message of the last line that is one."""
        file = _open_regular(self.progress)
        if file is None:
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MAX_PROGRESS_TAIL))
            lines = file.read(MAX_PROGRESS_TAIL).decode("utf-8", "replace").splitlines()
        whole = lines[1:] if size > MAX_PROGRESS_TAIL else lines
        for line in reversed(whole):
            match = re.match(r"\s*(\d{1,3}(?:\.\d+)?)%?(?:\s+(.*))?\Z", line, re.ASCII)
            if match:
                return min(float(match[1]), 100.0), (match[2] or "").strip()[:500]
        return None


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass


def delete_job(jobs: Path, job_id: str) -> None:
    """Removes all runs of a job; scripts may have left read-only folders behind."""
    if not is_job_id(job_id):
        raise ValueError(f"{job_id!r} is no job id")
    folder = jobs / job_id
    if folder.is_symlink() or not folder.is_dir():  # a script's doing; what is behind is not ours
        with suppress(FileNotFoundError):
            folder.unlink()
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Gives the owner back what a script took away from the folders it left."""
    os.chmod(folder, 0o700)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            inner = Path(path, name)
            if not inner.is_symlink():
                os.chmod(inner, 0o700)


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def _open_regular(path: str) -> Optional[BinaryIO]:
    """Opens what a script may have put there; no link."""
    found = files.try_open(path, os.O_NOFOLLOW)
    return None if found is None else os.fdopen(found[0], "rb")


def _chunks(file: Optional[BinaryIO], start: int, end: int) -> Iterator[bytes]:
    if file is None:
        return
    with file:
        file.seek(start)
        while start < end:
            data = file.read(min(65536, end - start))
            if not data:
                return
            start += len(data)
            yield data


def _give_back(path: str) -> None:
    """Gives the owner back a file or FIFO that a script has closed."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            os.chmod(path, 0o600)
    except OSError:  # there is none
        pass


def open_up(*folders: str) -> None:
    for folder in folders:
        try:
            os.chmod(folder, 0o700)
        except FileNotFoundError:
            return
