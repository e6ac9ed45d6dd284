"""The intake: how a request becomes a job, or is refused with a pointer to what is wrong.

Nothing is stored here. Where the request is silent, the settings decide, and of a warm run the
script's own header.
"""

import os
from typing import Any, Dict, Optional

from robotni import header
from robotni.errors import FieldError, InvalidRequest
from robotni.header import Warmth
from robotni.job import PENDING, SCHEDULED, Job, new_job_id
from robotni.preflight import Place, Preflight
from robotni.request import PYTHON_SCRIPT, JobRequest
from robotni.settings import Settings
from robotni.workers import Registry, WorkerType

_COPIED = (
    "type", "project", "script", "module", "venv", "args", "params", "cwd", "env", "timeout",
    "expires", "max_attempts", "name", "stdin", "retry_delay",
    "warm", "preload",
)  # fmt: skip


class Intake:
    """Of one server: its settings, its roots, its worker types."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._preflight = Preflight(settings.project_folder, settings.script_roots)

    def job(
        self,
        request: JobRequest,
        now: float,
        key: Optional[str] = None,
        digest: Optional[str] = None,
    ) -> Job:
        """The job that `request` asks for, checked; InvalidRequest says what is wrong."""
        worker_type = self._registry.get(request.type)
        place = self._place(request, worker_type)
        worker_type.check(request.params)
        self._preflight.check(place)
        warmth = _warmth(request, place)
        return Job(
            job_id=new_job_id(now),
            type=request.type,
            project=request.project,
            timestamp=now,
            **place._asdict(),
            args=request.args,
            params=request.params,
            env=request.env,
            stdin=request.stdin,
            timeout=self._timeout(request),
            warm=warmth.warm,
            preload=warmth.preload,
            expires=request.expires or self._settings.expires or None,
            max_attempts=request.retries + 1,
            retry_delay=request.retry_delay,
            name=os.path.basename(place.script or "") or place.module or request.type,
            idempotency_key=key,
            request_digest=digest,
            **_when(now, request.due_at(now)),
        )

    def again(self, old: Job, now: float) -> Job:
        """A new job from the request of an ended one, if that could be made now."""
        self._preflight.check(Place(old.script, old.module, old.venv, old.cwd))
        return Job(
            job_id=new_job_id(now),
            timestamp=now,
            retry_of=old.job_id,
            **{name: getattr(old, name) for name in _COPIED},
            **_when(now, None),
        )

    def _place(self, request: JobRequest, worker_type: WorkerType) -> Place:
        if request.type == PYTHON_SCRIPT:
            faults = []
            if (request.script is None) == (request.module is None):
                faults.append(FieldError("/script", "give a script or a module, one of the two"))
            if request.venv is None:
                faults.append(
                    FieldError(
                        "/venv",
                        "the virtual environment is missing; give its folder, such as .venv",
                    )
                )
        else:
            faults = [
                FieldError(f"/{name}", f"type {worker_type.type} takes no {name}; leave it out")
                for name in ("script", "module", "venv", "args", "stdin", "warm", "preload")
                if getattr(request, name)
            ]
        if faults:
            raise InvalidRequest(faults)
        return self._preflight.resolve(request.script, request.module, request.venv, request.cwd)

    def _timeout(self, request: JobRequest) -> float:
        timeout = request.timeout if request.timeout is not None else self._settings.timeout
        most = self._settings.max_timeout
        if timeout <= most:
            return timeout
        detail = (
            f"{timeout:.12g} s is over the longest allowed; ask for at most {most:.12g}, "
            "or raise ROBOTNI_MAX_TIMEOUT"
        )
        raise InvalidRequest([FieldError("/timeout", detail)])


def _warmth(request: JobRequest, place: Place) -> Warmth:
    """As the request says; where it is silent, as the script's header does."""
    said = header.warmth(place.script) if place.script else Warmth(False, [])
    warm = said.warm if request.warm is None else request.warm
    preload = said.preload if request.preload is None else request.preload
    if request.preload and not warm:
        raise InvalidRequest(
            [FieldError("/preload", "only a warm run has modules to preload; add warm: true")]
        )
    return Warmth(warm, preload if warm else [])


def _when(now: float, run_at: Optional[float]) -> Dict[str, Any]:
    if run_at is not None and run_at > now:
        return {"status": SCHEDULED, "run_at": run_at}
    return {"status": PENDING, "run_at": run_at, "pending_since": now if run_at is None else run_at}
