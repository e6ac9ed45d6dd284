"""The calls of a client on a real store: what is stored, what is refused, what is shown."""

import math
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from robotni.errors import Conflict, InvalidRequest, NotFound, QueueFull
from robotni.jobs.models import Job
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.request import JobRequest
from robotni.storage.queries import Filters
from robotni.storage.store import BATCH, Store
from robotni.tests.conftest import House, statements

HELLO: Dict[str, Any] = {"script": "hello.py", "venv": ".venv"}


def submit(house: House, **fields: Any) -> Job:
    return house.engine.submit(JobRequest.model_validate({**HELLO, **fields})).job


def claimed(house: House, **fields: Any) -> Job:
    job = house.claim(submit(house, **fields).job_id)
    assert job is not None
    return job


def test_a_submitted_job_is_stored_and_wakes_up_the_worker(house: House) -> None:
    job = submit(house)
    assert house.store.get(job.job_id) == job
    assert house.executor.reserve_next() == job
    assert house.notifies == 1


def test_relative_paths_start_at_the_project_folder(house: House) -> None:
    job = submit(house)
    assert job.script == str(house.project / "hello.py")
    assert job.venv == str(house.project / ".venv")
    assert job.cwd == str(house.project)


def test_a_delayed_job_is_not_run_until_it_is_due(house: House) -> None:
    job = submit(house, delay=60)
    assert job.status == "scheduled"
    assert house.executor.reserve_next() is None
    house.clock.now += 59.9
    house.maintenance.due()
    assert house.executor.reserve_next() is None
    house.clock.now += 0.2
    house.maintenance.due()
    house.maintenance.due()
    assert house.executor.reserve_next() is not None
    assert house.executor.reserve_next() is None
    assert house.engine.get(job.job_id).status == "pending"


def test_a_job_whose_run_at_is_in_the_past_is_pending(house: House) -> None:
    assert submit(house, runAt="2026-01-01T00:00:00Z").status == "pending"


def test_a_claim_expires_a_job_that_has_waited_too_long(house: House) -> None:
    job = submit(house, expires=60)
    house.clock.now += 61
    assert house.claim(job.job_id) is None
    job = house.engine.get(job.job_id)
    assert job.error is not None
    assert (job.status, job.error.code, job.attempt) == ("failed", "expired", 0)
    assert job.finished_at == house.clock.now


def test_maintenance_expires_jobs_that_have_waited_too_long(house: House) -> None:
    job = submit(house, expires=60)
    house.clock.now += 61
    house.maintenance.expire()
    assert house.engine.get(job.job_id).status == "failed"


def test_jobs_expire_in_batches_and_their_rows_are_not_read_whole(house: House) -> None:
    jobs = [submit(house, expires=60, stdin="large") for _ in range(2 * BATCH + 1)]
    without_expires = submit(house)
    house.maintenance.clean()
    house.clock.now += 61
    executed: List[str] = []
    with statements(house, executed):
        assert house.maintenance.run() == 0
        assert house.engine.counts()["failed"] == BATCH
        assert house.maintenance.run() == 0
        assert house.maintenance.run() > 0
    assert house.engine.counts()["failed"] == len(jobs)
    reads = [sql for sql in executed if sql.startswith("SELECT") and "expires <" in sql]
    assert reads and not [sql for sql in reads if "stdin" in sql]
    assert sum(sql.startswith("COMMIT") for sql in executed) < 20
    assert house.engine.get(without_expires.job_id).status == "pending"


def test_a_submit_beyond_max_pending_is_refused_and_not_stored(
    make_house: Callable[..., House],
) -> None:
    house = make_house(max_pending=2)
    submit(house)
    submit(house, delay=60)
    with pytest.raises(QueueFull):
        submit(house)
    assert sum(house.engine.counts().values()) == 2


def test_the_same_key_and_body_return_the_first_job(house: House) -> None:
    request = JobRequest.model_validate(HELLO)
    first = house.engine.submit(request, "key", "digest")
    second = house.engine.submit(request, "key", "digest")
    assert (first.replayed, second.replayed) == (False, True)
    assert first.job.job_id == second.job.job_id
    with pytest.raises(InvalidRequest, match="another body"):
        house.engine.submit(request, "key", "other digest")
    assert sum(house.engine.counts().values()) == 1


