"""Submit: a request becomes a stored job, or is refused with a pointer to each wrong field.

An accepted job is durable, and one idempotency key makes one job. Requests that arrive together are
checked one by one, stored in one transaction, and the worker is woken up once; an error in one does
not affect the others. What a request leaves out comes from the settings, `warm` and `preload` from
the header of the script.
"""

import os
import shutil
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from robotni import log
from robotni.engine.preflight import JobPaths, Preflight
from robotni.errors import FieldError, InvalidRequest, StorageFull
from robotni.jobs import script_header
from robotni.jobs.models import Job, new_job_id
from robotni.jobs.request import PYTHON_SCRIPT, JobRequest
from robotni.jobs.script_header import WarmOptions
from robotni.jobs.states import PENDING, SCHEDULED
from robotni.settings import Settings
from robotni.storage.store import Store
from robotni.system import files
from robotni.workers import Registry, WorkerType

DISK_RESERVE = 16 << 20  # bytes that stay free, so that running jobs can write how they ended
_COPIED_BY_RETRY = (
    "type", "project", "script", "module", "venv", "args", "params", "cwd", "env", "timeout",
    "expires", "max_attempts", "name", "stdin", "retry_delay", "warm", "preload",
)  # fmt: skip


class SubmitRequest(NamedTuple):
    """One submit. `request` parses the body, or raises InvalidRequest. When an earlier job has the
    same idempotency key it is not called, and `digest` tells whether the bodies are the same."""

    request: Callable[[], JobRequest]
    key: Optional[str] = None
    digest: Callable[[], str] = lambda: ""


class Submitted(NamedTuple):
    """The stored job; `replayed` when an earlier submit with the same idempotency key made it."""

    job: Job
    replayed: bool


SubmitResult = Union[Submitted, Exception]


def unwrap(result: SubmitResult) -> Submitted:
    """The result, or raises it if it is an error."""
    if isinstance(result, Exception):
        raise result
    return result


