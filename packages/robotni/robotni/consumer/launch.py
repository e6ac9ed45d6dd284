"""The launch spec: what a shim is told of a run, and the clean environment that a script sees."""

import os
import sys
from fnmatch import fnmatchcase
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from robotni.engine.preflight import venv_python
from robotni.jobs.models import Job
from robotni.jobs.request import params_as_flags
from robotni.settings import Settings
from robotni.storage.run_files import RunFiles
from robotni.system.datadir import DataDir
from robotni.system.server_address import address
from robotni.workers import Registry

_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "SSL_CERT_FILE",
    "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_NEVER_PASSED = ("ROBOTNI_*",)
_PASSED_BY_NAME = ("LD_*", "PYTHON*")  # they decide which code runs: no glob passes them
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


class Recipe(NamedTuple):
    """What a standby interpreter is made from; runs with an equal recipe may use it."""

    python: str
    preload: Tuple[str, ...]
    cwd: str
    env: Tuple[Tuple[str, str], ...]

    def message(self) -> Dict[str, Any]:
        return {"standby": {**self._asdict(), "env": dict(self.env)}}


class LaunchSpecs:
    """Builds the launch specs of one worker. `server_environ` is what scripts see a part of."""

    def __init__(
        self, settings: Settings, datadir: DataDir, server_environ: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._datadir = datadir
        self._jobs_folder = str(datadir.jobs)
        self._passed = passed(server_environ, settings.pass_env)
        self._registry = Registry()

    def build(self, job: Job, run_files: RunFiles) -> Dict[str, Any]:
        url = address(self._datadir) or self._settings.url  # the worker may outlive its server
        return {
            "folder": run_files.folder,
            "jobs": self._jobs_folder,
            "argv": command_line(job, str(self._registry.get(job.type).script)),
            "cwd": job.cwd,
            "env": environment(job, run_files, self._passed, url),
            "stdin": job.stdin,
            "timeout": job.timeout,
            "grace": self._settings.kill_grace,
            "maxOutput": self._settings.max_output,
            "mark": run_files.mark,
        }


def recipe(job: Job, spec: Mapping[str, Any]) -> Optional[Recipe]:
    """The recipe of a warm job's standby interpreter; None for a cold job."""
    if not job.warm:
        return None
    env = {n: v for n, v in spec["env"].items() if not n.startswith("ROBOTNI_")}
    return Recipe(spec["argv"][0], tuple(job.preload), job.cwd, tuple(env.items()))


def command_line(job: Job, type_script: str) -> List[str]:
    """The argv of a job; `type_script` is what a job of another type than python-script runs."""
    python = venv_python(job.venv) if job.venv else sys.executable
    what = [job.script or type_script] if job.module is None else ["-m", job.module]
    return [python, *what, *job.args, *params_as_flags(job.params)]


def passed(server_environ: Mapping[str, str], pass_env: Sequence[str]) -> Dict[str, str]:
    """The part of the server's variables that scripts see."""
    globs = (*_PASSED, *pass_env)

    def is_passed(name: str) -> bool:
        if _matches(name, _NEVER_PASSED):
            return False
        return name in pass_env if _matches(name, _PASSED_BY_NAME) else _matches(name, globs)

    return {name: value for name, value in server_environ.items() if is_passed(name)}


def environment(
    job: Job, run_files: RunFiles, server_environ: Mapping[str, str], url: str
) -> Dict[str, str]:
    """The variables of a run: those passed on from the server, the request's, robotni's own."""
    env = {**server_environ, **job.env}
    venv = job.venv or sys.prefix
    env.update(
        VIRTUAL_ENV=venv,
        PATH=os.pathsep.join([os.path.join(venv, "bin"), env.get("PATH") or _DEFAULT_PATH]),
        PYTHONUNBUFFERED="1",
        ROBOTNI_JOB_ID=job.job_id,
        ROBOTNI_PROJECT=job.project,
        ROBOTNI_ATTEMPT=str(job.attempt),
        ROBOTNI_JOB_URL=f"{url}/api/worker/jobs/{job.job_id}",
        ROBOTNI_RESULT=run_files.result,
        ROBOTNI_PROGRESS=run_files.progress,
    )
    return env


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
