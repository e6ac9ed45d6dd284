"""Submissions: how what clients want becomes jobs in the store, several of them at once.

It promises that an accepted job is durable, that one key makes one job, and that nobody's fault
touches another's submit. What is wanted at the same moment is checked one after the other, stored
in one transaction, with one wait for the disk, and rung for once.
"""

import shutil
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Union

from robotni import events
from robotni.errors import InvalidRequest, StorageFull
from robotni.intake import Intake
from robotni.job import PENDING, Job
from robotni.request import JobRequest
from robotni.settings import Settings
from robotni.store import Store

DISK_FLOOR = 16 << 20  # bytes that stay free, so that running jobs can end in order


class Wanted(NamedTuple):
    """A submit. `request` gives what it asks for, or raises, as it may not be checked yet; `digest`
    tells one body from another under the same idempotency key."""

    request: Callable[[], JobRequest]
    key: Optional[str] = None
    digest: Callable[[], str] = str


class Submitted(NamedTuple):
    """`replayed`: an earlier submit with the same key has made the job."""

    job: Job
    replayed: bool


Outcome = Union[Submitted, Exception]


def result(outcome: Outcome) -> Submitted:
    """Raises it, if it is an error."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Submissions:
    """Of one server. `ring` wakes a worker; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        jobs: Path,
        intake: Intake,
        ring: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._most = settings.max_pending
        self._store = store
        self._jobs = jobs
        self._intake = intake
        self._ring = ring
        self._clock = clock

    def submit(self, wanted: Sequence[Wanted]) -> List[Outcome]:
        """What came of each, in their order."""
        found = [_tried(self._prepared, one) for one in wanted]
        stored = iter(self._store_all([one for one in found if isinstance(one, Job)]))
        return [next(stored) if isinstance(one, Job) else one for one in found]

    def again(self, old: Job) -> Outcome:
        """A new job from the request of an ended one."""
        return self._store_all([self._intake.again(old, self._clock())])[0]

    def check_room(self) -> None:
        """StorageFull when the disk is nearly full."""
        try:
            usage = shutil.disk_usage(self._jobs)
        except FileNotFoundError:  # somebody has removed it; the next run makes it anew
            usage = shutil.disk_usage(self._jobs.parent)
        if usage.free < DISK_FLOOR:
            raise StorageFull(
                f"the disk with {self._jobs.parent} is nearly full; make room and try again"
            )

    def _prepared(self, wanted: Wanted) -> Union[Job, Submitted]:
        """The job to store, or that of an earlier submit with the same key."""
        if wanted.key is None:
            return self._intake.job(wanted.request(), self._clock())
        digest = wanted.digest()
        earlier = self._store.by_key(wanted.key)
        if earlier is not None:
            return _replayed(earlier, digest)
        return self._intake.job(wanted.request(), self._clock(), wanted.key, digest)

    def _store_all(self, jobs: Sequence[Job]) -> List[Outcome]:
        if not jobs:
            return []
        try:
            self.check_room()
        except StorageFull as full:
            return [full for _ in jobs]
        earlier = self._store.insert_all(jobs, self._most)
        outcomes = [_tried(self._stored, job, found) for job, found in zip(jobs, earlier)]
        stored = [o for o in outcomes if isinstance(o, Submitted)]
        if any(one.job.status == PENDING for one in stored):
            self._ring()  # first of all, as a worker waits for it
        for one in stored:
            if not one.replayed:
                events.submitted(one.job)
        return outcomes

    def _stored(self, job: Job, earlier: Callable[[], Optional[Job]]) -> Submitted:
        first = earlier()
        if first is not None:
            return _replayed(first, job.request_digest or "")
        return Submitted(job, False)


def _replayed(job: Job, digest: str) -> Submitted:
    if job.request_digest != digest:
        raise InvalidRequest(
            [],
            "this Idempotency-Key was used with another body; take a new key for a new job",
        )
    return Submitted(job, True)


def _tried(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the exception that it raises."""
    try:
        return call(*args)
    except Exception as error:
        return error