class Submitter:
    """Checks requests and stores jobs. `notify` wakes up a worker; `clock` returns the time in
    seconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        registry: Registry,
        notify: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._preflight = Preflight(settings.project_folder, settings.script_roots)
        self._notify = notify
        self._clock = clock

    def submit(self, requests: Sequence[SubmitRequest]) -> List[SubmitResult]:
        """The result of each request, in their order."""
        prepared = [_result_of(self._prepare, request) for request in requests]
        stored = iter(self._store_all([one for one in prepared if isinstance(one, Job)]))
        return [next(stored) if isinstance(one, Job) else one for one in prepared]

    def resubmit(self, old: Job) -> Submitted:
        """A new job from the request of `old`, if that request would be accepted now."""
        self._preflight.check(JobPaths(old.script, old.module, old.venv, old.cwd))
        now = self._clock()
        job = Job(
            job_id=new_job_id(now),
            timestamp=now,
            retry_of=old.job_id,
            **{name: getattr(old, name) for name in _COPIED_BY_RETRY},
            **_initial_state(now, None),
        )
        return unwrap(self._store_all([job])[0])

    def check_disk(self) -> None:
        """Raises StorageFull when less than DISK_RESERVE is free."""
        folder = self._settings.data_dir
        if shutil.disk_usage(folder).free < DISK_RESERVE:
            raise StorageFull(f"the disk with {folder} is nearly full; make room and try again")

    def _prepare(self, request: SubmitRequest) -> Union[Job, Submitted]:
        """The job to store, or the result of an earlier submit with the same key."""
        digest = None
        if request.key is not None:
            digest = request.digest()
            earlier = self._store.by_key(request.key)
            if earlier is not None:
                return _replayed(earlier, digest)
        return self._build_job(request.request(), request.key, digest)

    def _store_all(self, jobs: Sequence[Job]) -> List[SubmitResult]:
        if not jobs:
            return []
        try:
            self.check_disk()
            inserted = self._store.insert_all(jobs, self._settings.max_pending)
        except StorageFull as error:
            return [error for _ in jobs]
        results = [_result_of(_submitted, job, result) for job, result in zip(jobs, inserted)]
        new = [one.job for one in results if isinstance(one, Submitted) and not one.replayed]
        if any(job.status == PENDING for job in new):
            self._notify()
        for job in new:
            log.submitted(job.job_id, job.type, job.status)
        return results

    def _build_job(self, request: JobRequest, key: Optional[str], digest: Optional[str]) -> Job:
        now = self._clock()
        worker_type = self._registry.get(request.type)
        paths = self._resolve_paths(request, worker_type)
        worker_type.check_params(request.params)
        self._preflight.check(paths)
        warm = _warm_options(request, paths.script)
        return Job(
            job_id=new_job_id(now),
            type=request.type,
            project=request.project,
            timestamp=now,
            **paths._asdict(),
            args=request.args,
            params=request.params,
            env=request.env,
            stdin=request.stdin,
            timeout=self._timeout(request),
            warm=warm.warm,
            preload=warm.preload,
            expires=request.expires or self._settings.expires or None,
            max_attempts=request.retries + 1,
            retry_delay=request.retry_delay,
            name=os.path.basename(paths.script or "") or paths.module or request.type,
            idempotency_key=key,
            request_digest=digest,
            **_initial_state(now, request.due_at(now)),
        )

    def _resolve_paths(self, request: JobRequest, worker_type: WorkerType) -> JobPaths:
        errors = []
        if request.type == PYTHON_SCRIPT:
            if (request.script is None) == (request.module is None):
                errors.append(FieldError("/script", "give either a script or a module"))
            if request.venv is None:
                detail = "the virtual environment is missing; give its folder, such as .venv"
                errors.append(FieldError("/venv", detail))
        else:
            errors = [
                FieldError(f"/{name}", f"type {worker_type.type} takes no {name}; leave it out")
                for name in ("script", "module", "venv", "args", "stdin", "warm", "preload")
                if getattr(request, name)
            ]
        if errors:
            raise InvalidRequest(errors)
        return self._preflight.resolve(request.script, request.module, request.venv, request.cwd)

    def _timeout(self, request: JobRequest) -> float:
        timeout = request.timeout if request.timeout is not None else self._settings.timeout
        limit = self._settings.max_timeout
        if timeout <= limit:
            return timeout
        detail = (
            f"{timeout:.12g} s is longer than allowed; ask for at most {limit:.12g} s, or raise "
            "ROBOTNI_MAX_TIMEOUT"
        )
        raise InvalidRequest([FieldError("/timeout", detail)])


def _submitted(job: Job, inserted: Union[Job, Exception, None]) -> Submitted:
    """The result for `job`; `inserted` is the earlier job with the same key, or the error."""
    if isinstance(inserted, Exception):
        raise inserted
    return Submitted(job, False) if inserted is None else _replayed(inserted, job.request_digest)


def _replayed(job: Job, digest: Optional[str]) -> Submitted:
    if job.request_digest != digest:
        raise InvalidRequest(
            [], "this Idempotency-Key was used with another body; use a new key for a new job"
        )
    return Submitted(job, True)


def _warm_options(request: JobRequest, script: Optional[str]) -> WarmOptions:
    """Those of the request; what it leaves out is taken from the script's header."""
    header = WarmOptions(False, [])
    if script is not None:
        source = files.try_read_start(script, script_header.MAX_HEADER) or b""
        header = script_header.parse_warm_options(source.decode("utf-8", "replace"))
    warm = header.warm if request.warm is None else request.warm
    preload = header.preload if request.preload is None else request.preload
    if request.preload and not warm:
        raise InvalidRequest(
            [FieldError("/preload", "only a warm run preloads modules; add warm: true")]
        )
    return WarmOptions(warm, preload if warm else [])


def _initial_state(now: float, run_at: Optional[float]) -> Dict[str, Any]:
    if run_at is not None and run_at > now:
        return {"status": SCHEDULED, "run_at": run_at}
    return {"status": PENDING, "run_at": run_at, "pending_since": now if run_at is None else run_at}


def _result_of(function: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the exception that it raises, whatever that is: an error in one
    request must not fail the others."""
    try:
        return function(*args)
    except Exception as error:
        return error
