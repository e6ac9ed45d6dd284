"""The calls of a client on a real store: what is stored, what is refused, what is shown."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from robotni.errors import Conflict, InvalidRequest, NotFound, QueueFull
from robotni.jobs.models import Job, new_job_id
from robotni.jobs.outcome import ExitFacts
from robotni.jobs.request import JobRequest
from robotni.storage.migrations import MIGRATIONS
from robotni.storage.queries import Filters
from robotni.storage.queue_messages import JobTickets
from robotni.storage.rows import COLUMNS, cells_of
from robotni.storage.store import BATCH, Store
from robotni.tests.conftest import House, statements

HELLO: Dict[str, Any] = {"script": "hello.py", "venv": ".venv"}


def submit(house: House, **fields: Any) -> Job:
    return house.engine.submit(JobRequest.model_validate({**HELLO, **fields})).job


def claimed(house: House, **fields: Any) -> Job:
    job = house.executor.claim(submit(house, **fields).job_id)
    assert job is not None
    return job


def tickets(house: House) -> int:
    return int(house.store._db.sql("SELECT count(*) FROM task").fetchone()[0])


def test_a_submitted_job_is_stored_with_its_ticket_and_wakes_up_the_worker(house: House) -> None:
    job = submit(house)
    assert house.store.get(job.job_id) == job
    ticket = house.store.take_ticket()
    assert ticket is not None
    assert job.job_id.encode() in ticket
    assert house.notifies == 1


def test_relative_paths_start_at_the_project_folder(house: House) -> None:
    job = submit(house)
    assert job.script == str(house.project / "hello.py")
    assert job.venv == str(house.project / ".venv")
    assert job.cwd == str(house.project)


def test_a_delayed_job_has_no_ticket_until_it_is_due(house: House) -> None:
    job = submit(house, delay=60)
    assert job.status == "scheduled"
    assert house.store.take_ticket() is None
    house.clock.now += 59.9
    house.maintenance.due()
    assert house.store.take_ticket() is None
    house.clock.now += 0.2
    house.maintenance.due()
    house.maintenance.due()
    assert house.store.take_ticket() is not None
    assert house.store.take_ticket() is None
    assert house.engine.get(job.job_id).status == "pending"


def test_a_job_whose_run_at_is_in_the_past_is_pending(house: House) -> None:
    assert submit(house, runAt="2026-01-01T00:00:00Z").status == "pending"


def test_a_claim_expires_a_job_that_has_waited_too_long(house: House) -> None:
    job = submit(house, expires=60)
    house.clock.now += 61
    assert house.executor.claim(job.job_id) is None
    job = house.engine.get(job.job_id)
    assert job.error is not None
    assert (job.status, job.error.code, job.attempt) == ("failed", "expired", 0)
    assert job.finished_at == house.clock.now


def test_the_sweep_expires_jobs_that_have_waited_too_long(house: House) -> None:
    job = submit(house, expires=60)
    house.clock.now += 61
    house.maintenance.sweep()
    assert house.engine.get(job.job_id).status == "failed"


def test_jobs_expire_in_batches_and_their_rows_are_not_read_whole(house: House) -> None:
    jobs = [submit(house, expires=60, stdin="large") for _ in range(2 * BATCH + 1)]
    without_expires = submit(house)
    house.maintenance.clean()
    house.clock.now += 61
    executed: List[str] = []
    with statements(house, executed):
        house.maintenance.sweep()
        assert house.engine.counts()["failed"] == BATCH
        assert house.maintenance.tick() == 0
        assert house.maintenance.tick() > 0
    assert house.engine.counts()["failed"] == len(jobs)
    reads = [sql for sql in executed if sql.startswith("SELECT") and "expires <" in sql]
    assert reads and not [sql for sql in reads if "stdin" in sql]
    assert sum(sql.startswith("COMMIT") for sql in executed) < 20
    assert house.engine.get(without_expires.job_id).status == "pending"


def test_of_tickets_without_use_many_are_dropped_at_once(house: House) -> None:
    """A flush, or what expires, leaves them; what comes behind them would wait for each."""
    for _ in range(BATCH):
        submit(house)
    house.engine.flush()
    others = [submit(house) for _ in range(2)]
    tickets = [house.store.take_ticket() for _ in range(2)]
    owner = JobTickets().decode(tickets[0] or b"")
    house.executor.run(owner or "")
    second = JobTickets().decode(tickets[1] or b"") or ""  # another thread has it
    waiting = [job.job_id for job in others]
    assert ticketed(house) == [second, *waiting]
    house.executor.run(second)
    assert ticketed(house) == waiting


def ticketed(house: House) -> List[Optional[str]]:
    rows = house.store._db.sql("SELECT data FROM task ORDER BY id").fetchall()
    return [JobTickets().decode(data) for (data,) in rows]


@pytest.mark.parametrize("by", ["this worker", "another worker"])
def test_who_drops_a_ticket_late_leaves_the_one_that_has_its_number_by_then(
    house: House, by: str
) -> None:
    """SQLite gives the numbers of an empty table anew."""
    stale = [submit(house).job_id for _ in range(2)]
    house.engine.flush()
    taken = [house.store.take_ticket() for _ in range(2)]
    assert None not in taken
    other = house.store if by == "this worker" else Store(house.datadir.database, JobTickets())
    if other is not house.store:
        other.take_ticket()
    other.drop_ticket(stale[0])
    if other is not house.store:
        other.drop_ticket(stale[1])
        other.close()
    waiting = [submit(house).job_id for _ in range(2)]
    for job_id in stale:
        house.store.drop_ticket(job_id)
    assert ticketed(house) == waiting
    assert house.store.mend_tickets() == 0


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
    assert house.executor.claim(job.job_id) is None


def test_a_cancel_of_a_running_job_is_requested_from_its_shim(house: House) -> None:
    job = claimed(house)
    asked = house.engine.cancel(job.job_id)
    assert (asked.status, asked.cancel_requested_at) == ("running", house.clock.now)
    assert (house.datadir.jobs / job.job_id / "1" / "cancel").exists()
    house.clock.now += 5
    assert house.engine.cancel(job.job_id).cancel_requested_at == asked.cancel_requested_at


def test_a_job_that_succeeds_before_the_cancel_reaches_it_is_completed(house: House) -> None:
    job = claimed(house)
    house.engine.cancel(job.job_id)
    house.executor.completer.settle(job, ExitFacts(exit_code=0))
    assert house.engine.get(job.job_id).status == "completed"
    with pytest.raises(Conflict, match="completed already"):
        house.engine.cancel(job.job_id)


def test_a_cancelled_job_is_not_retried(house: House) -> None:
    job = claimed(house, retries=3)
    house.engine.cancel(job.job_id)
    house.executor.completer.settle(job, ExitFacts(signal="SIGTERM", stopped_by="cancel"))
    assert house.engine.get(job.job_id).status == "cancelled"


def test_a_late_worker_cannot_change_a_job_that_has_ended(house: House) -> None:
    job = claimed(house)
    house.executor.completer.settle(job, ExitFacts(exit_code=0))
    house.executor.completer.settle(job, ExitFacts(lost=True))
    assert house.engine.get(job.job_id).status == "completed"


def test_a_late_worker_cannot_end_the_next_run(house: House) -> None:
    first = claimed(house, retries=1)
    house.executor.completer.settle(first, ExitFacts(exit_code=1))
    second = house.executor.claim(first.job_id)
    assert second is not None
    house.executor.completer.settle(first, ExitFacts(exit_code=0))
    job = house.engine.get(first.job_id)
    assert (job.status, job.attempt, len(job.attempts)) == ("running", 2, 2)


def test_the_delay_before_a_retry_doubles_each_time(house: House) -> None:
    job = claimed(house, retries=3, retryDelay=10)
    waits = []
    for _ in range(3):
        house.executor.completer.settle(job, ExitFacts(exit_code=1))
        waiting = house.engine.get(job.job_id)
        assert (waiting.status, waiting.error, waiting.started_at) == ("scheduled", None, None)
        assert waiting.run_at is not None
        waits.append(waiting.run_at - house.clock.now)
        house.clock.now = waiting.run_at
        house.maintenance.due()
        again = house.executor.claim(job.job_id)
        assert again is not None
        job = again
    assert waits == [10, 20, 40]
    house.executor.completer.settle(job, ExitFacts(exit_code=1))
    ended = house.engine.get(job.job_id)
    assert (ended.status, ended.attempt) == ("failed", 4)
    assert [a.attempt for a in ended.attempts] == [1, 2, 3, 4]


def test_the_attempt_of_a_run_that_never_started_is_given_back(house: House) -> None:
    job = claimed(house)
    house.executor.completer.release(job, "a test")
    again = house.executor.claim(job.job_id)
    assert again is not None
    assert (again.attempt, again.run) == (1, 2)


def test_retry_makes_a_new_job_from_the_same_request(house: House) -> None:
    job = claimed(house, args=["a"], env={"X": "1"}, timeout=7, project="p", stdin="s")
    with pytest.raises(Conflict):
        house.engine.retry(job.job_id)
    house.executor.completer.settle(job, ExitFacts(exit_code=1))
    again = house.engine.retry(job.job_id)
    assert again.retry_of == job.job_id
    for name in ("script", "venv", "args", "env", "timeout", "project", "stdin"):
        assert getattr(again, name) == getattr(job, name)
    assert (again.status, again.attempt) == ("pending", 0)


def test_flush_cancels_all_waiting_jobs_and_nothing_else(house: House) -> None:
    running, ended = claimed(house), claimed(house)
    house.executor.completer.settle(ended, ExitFacts(exit_code=0))
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
    pauses = [house.maintenance.tick() for _ in range(3)]
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
    house.maintenance.sweep()  # with a reader: nothing is lost, and nobody waits long
    reader.execute("COMMIT")
    house.maintenance.sweep()
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
    house.executor.completer.settle(job, ExitFacts(exit_code=0))
    shown = house.engine.get(job.job_id)
    assert shown.output is not None
    assert shown.output.endswith("x\N{REPLACEMENT CHARACTER} end")
    assert len(shown.output.encode()) <= 64 * 1024 + 2
    assert shown.output_truncated


def test_the_slo_is_the_share_of_attempts_without_timeout(house: House) -> None:
    assert house.engine.status()["slo"]["completedWithinTimeout"] is None
    for facts in (ExitFacts(exit_code=0), ExitFacts(exit_code=1), ExitFacts(stopped_by="timeout")):
        house.executor.completer.settle(claimed(house), facts)
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
    assert (house.datadir.jobs / old.job_id / "1").is_dir()
    house.executor.completer.settle(old, ExitFacts(exit_code=0))
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


def test_lost_tickets_are_written_anew_and_no_more(house: House) -> None:
    jobs = [submit(house) for _ in range(3)]
    house.store._db.sql("DELETE FROM task WHERE id IN (SELECT id FROM task ORDER BY id LIMIT 2)")
    house.engine.cancel(jobs[2].job_id)  # its ticket stays, and does no harm
    assert house.store.mend_tickets() == 2
    assert house.store.mend_tickets() == 0


def test_a_ticket_is_handed_out_once_and_goes_with_the_claim(house: House) -> None:
    job = submit(house)
    assert house.store.take_ticket() is not None
    assert house.store.take_ticket() is None
    assert tickets(house) == 1  # killed now, nothing is lost
    assert house.executor.claim(job.job_id) is not None
    assert tickets(house) == 0


def test_a_ticket_whose_claim_failed_is_handed_out_again(house: House) -> None:
    job = submit(house)
    house.store.take_ticket()
    house.store._db.sql(
        "CREATE TRIGGER full BEFORE UPDATE ON job BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    with pytest.raises(Exception, match="x"):
        house.store.claim(job.job_id, house.clock.now)
    house.store._db.sql("DROP TRIGGER full")
    assert house.store.take_ticket() is not None
    assert house.store.claim(job.job_id, house.clock.now) is not None


def test_a_second_ticket_of_a_job_that_runs_is_dropped(house: House) -> None:
    job = submit(house)
    house.store.add_ticket(job.job_id)
    house.executor.in_flight.mind(job.job_id, 1)
    house.store.take_ticket()
    house.executor.run(job.job_id)
    house.store.take_ticket()
    house.executor.run(job.job_id)
    assert tickets(house) == 0
    assert house.engine.get(job.job_id).status == "pending"


def test_sqlite_writes_durably(house: House) -> None:
    db = house.store._db
    db.close()
    assert db.sql("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.together(lambda: db.sql("PRAGMA synchronous").fetchone()) == (2,)
    db.close()  # the next write opens its connection again
    assert db.together(lambda: db.sql("PRAGMA synchronous").fetchone()) == (2,)


def test_a_database_from_before_warm_runs_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "robotni.db"
    before = [name for name in COLUMNS if name not in ("warm", "preload")]
    insert = f"INSERT INTO job ({', '.join(before)}) VALUES ({', '.join('?' * len(before))})"
    jobs = [Job(job_id=new_job_id(now), timestamp=now, warm=True) for now in (1.0, 2.0)]
    cells = [dict(zip(COLUMNS, cells_of(job))) for job in jobs]
    with closing(sqlite3.connect(path)) as old:
        for statement in (*MIGRATIONS[0], "PRAGMA user_version = 1"):
            old.execute(statement)
        old.execute(insert, [cells[0][name] for name in before])
        old.commit()
        store = Store(path, JobTickets())
        old.execute(insert, [cells[1][name] for name in before])  # by a worker still at work
        old.commit()
    for job in jobs:
        assert store.get(job.job_id) == job.model_copy(update={"warm": False})
    store.close()


def test_a_database_of_a_newer_robotni_is_refused(house: House, tmp_path: Path) -> None:
    from robotni.errors import DataDirError

    house.store._db.sql("PRAGMA user_version = 99")
    with pytest.raises(DataDirError, match="newer robotni"):
        Store(house.datadir.database, JobTickets())
