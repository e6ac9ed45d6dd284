"""Warm interpreters: shims in the Python of a venv, kept with modules imported, for runs to fork.

A pool of at most `most`. One serves the runs of its recipe one after another and is dropped when
its venv or a module's file has changed, when it was idle too long, and by least recent use when
another needs its place. A run never depends on one: whatever is wrong, it is told why and goes
cold. What a fork cannot hide from a script is in `DIFFERENCES`, sentences for a person.
"""

import json
import os
import select
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from robotni.consumer.shim_pool import Slot
from robotni.engine.preflight import venv_python
from robotni.shim.codes import stamp

PRELOAD_WITHIN = 60.0  # seconds; a run that waited for modules so long goes cold
LOOK_EVERY = 0.1  # seconds between two looks whether a run that waits for modules is cancelled
REPORT_EVERY = 5.0
MAX_REFUSALS = 64

DIFFERENCES: Tuple[str, ...] = (
    "the hash seed is the warm interpreter's, so sets of strings are ordered alike in its runs",
    "addresses of memory (id, ASLR) are alike in the runs of one warm interpreter",
    "preloaded modules are imported in the folder /, and see of the request's env only HOME, LANG, "
    "LC_*, OMP_*, OPENBLAS_*, MKL_*",
    "a preloaded module wins over a file of that name beside the script",
    "ps, /proc/self/cmdline and environ show how the warm interpreter was started",
    "inspect.stack(), print_stack() and a warning's stacklevel see one frame below the script's",
    "gc.get_freeze_count() is not 0, and peak memory (ru_maxrss) counts the preloaded modules",
    "objects that preloaded modules hold at the end of a script get no __del__",
    "no -X flag, and no variable PYTHON…, can be given",
)  # fmt: skip

Stamps = Dict[str, Optional[List[int]]]


class Recipe(NamedTuple):
    """What a warm interpreter is made of. Runs share one when all of this is equal."""

    venv: str
    preload: Tuple[str, ...]
    environ: Tuple[Tuple[str, str], ...]


class WarmSlot(Slot):
    """A warm interpreter; usable once `answer` has said so."""

    def __init__(self, log: Path, folder: Path, recipe: Recipe) -> None:
        self.recipe = recipe
        self.files = stamps(venv_files(recipe.venv))
        self.has_answered = False
        self.last_used = time.monotonic()
        super().__init__(
            log,
            python=[venv_python(recipe.venv)],
            arguments=[str(folder), *recipe.preload],
            environ=dict(recipe.environ),
        )

    def answer(self, leave: int, is_cancelled: Callable[[], bool], within: float) -> Optional[str]:
        """Waits until the modules are imported; why no run may be forked here, None if one may."""
        give_up = time.monotonic() + within
        poll = select.poll()
        for fd in (self._socket.fileno(), leave):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(1000 * LOOK_EVERY)]
            if self._socket.fileno() in ready:
                return self._read_answer()
            if leave in ready or is_cancelled():
                return ""
            if time.monotonic() > give_up:
                return f"the modules to preload were not imported within {within:g} s"

    def _read_answer(self) -> Optional[str]:
        self.has_answered = True
        try:
            with self._socket.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        except (OSError, ValueError):  # EOF before it said anything
            return f"{venv_python(self.recipe.venv)} ended before it was ready"
        self.files.update(answer["files"])
        refused: Optional[str] = answer["refused"]
        return refused

    def is_fresh(self) -> bool:
        return self.is_alive() and are_as(self.files)

    def memory(self) -> int:
        """Its share of memory in bytes (PSS): pages of several processes count in part."""
        try:
            for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except OSError:  # it ended, or no Linux
            pass
        return 0


