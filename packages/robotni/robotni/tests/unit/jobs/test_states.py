"""The state machine: every transition from every state, against a real store."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, get_args

import pytest

from robotni.jobs.models import Job, State, new_job_id
from robotni.jobs.states import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SCHEDULED,
    STATES,
    TERMINAL,
    TRANSITIONS,
    WAITING,
)
from robotni.storage.store import Store
from robotni.system.datadir import DataDir

NOW = 1_790_000_000.0

# The state machine as the contract has it.
ALLOWED = {
    ("due", SCHEDULED): PENDING,
    ("claim", PENDING): RUNNING,
    ("release", RUNNING): PENDING,
    ("requeue", RUNNING): PENDING,
    ("postpone", RUNNING): SCHEDULED,
    ("complete", RUNNING): COMPLETED,
    ("fail", RUNNING): FAILED,
    ("abort", RUNNING): CANCELLED,
    ("request_cancel", RUNNING): RUNNING,
    ("cancel", SCHEDULED): CANCELLED,
    ("cancel", PENDING): CANCELLED,
    ("expire", PENDING): FAILED,
}


@pytest.fixture(scope="module")
def datadir(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    return DataDir(tmp_path_factory.mktemp("data")).open()


@pytest.fixture(scope="module")
def store(datadir: DataDir) -> Iterator[Store]:
    store = Store(datadir)
    yield store
    store.close()


def a_job(**fields: Any) -> Job:
    return Job(**{"job_id": new_job_id(NOW), "timestamp": NOW, "script": "/srv/a.py", **fields})


def stored(store: Store, **fields: Any) -> str:
    job = a_job(**fields)
    store.insert_all([job], max_pending=10_000)
    return job.job_id


def test_the_transitions_are_those_of_the_contract() -> None:
    table = {(verb, start): to for verb, (froms, to) in TRANSITIONS.items() for start in froms}
    assert table == ALLOWED


def test_a_state_is_waiting_running_or_terminal() -> None:
    assert set(get_args(State)) == set(STATES) == WAITING | {RUNNING} | TERMINAL
    assert len(STATES) == 6


def test_no_transition_leaves_a_terminal_state() -> None:
    assert not TERMINAL & {start for froms, _ in TRANSITIONS.values() for start in froms}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", TRANSITIONS)
def test_a_transition_succeeds_exactly_where_the_table_allows_it(
    store: Store, verb: str, state: str
) -> None:
    froms, to = TRANSITIONS[verb]
    job_id = stored(store, status=state)
    before, counts = store.get(job_id), store.counts()
    won = store.transition(verb, job_id, exit_code=7)
    after = store.get(job_id)
    assert before is not None and after is not None
    assert won is (state in froms)
    if won:
        assert (after.status, after.exit_code) == (to, 7)
        change = {state: -1, to: +1} if state != to else {}
        assert store.counts() == {s: n + change.get(s, 0) for s, n in counts.items()}
    else:
        assert after == before
        assert store.counts() == counts


@pytest.mark.parametrize("verb", [v for v, (froms, _) in TRANSITIONS.items() if RUNNING in froms])
def test_a_transition_of_an_earlier_run_changes_nothing(store: Store, verb: str) -> None:
    job_id = stored(store, status=RUNNING, run=2)
    before = store.get(job_id)
    assert not store.transition(verb, job_id, run=1, exit_code=7)
    assert store.get(job_id) == before
    assert store.transition(verb, job_id, run=2)


@pytest.mark.parametrize("verb", TRANSITIONS)
def test_a_transition_of_an_unknown_job_does_nothing(store: Store, verb: str) -> None:
    assert not store.transition(verb, new_job_id(NOW))


def test_of_many_threads_that_end_a_run_one_wins(store: Store) -> None:
    job_id = stored(store, status=RUNNING, run=1)
    verbs = ["complete", "fail", "abort", "requeue"] * 4

    def attempt(verb: str) -> bool:
        try:
            return store.transition(verb, job_id, run=1)
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, verbs))
    job = store.get(job_id)
    assert sum(won) == 1
    assert job is not None and job.status == TRANSITIONS[verbs[won.index(True)]][1]


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_row_cannot_be_changed_with_sql(
    store: Store, datadir: DataDir, state: str
) -> None:
    job_id = stored(store, status=state, finished_at=NOW)
    before = store.get(job_id)
    connection = sqlite3.connect(datadir.database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(job)")]
    assert len(columns) > 30
    for statement in ["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE"]:
        for column in columns:
            with pytest.raises(sqlite3.IntegrityError, match="a terminal job never changes"):
                connection.execute(
                    f"{statement} job SET {column} = {column} WHERE job_id = ?", (job_id,)
                )
            connection.rollback()
    connection.close()
    assert store.get(job_id) == before


def test_a_terminal_row_can_be_deleted(store: Store) -> None:
    job_id = stored(store, status=COMPLETED, finished_at=NOW)
    store.retention.delete_ended([job_id], NOW)
    assert store.get(job_id) is None
