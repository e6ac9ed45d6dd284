"""Preflight: whether the files that a job names exist and may be used.

It is asked at the submit, and again at the launch. No path may leave `SCRIPT_ROOTS`, neither as it
is written nor through a link. What lies outside is never looked at, so the answer is the same
whether or not it exists. A venv's `bin/python` is never resolved: it is a link, and its target is
not the interpreter of the venv. Each problem reads "what is wrong; what to do". OSError means that
the machine cannot tell (no descriptors, a broken disk).
"""

import errno
import os
import re
import shlex
import stat
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from robotni.errors import FieldError, InvalidRequest
from robotni.system import files

MAX_CONFIG = 65536  # bytes of pyvenv.cfg that are read
# Names in a virtual environment that venv, virtualenv, uv and pip make.
_VENV_NAMES = frozenset(
    ("bin", "include", "lib", "lib64", "share", "etc", "man", "src", "pyvenv.cfg", "CACHEDIR.TAG",
     ".gitignore", ".lock", ".DS_Store")
)  # fmt: skip
_INTERPRETER = re.compile(r"(python|pypy|graalpy)(\d+(\.\d+)?)?\Z", re.ASCII)
MAX_LINKS = 64  # the kernel follows 40; a path with more of them leads nowhere


class JobPaths(NamedTuple):
    """What a job runs and where, as absolute paths; a `venv` of None is robotni's interpreter."""

    script: Optional[str]
    module: Optional[str]
    venv: Optional[str]
    cwd: str


class Preflight:
    """Checks the paths of jobs against the project folder and the script roots."""

    def __init__(self, project_folder: Path, roots: Tuple[Path, ...]) -> None:
        self._project_folder = str(project_folder)
        self._given_roots = [str(root) for root in roots]
        resolved = {root: os.path.realpath(root) for root in self._given_roots}
        # A root may be given by a link: a path is inside by either name.
        self._roots = {**resolved, **{real: real for real in resolved.values()}}

    def resolve(
        self, script: Optional[str], module: Optional[str], venv: Optional[str], cwd: Optional[str]
    ) -> JobPaths:
        """Makes the paths of a request absolute; relative ones start at the project folder."""
        return JobPaths(
            self._absolute(script), module, self._absolute(venv), self._absolute(cwd or ".") or ""
        )

    def _absolute(self, path: Optional[str]) -> Optional[str]:
        return None if path is None else os.path.normpath(os.path.join(self._project_folder, path))

    def check(self, paths: JobPaths) -> None:
        """Raises InvalidRequest with all problems. Takes well under a millisecond."""
        problems: Dict[str, Optional[str]] = {"/cwd": self._check_cwd(paths.cwd)}
        if paths.script is not None:
            problems["/script"] = self._check_script(paths.script)
        if paths.module is not None and problems["/cwd"] is None:
            problems["/module"] = self._check_module(paths.module, paths.cwd)
        if paths.venv is not None:
            problems["/venv"] = self._check_venv(paths.venv)
        errors = [FieldError(p, detail) for p, detail in problems.items() if detail is not None]
        if errors:
            raise InvalidRequest(errors)

    def _check_script(self, path: str) -> Optional[str]:
        outside = self._find_outside(path)
        if outside is not None:
            return self._outside_roots(path, os.path.dirname(outside))
        found = files.try_stat(path)
        if found is None:
            return f"{path} does not exist; give the path of a Python script"
        mode = found.st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            return f"{path} is {kind}; give the path of a Python script"
        opened = files.try_open(path)
        if opened is None:
            return f"{path} cannot be read by the server's user; allow it with chmod u+r"
        os.close(opened[0])
        return None

    def _check_cwd(self, path: str) -> Optional[str]:
        """The project folder is allowed also outside the roots, as the operator has chosen it."""
        outside = None if path == self._project_folder else self._find_outside(path)
        if outside is not None:
            return self._outside_roots(path, outside)
        if not files.is_folder(path):
            return f"{path} is not a folder; create it, or leave cwd out for the project folder"
        if not files.is_folder(f"{path}/."):
            return f"{path} cannot be entered by the server's user; allow it with chmod u+x"
        return None

    def _check_module(self, module: str, cwd: str) -> Optional[str]:
        stem = os.path.join(cwd, *module.split("."))
        candidates = (f"{stem}.py", os.path.join(stem, "__main__.py"))
        for candidate in candidates:
            outside = self._find_outside(candidate)
            if outside is not None:
                return self._outside_roots(candidate, os.path.dirname(outside))
        if any(map(files.is_file, candidates)):
            return None
        file = os.path.relpath(f"{stem}.py", cwd)
        return (
            f"module {module} is not below {cwd} (there is neither {file} nor a package with a "
            "__main__.py); set cwd to the folder that holds it"
        )

    def _check_venv(self, venv: str) -> Optional[str]:
        outside = self._find_outside(venv)
        if outside is not None:
            return self._outside_roots(venv, outside)
        if ":" in venv:
            return f"{venv} has a ':' in its path, where PATH is cut; move it to another folder"
        return venv_problem(venv)

    def _find_outside(self, path: str, links: int = MAX_LINKS) -> Optional[str]:
        """The first path outside the roots that `path` leads to, as it is written or through a
        link; None when it stays inside.

        One link is read at a time: `realpath` would go on outside, and the answer would differ with
        what is there.
        """
        root = self._root_of(path)
        if root is None:
            return os.path.normpath(path)
        reached, names = self._roots[root], path[len(root) :].split("/")
        while names and links:
            reached = os.path.normpath(os.path.join(reached, names.pop(0)))
            if self._root_of(reached) is None:
                return os.path.normpath(os.path.join(reached, *names))
            try:
                target = os.readlink(reached)
            except OSError as error:
                if error.errno in (errno.EINVAL, *files.NOT_THERE):  # not a link, or nothing there
                    continue
                raise
            path = os.path.join(os.path.dirname(reached), target, *names)
            return self._find_outside(path, links - 1)
        return None

    def _root_of(self, path: str) -> Optional[str]:
        for root in self._roots:
            if path == root or path.startswith(root.rstrip("/") + "/"):
                return root
        return None

    def _outside_roots(self, path: str, new_root: str) -> str:
        roots = shlex.quote(":".join([*self._given_roots, new_root]))
        return (
            f"{path} is outside the folders scripts may run from; move it inside, or "
            f"start the server with ROBOTNI_SCRIPT_ROOTS={roots}"
        )


