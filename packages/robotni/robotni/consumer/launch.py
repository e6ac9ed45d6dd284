"""What a shim is told of a run, and which warm interpreter may fork it."""

import os
import sys
from fnmatch import fnmatchcase
from typing import Any, Dict, List, Mapping, Sequence

from robotni.consumer.warm_pool import Recipe
from robotni.engine.preflight import venv_python
from robotni.jobs.models import Job
from robotni.jobs.request import params_as_flags
from robotni.settings import Settings
from robotni.storage.run_files import RunFiles
from robotni.system.datadir import DataDir
from robotni.workers import Registry

_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "SSL_CERT_FILE",
    "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_NEVER_PASSED = ("ROBOTNI_*", "LD_*", "PYTHON*")
_AT_START = ("HOME", "LANG", "LC_*", "OMP_*", "OPENBLAS_*", "MKL_*")
_FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"


class LaunchSpecs:
    """Makes orders. `server` is the environment scripts see part of."""

    def __init__(self, settings: Settings, datadir: DataDir, server: Mapping[str, str]) -> None:
        self._settings = settings
        self._jobs = str(datadir.jobs)
        self._server = passed(server, settings.pass_env)
        self._registry = Registry()

    def build(self, job: Job, run_files: RunFiles) -> Dict[str, Any]:
        settings = self._settings
        return {
            "folder": run_files.folder,
            "jobs": self._jobs,
            "argv": command_line(job, str(self._registry.get(job.type).script)),
            "cwd": job.cwd,
            "env": environment(job, run_files, self._server, settings.url),
            "stdin": job.stdin,
            "timeout": job.timeout,
            "grace": settings.kill_grace,
            "maxOutput": settings.max_output,
            "tellEnd": True,
            "mark": run_files.mark,
        }


def recipe(job: Job, order: Dict[str, Any]) -> Recipe:
    """The interpreter a warm job is forked from."""
    environ = tuple(at_start(order["env"], job.env).items())
    return Recipe(job.venv or "", tuple(job.preload), environ)


def command_line(job: Job, type_script: str) -> List[str]:
    """The argv of a job; `type_script` is what a job of another type than python-script runs."""
    python = venv_python(job.venv) if job.venv else sys.executable
    what = [job.script or type_script] if job.module is None else ["-m", job.module]
    return [python, *what, *job.args, *params_as_flags(job.params)]


def passed(server: Mapping[str, str], pass_env: Sequence[str]) -> Dict[str, str]:
    """What scripts see of the server's own variables."""
    globs = (*_PASSED, *pass_env)
    return {
        name: value
        for name, value in server.items()
        if _matches(name, globs) and not _matches(name, _NEVER_PASSED)
    }


def environment(
    job: Job, run_files: RunFiles, server: Mapping[str, str], url: str
) -> Dict[str, str]:
    """The variables of a run: those `passed` on from the server, the request's, robotni's own."""
    env = {**server, **job.env}
    venv = job.venv or sys.prefix
    env.update(
        VIRTUAL_ENV=venv,
        PATH=os.pathsep.join([os.path.join(venv, "bin"), env.get("PATH") or _FALLBACK_PATH]),
        PYTHONUNBUFFERED="1",
        ROBOTNI_JOB_ID=job.job_id,
        ROBOTNI_PROJECT=job.project,
        ROBOTNI_ATTEMPT=str(job.attempt),
        ROBOTNI_JOB_URL=f"{url}/api/worker/jobs/{job.job_id}",
        ROBOTNI_RESULT=run_files.result,
        ROBOTNI_PROGRESS=run_files.progress,
    )
    return env


def at_start(env: Mapping[str, str], requested: Mapping[str, str]) -> Dict[str, str]:
    """What of a run's variables a warm interpreter is started with, for it and for others.

    Of those that are the run's alone, only what an interpreter, or numpy, asks for at its start.
    """
    return {
        name: value
        for name, value in env.items()
        if not name.startswith("ROBOTNI_") and (name not in requested or _matches(name, _AT_START))
    }


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