@pytest.mark.parametrize("delay", [None, 60])
def test_a_waiting_job_is_cancelled_at_once(house: House, delay: Any) -> None:
    job = house.engine.cancel(submit(house, delay=delay).job_id)
    assert (job.status, job.finished_at, job.output) == ("cancelled", house.clock.now, "")
    assert house.engine.cancel(job.job_id).status == "cancelled"
    assert house.claim(job.job_id) is None


def test_a_cancel_of_a_running_job_is_requested_from_its_shim(house: House) -> None:
    job = claimed(house)
    shown = house.engine.cancel(job.job_id)
    assert (shown.status, shown.cancel_requested_at) == ("running", house.clock.now)
    assert (house.datadir.jobs / job.job_id / "1" / "cancel").exists()
    house.clock.now += 5
    assert house.engine.cancel(job.job_id).cancel_requested_at == shown.cancel_requested_at


def test_a_job_that_succeeds_before_the_cancel_reaches_it_is_completed(house: House) -> None:
    job = claimed(house)
    house.engine.cancel(job.job_id)
    house.executor.completer.complete(job, ExitFacts(exit_code=0))
    assert house.engine.get(job.job_id).status == "completed"
    with pytest.raises(Conflict, match="completed already"):
        house.engine.cancel(job.job_id)


def test_a_cancelled_job_is_not_retried(house: House) -> None:
    job = claimed(house, retries=3)
    house.engine.cancel(job.job_id)
    house.executor.completer.complete(job, ExitFacts(signal="SIGTERM", stopped_by="cancel"))
    assert house.engine.get(job.job_id).status == "cancelled"


def test_a_late_worker_cannot_change_a_job_that_has_ended(house: House) -> None:
    job = claimed(house)
    house.executor.completer.complete(job, ExitFacts(exit_code=0))
    house.executor.completer.complete(job, ExitFacts(lost=True))
    assert house.engine.get(job.job_id).status == "completed"


def test_a_late_worker_cannot_end_the_next_run(house: House) -> None:
    first = claimed(house, retries=1)
    house.executor.completer.complete(first, ExitFacts(exit_code=1))
    second = house.claim(first.job_id)
    assert second is not None
    house.executor.completer.complete(first, ExitFacts(exit_code=0))
    job = house.engine.get(first.job_id)
    assert (job.status, job.attempt, len(job.attempts)) == ("running", 2, 2)


def test_the_delay_before_a_retry_doubles_each_time(house: House) -> None:
    job = claimed(house, retries=3, retryDelay=10)
    waits = []
    for _ in range(3):
        house.executor.completer.complete(job, ExitFacts(exit_code=1))
        waiting = house.engine.get(job.job_id)
        assert (waiting.status, waiting.error, waiting.started_at) == ("scheduled", None, None)
        assert waiting.run_at is not None
        waits.append(waiting.run_at - house.clock.now)
        house.clock.now = waiting.run_at
        house.maintenance.due()
        again = house.claim(job.job_id)
        assert again is not None
        job = again
    assert waits == [10, 20, 40]
    house.executor.completer.complete(job, ExitFacts(exit_code=1))
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.attempt) == ("failed", 4)
    assert [a.attempt for a in ended.attempts] == [1, 2, 3, 4]


def test_the_attempt_of_a_run_that_never_started_is_given_back(house: House) -> None:
    job = claimed(house)
    house.executor.completer.release(job, "a test")
    again = house.claim(job.job_id)
    assert again is not None
    assert (again.attempt, again.run) == (1, 2)


def test_retry_makes_a_new_job_from_the_same_request(house: House) -> None:
    job = claimed(house, args=["a"], env={"X": "1"}, timeout=7, project="p", stdin="s")
    with pytest.raises(Conflict):
        house.engine.retry(job.job_id)
    house.executor.completer.complete(job, ExitFacts(exit_code=1))
    again = house.engine.retry(job.job_id)
    assert again.retry_of == job.job_id
    for name in ("script", "venv", "args", "env", "timeout", "project", "stdin"):
        assert getattr(again, name) == getattr(job, name)
    assert (again.status, again.attempt) == ("pending", 0)