def venv_python(venv: str) -> str:
    """The interpreter of a venv: the link itself, not what it points to."""
    return f"{venv}/bin/python"


def venv_problem(venv: str) -> Optional[str]:
    """Why no script can run in `venv`, and what to do about it; None when one can."""
    config = files.try_read_start(f"{venv}/pyvenv.cfg", MAX_CONFIG)
    if config is None:
        return _not_a_venv(venv)
    problem = _python_problem(venv, config.decode("utf-8", "replace"))
    if problem is None:
        return None
    if _holds_other_files(venv):  # `--clear` would delete them
        return f"{problem}; create another with: python3 -m venv ANOTHER_FOLDER, and name that"
    return f"{problem}; recreate it with: python3 -m venv --clear {shlex.quote(venv)}"


def _not_a_venv(venv: str) -> str:
    create = f"python3 -m venv {shlex.quote(venv)}"
    if files.try_stat(venv, follow=False) is None:
        return f"{venv} does not exist; create a virtual environment with: {create}"
    if not files.is_folder(venv):
        return f"{venv} is not a folder; give the folder of a virtual environment"
    config = files.try_stat(f"{venv}/pyvenv.cfg", follow=False)
    readable = "" if config is None else "readable "
    problem = f"{venv} is not a virtual environment (it has no {readable}pyvenv.cfg)"
    python = _interpreter_in(venv)
    if python is not None:  # of another installation, which a venv would damage
        kind = "a conda environment" if files.is_folder(f"{venv}/conda-meta") else "a Python"
        return (
            f"{problem}, but holds {kind} of its own; create a virtual environment from it in "
            f"another folder with: {shlex.quote(python)} -m venv ANOTHER_FOLDER, and name that"
        )
    return f"{problem}; create one with: {create}"


def _interpreter_in(folder: str) -> Optional[str]:
    """The path of a Python that is installed in `folder`, of pyenv, conda or the system."""
    for place in ("bin", "shims"):
        names = [name for name in _names_in(f"{folder}/{place}") if _INTERPRETER.match(name)]
        if names:
            name = "python" if "python" in names else "python3" if "python3" in names else names[0]
            return f"{folder}/{place}/{name}"
    has_meta = files.is_folder(f"{folder}/conda-meta")  # of an environment without Python, too
    return "python3" if has_meta else None


def _holds_other_files(venv: str) -> bool:
    return not _VENV_NAMES.issuperset(_names_in(venv))


def _names_in(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in files.NOT_THERE:
            return []
        raise


def _python_problem(venv: str, config: str) -> Optional[str]:
    python = venv_python(venv)
    found = files.try_stat(python)
    if found is None:
        if os.path.islink(python):
            target = os.path.basename(os.path.realpath(python))
            return f"{venv} links to {target}, which does not exist"
        return f"{venv} has no bin/python"
    if not (stat.S_ISREG(found.st_mode) and found.st_mode & 0o111):
        return f"{python} cannot be run"
    home = _home_in(config)
    if home and not files.is_folder(home):
        return f"{venv} was created by a Python in {home}, which does not exist"
    return None


def _home_in(config: str) -> str:
    """The folder of the interpreter that a venv was created by; empty when pyvenv.cfg has none."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "home":
            return value.strip()
    return ""
