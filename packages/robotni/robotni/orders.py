"""What a shim is told of a run, and which warm interpreter may fork it."""

from typing import Any, Dict, Mapping

from robotni.datadir import DataDir
from robotni.environment import at_start, command_line, environment, passed
from robotni.interpreters import Recipe
from robotni.job import Job
from robotni.rundir import RunDir
from robotni.settings import Settings
from robotni.workers import Registry


class Orders:
    """Makes orders. `server` is the environment scripts see part of."""

    def __init__(self, settings: Settings, datadir: DataDir, server: Mapping[str, str]) -> None:
        self._settings = settings
        self._jobs = str(datadir.jobs)
        self._server = passed(server, settings.pass_env)
        self._registry = Registry()

    def order(self, job: Job, rundir: RunDir) -> Dict[str, Any]:
        settings = self._settings
        return {
            "folder": rundir.folder,
            "jobs": self._jobs,
            "argv": command_line(job, str(self._registry.get(job.type).script)),
            "cwd": job.cwd,
            "env": environment(job, rundir, self._server, settings.url),
            "stdin": job.stdin,
            "timeout": job.timeout,
            "grace": settings.kill_grace,
            "maxOutput": settings.max_output,
            "tellEnd": True,
            "mark": rundir.mark,
        }


def recipe(job: Job, order: Dict[str, Any]) -> Recipe:
    """The interpreter a warm job is forked from."""
    environ = tuple(at_start(order["env"], job.env).items())
    return Recipe(job.venv or "", tuple(job.preload), environ)
