"""Preflight: whether what a job names is there and may be run. Asked at POST and again at launch.

Paths cannot leave `SCRIPT_ROOTS`, neither as written nor by any link. What lies outside is never
looked at, so the answer is the same whether or not it exists. A venv's `bin/python` is never
resolved, since the link is the venv.
"""

import os
import shlex
import stat
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from robotni.errors import FieldError, InvalidRequest
from robotni.system import files

MAX_CONFIG = 65536  # bytes of a venv's configuration that are read
MAX_LINKS = 64  # the kernel follows 40, so what has more leads nowhere


class JobPaths(NamedTuple):
    """Where a job runs: absolute paths. `venv` is None for robotni's own interpreter."""

    script: Optional[str]
    module: Optional[str]
    venv: Optional[str]
    cwd: str


class Preflight:
    """Checks places against the project folder and the roots."""

    def __init__(self, project_folder: Path, roots: Tuple[Path, ...]) -> None:
        self._folder = str(project_folder)
        self._given = [str(root) for root in roots]
        resolved = {root: os.path.realpath(root) for root in self._given}
        self._roots = {**resolved, **{real: real for real in resolved.values()}}
        self._below = [(root, root.rstrip("/") + "/") for root in self._roots]

    def resolve(
        self, script: Optional[str], module: Optional[str], venv: Optional[str], cwd: Optional[str]
    ) -> JobPaths:
        """The place a request names, with relative paths taken from the project folder."""
        return JobPaths(
            self._absolute(script), module, self._absolute(venv), self._absolute(cwd or ".") or ""
        )

    def _absolute(self, path: Optional[str]) -> Optional[str]:
        return None if path is None else os.path.normpath(os.path.join(self._folder, path))

    def check(self, place: JobPaths) -> None:
        """Raises InvalidRequest, with all that is wrong; takes well under a millisecond."""
        faults: Dict[str, Optional[str]] = {"/cwd": self._check_cwd(place.cwd)}
        if place.script is not None:
            faults["/script"] = self._check_script(place.script)
        if place.module is not None and faults["/cwd"] is None:
            faults["/module"] = self._check_module(place.module, place.cwd)
        if place.venv is not None:
            faults["/venv"] = self._check_venv(place.venv)
        errors: List[FieldError] = [FieldError(p, d) for p, d in faults.items() if d is not None]
        if errors:
            raise InvalidRequest(errors)

    def _outside(self, path: str, links: int = MAX_LINKS) -> Optional[str]:
        """Where `path` leaves the roots, as written or by a link; None when it stays inside.

        One link at a time: `realpath` goes on looking outside, and the answer would tell of it.
        """
        root = self._root_of(path)
        if root is None:
            return os.path.normpath(path)
        here, names = self._roots[root], path[len(root) :].split("/")
        while names and links:
            here = _step(here, names.pop(0))
            if self._root_of(here) is None:
                return os.path.normpath(os.path.join(here, *names))
            target = _link(here)
            if target is not None:
                ahead = os.path.join(os.path.dirname(here), target, *names)
                return self._outside(ahead, links - 1)
        return None

    def _root_of(self, path: str) -> Optional[str]:
        for root, below in self._below:
            if path == root or path.startswith(below):
                return root
        return None

    def _roots_hint(self, path: str, root: str) -> str:
        roots = shlex.quote(":".join([*self._given, root]))
        return (
            f"{path} is outside the folders scripts may run from; move it inside, or "
            f"start the server with ROBOTNI_SCRIPT_ROOTS={roots}"
        )

    def _check_script(self, path: str) -> Optional[str]:
        outside = self._outside(path)
        if outside is not None:
            return self._roots_hint(path, os.path.dirname(outside))
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return f"{path} does not exist; give the path of a Python script"
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            return f"{path} is {kind}; give the path of a Python script"
        if not os.access(path, os.R_OK):
            return f"{path} cannot be read by the server's user; allow it with chmod u+r"
        return None

    def _check_cwd(self, path: str) -> Optional[str]:
        """The project folder will do, inside the roots or not: whoever serves has chosen it."""
        outside = None if path == self._folder else self._outside(path)
        if outside is not None:
            return self._roots_hint(path, outside)
        if not os.path.isdir(path):
            return f"{path} is no folder; create it, or leave cwd out for the project folder"
        if not os.access(path, os.X_OK):
            return f"{path} cannot be entered by the server's user; allow it with chmod u+x"
        return None

    def _check_module(self, module: str, cwd: str) -> Optional[str]:
        stem = os.path.join(cwd, *module.split("."))
        candidates = (f"{stem}.py", os.path.join(stem, "__main__.py"))
        for candidate in candidates:
            outside = self._outside(candidate)
            if outside is not None:
                return self._roots_hint(candidate, os.path.dirname(outside))
        if any(map(os.path.isfile, candidates)):
            return None
        where = os.path.relpath(f"{stem}.py", cwd)
        return (
            f"module {module} is not under {cwd} (neither {where} nor a package with a "
            "__main__.py); set cwd to the folder that holds it"
        )

    def _check_venv(self, venv: str) -> Optional[str]:
        outside = self._outside(venv)
        if outside is not None:
            return self._roots_hint(venv, outside)
        return venv_problem(venv)


def venv_problem(venv: str) -> Optional[str]:
    """What keeps `venv` from running anything, with how to mend it; None when nothing does."""
    config = files.try_read_start(f"{venv}/pyvenv.cfg", MAX_CONFIG)
    if config is None:
        return f"{venv} {_no_venv(venv)} with: python3 -m venv {shlex.quote(venv)}"
    fault = _fault_of_python(venv, config.decode("utf-8", "replace"))
    if fault is not None:
        return f"{fault}; recreate it with: python3 -m venv --clear {shlex.quote(venv)}"
    return None


def _no_venv(venv: str) -> str:
    if not os.path.lexists(venv):
        return "does not exist; create a virtual environment"
    if not os.path.isdir(venv):
        return "is no folder; create a virtual environment"
    there = os.path.lexists(os.path.join(venv, "pyvenv.cfg"))
    return f"is no virtual environment (no {'readable ' if there else ''}pyvenv.cfg); create one"


def _fault_of_python(venv: str, config: str) -> Optional[str]:
    python = venv_python(venv)
    if not os.path.isfile(python):
        if os.path.exists(python):
            return f"{python} cannot be run"
        gone = _base_of(python)
        return f"{venv} {f'points at {gone}, which is gone' if gone else 'has no bin/python'}"
    if not os.access(python, os.X_OK):
        return f"{python} cannot be run"
    home = _home_in(config)
    if home and not os.path.isdir(home):
        return f"{venv} is built on a Python in {home}, which is gone"
    return None


def _home_in(config: str) -> str:
    """The folder of the interpreter a venv was made with, empty when that is not said."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "home":
            return value.strip()
    return ""


def _step(here: str, name: str) -> str:
    """`here` and a name in it; most names are plain, and to join those costs a tenth."""
    if name in ("", "."):
        return here
    if name == "..":
        return os.path.normpath(os.path.join(here, name))
    return f"{here.rstrip('/')}/{name}"


def _link(path: str) -> Optional[str]:
    try:
        return os.readlink(path)
    except OSError:  # no link, or nothing at all
        return None


def venv_python(venv: str) -> str:
    """The interpreter of a venv: the link itself, never what it points at."""
    return f"{venv}/bin/python"


def _base_of(python: str) -> Optional[str]:
    """The end of the chain of links that starts at `python`, for a sentence only."""
    return os.path.basename(os.path.realpath(python)) if os.path.islink(python) else None