def test_flush_cancels_all_waiting_jobs_and_nothing_else(house: House) -> None:
    running, ended = claimed(house), claimed(house)
    house.executor.completer.complete(ended, ExitFacts(exit_code=0))
    for delay in (None, None, 60):
        submit(house, delay=delay)
    assert house.engine.flush() == {"pending": 2, "scheduled": 1}
    assert house.engine.get(running.job_id).status == "running"
    assert house.engine.get(ended.job_id).status == "completed"
    assert house.engine.counts()["cancelled"] == 3


def test_flush_cancels_in_batches(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robotni.storage.store.BATCH", 2)
    for delay in (None, 60, None, None, 60):
        submit(house, delay=delay)
    executed: List[str] = []
    with statements(house, executed):
        assert house.engine.flush() == {"pending": 3, "scheduled": 2}
    assert executed.count("COMMIT") == 3
    assert house.engine.counts()["cancelled"] == 5


def test_all_due_jobs_become_pending_also_when_they_exceed_a_batch(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotni.storage.store.BATCH", 2)
    for _ in range(5):
        submit(house, delay=10)
    house.clock.now += 20
    pauses = [house.maintenance.run() for _ in range(3)]
    assert house.engine.counts()["pending"] == 5
    assert max(pauses[:2]) < 0.1


def test_the_write_ahead_log_is_emptied_when_no_reader_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotni.storage.database.LOG_LIMIT", 1 << 20)
    log = house.datadir.database.with_name("robotni.db-wal")
    reader = sqlite3.connect(str(house.datadir.database), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM job").fetchone()
    for _ in range(40):
        submit(house, stdin="x" * 50_000)
    assert log.stat().st_size > 1 << 20
    house.maintenance.expire()  # with a reader: nothing is lost, and no thread waits long
    reader.execute("COMMIT")
    house.maintenance.expire()
    assert log.stat().st_size == 0
    assert house.engine.counts()["pending"] == 40
    reader.close()


def test_only_a_job_that_has_not_started_can_be_revoked(house: House) -> None:
    waiting, running = submit(house), claimed(house)
    assert house.engine.revoke(waiting.job_id).status == "cancelled"
    assert house.engine.revoke(waiting.job_id).status == "cancelled"
    with pytest.raises(Conflict, match="running"):
        house.engine.revoke(running.job_id)


@pytest.mark.parametrize("job_id", ["0" * 32, "", "../x", "x" * 5000])
def test_an_unknown_id_is_not_found_by_any_call(house: House, job_id: str) -> None:
    for verb in (house.engine.get, house.engine.cancel, house.engine.retry, house.engine.revoke,
                 house.engine.output):  # fmt: skip
        with pytest.raises(NotFound):
            verb(job_id)


def test_the_pages_of_a_list_have_each_job_once(house: House) -> None:
    ids = []
    for _ in range(7):
        house.clock.now += 0.001
        ids.append(submit(house).job_id)
    seen, cursor = [], None
    while True:
        jobs, cursor = house.engine.list(Filters(), cursor, 3)
        seen += [job.job_id for job in jobs]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_a_list_is_filtered(house: House) -> None:
    (house.project / "other.py").touch()
    hello, other = submit(house, project="a"), submit(house, script="other.py")
    added = house.engine.submit(JobRequest(type="add", params={"x": 1, "y": 2})).job

    def ids(**filters: Any) -> "set[str]":
        return {job.job_id for job in house.engine.list(Filters(**filters), None, 50)[0]}

    assert ids(project="a") == {hello.job_id}
    assert ids(q="hel") == {hello.job_id}
    assert ids(q="other.py") == {other.job_id}
    assert ids(q=added.job_id[:30]) >= {added.job_id}
    assert ids(q="%") == ids(q="*") == ids(q="nothing") == set()
    assert ids(type="add") == {added.job_id}
    assert ids(status=["pending", "running"]) == {hello.job_id, other.job_id, added.job_id}
    assert ids(status=["failed"]) == set()


def test_a_running_job_has_its_output_size_and_progress(house: House) -> None:
    job = claimed(house)
    folder = house.datadir.jobs / job.job_id / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output").write_text("12345")
    (folder / "progress").write_text("10 begun\n40.5 half way\nnonsense\n")
    shown = house.engine.get(job.job_id)
    assert (shown.output, shown.output_bytes) == (None, 5)
    assert shown.progress is not None
    assert (shown.progress.percent, shown.progress.message) == (40.5, "half way")


def test_a_job_that_has_ended_has_the_last_64_kib_of_its_output(house: House) -> None:
    job = claimed(house)
    folder = house.datadir.jobs / job.job_id / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output").write_bytes(b"x" * 100_000 + b"\xff end")
    house.executor.completer.complete(job, ExitFacts(exit_code=0))
    shown = house.engine.get(job.job_id)
    assert shown.output is not None
    assert shown.output.endswith("x\N{REPLACEMENT CHARACTER} end")
    assert len(shown.output.encode()) <= 64 * 1024 + 2
    assert shown.output_truncated


def test_the_slo_is_the_share_of_attempts_without_timeout(house: House) -> None:
    assert house.engine.status()["slo"]["completedWithinTimeout"] is None
    for facts in (ExitFacts(exit_code=0), ExitFacts(exit_code=1), ExitFacts(stopped_by="timeout")):
        house.executor.completer.complete(claimed(house), facts)
    house.executor.completer.release(claimed(house), "never started")
    assert house.engine.status()["slo"]["completedWithinTimeout"] == pytest.approx(2 / 3)
    house.clock.now += 2 * 86400
    assert house.engine.status()["slo"]["completedWithinTimeout"] is None


def test_a_worker_is_needed_for_jobs_for_running_rows_and_for_the_clean_up(house: House) -> None:
    assert house.engine.needs_worker_in() == 0  # today's clean-up
    house.maintenance.clean()
    assert house.engine.needs_worker_in() == math.inf
    job = submit(house, delay=10)
    assert house.engine.needs_worker_in() == 10
    house.clock.now += 11
    assert house.engine.needs_worker_in() == 0
    house.engine.cancel(job.job_id)
    assert house.engine.needs_worker_in() == math.inf
    claimed(house)
    assert house.engine.needs_worker_in() == 0


def test_the_clean_up_deletes_old_jobs_with_their_folders_once_a_day(
    make_house: Callable[..., House],
) -> None:
    house = make_house(retention_days=30)
    old = claimed(house)
    house.store.run_files(old).create()
    house.executor.completer.complete(old, ExitFacts(exit_code=0))
    waiting = submit(house)
    house.clock.now += 29 * 86400
    house.maintenance.clean()
    assert house.engine.get(old.job_id)
    house.clock.now += 2 * 86400
    house.maintenance.clean()
    with pytest.raises(NotFound):
        house.engine.get(old.job_id)
    assert not (house.datadir.jobs / old.job_id).exists()
    assert house.engine.get(waiting.job_id).status == "pending"


def test_the_clean_up_runs_once_a_day_also_when_the_clock_jumps_back(house: House) -> None:
    days = []
    for jump in (0, 3600, 86400, -7200, 86400 * 3, -86400 * 3, 1):
        house.clock.now += jump
        before = house.store._db.sql("SELECT count(*) FROM clean_day").fetchone()[0]
        house.maintenance.clean()
        days.append(house.store._db.sql("SELECT count(*) FROM clean_day").fetchone()[0] - before)
    assert days == [1, 0, 1, 0, 1, 0, 0]


def test_sqlite_writes_durably(house: House) -> None:
    db = house.store._db
    db.close()
    assert db.sql("PRAGMA journal_mode").fetchone() == ("wal",)
    for _ in range(2):
        with db.write():
            assert db.sql("PRAGMA synchronous").fetchone() == (2,)
        db.close()  # the next write opens its connection again


def test_a_database_of_a_newer_robotni_is_refused(house: House, tmp_path: Path) -> None:
    from robotni.errors import DataDirError

    house.store._db.sql("PRAGMA user_version = 99")
    with pytest.raises(DataDirError, match="newer robotni"):
        Store(house.datadir)