class WarmPool:
    """The warm interpreters of one worker. What they have to say goes to the file `log`."""

    def __init__(self, most: int, idle_exit: float, log: Path, report: Path) -> None:
        self._most = most
        self._idle_exit = idle_exit
        self._log = log
        self._report = report
        self._idle: List[WarmSlot] = []  # the one used last is last
        self._busy: List[WarmSlot] = []
        self._places = 0  # taken by a busy one, or by one that is being started
        self._refusals: Dict[Recipe, Tuple[Stamps, str]] = {}
        self._lock = threading.Lock()
        self._reported: Optional[Tuple[List[int], float]] = None

    @contextmanager
    def take(
        self, recipe: Recipe, leave: int, is_cancelled: Callable[[], bool], patience: float
    ) -> Iterator[Tuple[Optional[WarmSlot], str]]:
        """A warm interpreter for one run; or None and why, as far as a user should know it."""
        slot, why = self._find(recipe)
        if slot is None and not why and self._reserve():
            slot, why = self._start(recipe, leave, is_cancelled, patience)
        try:
            yield slot, why
        finally:
            if slot is not None:
                self._give_back(slot)

    def _find(self, recipe: Recipe) -> Tuple[Optional[WarmSlot], str]:
        files, why = self._refusals.get(recipe, ({}, ""))
        if why and are_as(files):
            return None, why
        while True:
            with self._lock:
                fitting = [slot for slot in self._idle if slot.recipe == recipe]
                if not fitting:
                    return None, ""
                slot = fitting[-1]
                self._idle.remove(slot)
                self._busy.append(slot)
                self._places += 1
            if slot.is_fresh():
                return slot, ""
            with self._lock:
                self._busy.remove(slot)
                self._places -= 1
            _dismiss([slot])

    def _reserve(self) -> bool:
        """A place for a new one, if need be that of the least recently used; False if all work."""
        with self._lock:
            if self._places >= self._most:
                return False
            over = self._places + len(self._idle) + 1 - self._most
            dropped = self._idle[: max(0, over)]
            self._forget(dropped)
            self._places += 1
        _dismiss(dropped)
        return True

    def _start(
        self, recipe: Recipe, leave: int, is_cancelled: Callable[[], bool], patience: float
    ) -> Tuple[Optional[WarmSlot], str]:
        try:
            slot = WarmSlot(self._log, self._report.parent, recipe)
        except OSError as error:  # no more processes, or a venv that is none
            self._leave_place()
            return None, f"{venv_python(recipe.venv)} cannot be started ({error.strerror})"
        why = slot.answer(leave, is_cancelled, min(patience, PRELOAD_WITHIN))
        if why is None:
            with self._lock:
                self._busy.append(slot)
            return slot, ""
        slot.kill()
        with self._lock:
            if why and (slot.has_answered or patience >= PRELOAD_WITHIN):
                self._refusals.pop(recipe, None)
                self._refusals[recipe] = (slot.files, why)
                while len(self._refusals) > MAX_REFUSALS:
                    del self._refusals[next(iter(self._refusals))]
        self._leave_place()
        return None, why

    def _leave_place(self) -> None:
        with self._lock:
            self._places -= 1

    def _give_back(self, slot: WarmSlot) -> None:
        slot.last_used = time.monotonic()
        reusable = not slot.has_run and slot.is_alive()
        with self._lock:
            self._busy.remove(slot)
            self._places -= 1
            if reusable:
                self._idle.append(slot)
        if not reusable:
            slot.close()

    def _forget(self, slots: List[WarmSlot]) -> None:
        for slot in slots:
            self._idle.remove(slot)

    def tend(self) -> None:
        """Drops what was idle too long or has changed on disk, and reports; cheap if none is."""
        now = time.monotonic()
        with self._lock:
            pids = [slot.pid for slot in [*self._idle, *self._busy]]
            told, at = self._reported or (None, 0.0)
            if pids == told and (now < at + REPORT_EVERY or not pids):
                return
            old = [
                slot
                for slot in self._idle
                if not slot.is_fresh() or 0 < self._idle_exit < now - slot.last_used
            ]
            self._forget(old)
            left = [*self._idle, *self._busy]
        _dismiss(old)
        self._write([slot for slot in left if slot.is_alive()])
        self._reported = ([slot.pid for slot in left], now)

    def _write(self, slots: List[WarmSlot]) -> None:
        """Atomically, so that the web process reads the old figures or the new."""
        figures = [
            {"pid": slot.pid, "venv": slot.recipe.venv, "memoryBytes": slot.memory()}
            for slot in slots
        ]
        new = self._report.with_suffix(".tmp")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(figures, file)
            new.replace(self._report)
        except OSError:  # a full disk: figures are no promise
            pass

    def close(self) -> None:
        """Lets all go; one that has a run leaves after it."""
        with self._lock:
            idle, self._idle = self._idle, []
        _dismiss(idle)
        self._write([])


def venv_files(venv: str) -> List[str]:
    """What changes when a venv is made anew, or something is installed into it."""
    packages = Path(venv).glob("lib*/python*/site-packages")
    return [os.path.join(venv, "pyvenv.cfg"), venv_python(venv), *map(str, packages)]


def stamps(paths: List[str]) -> Stamps:
    return {path: _stamp(path) for path in paths}


def are_as(files: Stamps) -> bool:
    """Whether files are as they were."""
    return all(_stamp(path) == was for path, was in files.items())


def _stamp(path: str) -> Optional[List[int]]:
    try:
        return stamp(os.stat(path))
    except OSError:  # gone, which is a change too
        return None


def _dismiss(slots: List[WarmSlot]) -> None:
    for slot in slots:
        slot.close()
    for slot in slots:
        slot.reap()
