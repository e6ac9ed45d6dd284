"""The job: every verb in every state against a real store, how runs end, ids, times."""

import json
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.jobs import models as job_module
from robotni.jobs.models import (
    Attempt,
    Job,
    JobError,
    Progress,
    State,
    local_date,
    new_job_id,
    next_midnight,
    rfc3339,
)
from robotni.jobs.outcome import LONGEST_DELAY, ExitFacts, expiry, outcome, signal_name
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
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
BRAZIL = "<-03>3<-02>,M10.3.0/0,M2.3.0/0"  # puts the clock on from midnight to one, and back
TIMES = st.floats(min_value=NOW - 40 * 365 * 86400, max_value=NOW + 100 * 365 * 86400)

# The state machine as the contract tells it, verb by verb.
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


def test_the_table_is_the_state_machine_of_the_contract() -> None:
    moves = {(verb, start): to for verb, (froms, to) in TRANSITIONS.items() for start in froms}
    assert moves == ALLOWED


def test_there_are_six_states_and_a_job_is_waiting_running_or_ended() -> None:
    assert set(get_args(State)) == set(STATES) == WAITING | {RUNNING} | TERMINAL
    assert len(STATES) == 6


def test_no_verb_leads_out_of_a_terminal_state() -> None:
    assert not TERMINAL & {start for froms, _ in TRANSITIONS.values() for start in froms}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", TRANSITIONS)
def test_a_verb_wins_exactly_where_the_table_allows_it(store: Store, verb: str, state: str) -> None:
    froms, to = TRANSITIONS[verb]
    job_id = stored(store, status=state)
    before, counts = store.get(job_id), store.counts()
    won = store.transition(verb, job_id, exit_code=7)
    after = store.get(job_id)
    assert before is not None and after is not None
    assert won is (state in froms)
    if won:
        assert (after.status, after.exit_code) == (to, 7)
        moved = {state: -1, to: +1} if state != to else {}
        assert store.counts() == {s: n + moved.get(s, 0) for s, n in counts.items()}
    else:
        assert after == before
        assert store.counts() == counts


@pytest.mark.parametrize("verb", [v for v, (froms, _) in TRANSITIONS.items() if RUNNING in froms])
def test_a_verb_of_an_earlier_run_changes_nothing(store: Store, verb: str) -> None:
    job_id = stored(store, status=RUNNING, run=2)
    before = store.get(job_id)
    assert not store.transition(verb, job_id, run=1, exit_code=7)
    assert store.get(job_id) == before
    assert store.transition(verb, job_id, run=2)


@pytest.mark.parametrize("verb", TRANSITIONS)
def test_a_verb_on_an_unknown_job_wins_nothing(store: Store, verb: str) -> None:
    assert not store.transition(verb, new_job_id(NOW))


def test_of_many_who_end_a_run_at_once_one_wins(store: Store) -> None:
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
def test_a_terminal_row_does_not_change_by_raw_sql_either(
    store: Store, datadir: DataDir, state: str
) -> None:
    job_id = stored(store, status=state, finished_at=NOW)
    before = store.get(job_id)
    raw = sqlite3.connect(datadir.database)
    columns = [row[1] for row in raw.execute("PRAGMA table_info(job)")]
    assert len(columns) > 30
    for statement in ["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE"]:
        for column in columns:
            with pytest.raises(sqlite3.IntegrityError, match="a terminal job never changes"):
                raw.execute(f"{statement} job SET {column} = {column} WHERE job_id = ?", (job_id,))
            raw.rollback()
    raw.close()
    assert store.get(job_id) == before


def test_a_terminal_row_can_be_deleted_by_the_clean_up(store: Store) -> None:
    job_id = stored(store, status=COMPLETED, finished_at=NOW)
    store.retention.delete_ended([job_id], NOW)
    assert store.get(job_id) is None


FIRST, LAST = {"attempt": 1, "max_attempts": 3}, {"attempt": 3, "max_attempts": 3}
ASKED = {"cancel_requested_at": NOW - 1}
OK, BAD = ExitFacts(exit_code=0), ExitFacts(exit_code=3)
SEGV, LOST = ExitFacts(signal="SIGSEGV"), ExitFacts(lost=True)
OOM = ExitFacts(signal="SIGKILL", out_of_memory=True)
NO_SPAWN = ExitFacts(spawn_error="/v/bin/python could not be started: gone.")
TIMED_OUT = ExitFacts(signal="SIGTERM", stopped_by="timeout")
STOPPED = ExitFacts(signal="SIGTERM", stopped_by="cancel")


@pytest.mark.parametrize(
    "fields, facts, verb, code",
    [
        ({}, OK, "complete", None),
        ({}, BAD, "fail", "exit_nonzero"),
        ({}, SEGV, "fail", "signalled"),
        ({}, OOM, "fail", "out_of_memory"),
        ({}, TIMED_OUT, "fail", "timeout"),
        ({}, NO_SPAWN, "fail", "spawn_failed"),
        ({}, LOST, "fail", "lost"),
        # robotni's own reason goes before what the script made of the signal
        ({}, ExitFacts(exit_code=0, stopped_by="timeout"), "fail", "timeout"),
        ({}, ExitFacts(exit_code=1, stopped_by="timeout"), "fail", "timeout"),
        ({}, ExitFacts(signal="SIGKILL", stopped_by="timeout"), "fail", "timeout"),
        # retries: for every kind of failure, while attempts are left
        (FIRST, OK, "complete", None),
        (FIRST, BAD, "requeue", "exit_nonzero"),
        (FIRST, SEGV, "requeue", "signalled"),
        (FIRST, OOM, "requeue", "out_of_memory"),
        (FIRST, TIMED_OUT, "requeue", "timeout"),
        (FIRST, NO_SPAWN, "requeue", "spawn_failed"),
        (FIRST, LOST, "requeue", "lost"),
        ({**FIRST, "retry_delay": 5}, BAD, "postpone", "exit_nonzero"),
        ({**FIRST, "retry_delay": 5}, LOST, "postpone", "lost"),
        (LAST, BAD, "fail", "exit_nonzero"),
        (LAST, LOST, "fail", "lost"),
        ({**LAST, "retry_delay": 5}, TIMED_OUT, "fail", "timeout"),
        # cancel: it won
        (ASKED, STOPPED, "abort", None),
        (ASKED, ExitFacts(exit_code=0, stopped_by="cancel"), "abort", None),
        (ASKED, ExitFacts(exit_code=1, stopped_by="cancel"), "abort", None),
        (ASKED, ExitFacts(stopped_by="cancel"), "abort", None),
        (ASKED, LOST, "abort", None),
        ({**ASKED, **FIRST}, STOPPED, "abort", None),
        ({**ASKED, **FIRST}, LOST, "abort", None),
        # cancel: it came too late, the script had ended; but nothing is tried again
        (ASKED, OK, "complete", None),
        (ASKED, BAD, "fail", "exit_nonzero"),
        (ASKED, TIMED_OUT, "fail", "timeout"),
        ({**ASKED, **FIRST}, OK, "complete", None),
        ({**ASKED, **FIRST}, BAD, "fail", "exit_nonzero"),
        ({**ASKED, **FIRST, "retry_delay": 5}, SEGV, "fail", "signalled"),
        # the shim saw the file before the row told anybody
        ({}, STOPPED, "abort", None),
        (FIRST, STOPPED, "abort", None),
    ],
)
def test_how_a_run_ends_says_how_the_job_goes_on(
    fields: Any, facts: ExitFacts, verb: str, code: Any
) -> None:
    verdict = outcome(a_job(status=RUNNING, **{"attempt": 1, **fields}), facts, NOW)
    assert verdict.verb == verb
    assert (verdict.error and verdict.error.code) == code
    assert (verdict.run_at is not None) == (verb == "postpone")


FACTS = st.builds(
    ExitFacts,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.sampled_from(["SIGTERM", "SIGKILL", "SIGSEGV"]),
    stopped_by=st.none() | st.sampled_from(["cancel", "timeout"]),
    out_of_memory=st.booleans(),
    spawn_error=st.none() | st.just("no such file"),
    lost=st.booleans(),
)


@settings(deadline=None)
@given(
    facts=FACTS,
    attempt=st.integers(1, 101),
    max_attempts=st.integers(1, 101),
    retry_delay=st.floats(0, 86400),
    asked=st.booleans(),
)
def test_whatever_happened_the_move_is_legal_and_the_record_can_be_shown(
    facts: ExitFacts, attempt: int, max_attempts: int, retry_delay: float, asked: bool
) -> None:
    job = a_job(
        status=RUNNING,
        attempt=attempt,
        max_attempts=max_attempts,
        retry_delay=retry_delay,
        cancel_requested_at=NOW if asked else None,
    )
    verb, error, run_at = outcome(job, facts, NOW)
    froms, to = TRANSITIONS[verb]
    assert RUNNING in froms
    assert (error is None) == (to in (COMPLETED, CANCELLED))
    assert to in TERMINAL or (attempt < max_attempts and not asked)
    if run_at is not None:
        assert NOW <= run_at <= NOW + LONGEST_DELAY
        job.model_copy(update={"run_at": run_at}).model_dump_json()


def test_the_delay_of_a_retry_doubles_with_each_attempt() -> None:
    delays = []
    for attempt in range(1, 6):
        job = a_job(status=RUNNING, attempt=attempt, max_attempts=9, retry_delay=1.5)
        delays.append((outcome(job, BAD, NOW).run_at or 0) - NOW)
    assert delays == [1.5, 3, 6, 12, 24]


def test_doubling_ends_at_a_year() -> None:
    job = a_job(status=RUNNING, attempt=100, max_attempts=101, retry_delay=86400)
    assert outcome(job, BAD, NOW).run_at == NOW + 365 * 86400


@pytest.mark.parametrize(
    "fields, facts, words",
    [
        ({}, BAD, ["/srv/a.py", "exit code 3", "printed nothing"]),
        ({}, BAD._replace(last_line="KeyError: 'x'"), ["exit code 3: KeyError: 'x'"]),
        ({"script": None, "module": "jobs.a"}, BAD, ["jobs.a ended"]),
        ({"script": None, "type": "add"}, BAD, ["add ended"]),
        ({}, SEGV, ["/srv/a.py", "SIGSEGV"]),
        ({}, OOM, ["memory"]),
        ({"timeout": 2_592_000}, TIMED_OUT, ["2592000 s", "longer timeout"]),
        ({"timeout": 0.5}, TIMED_OUT, ["0.5 s"]),
        ({}, NO_SPAWN, [str(NO_SPAWN.spawn_error)]),
        ({}, LOST, ["died", "retries"]),
    ],
)
def test_an_error_is_a_sentence_a_person_can_act_on(
    fields: Any, facts: ExitFacts, words: Any
) -> None:
    error = outcome(a_job(status=RUNNING, attempt=1, **fields), facts, NOW).error
    assert error is not None
    for word in words:
        assert word in error.message


def test_an_expired_job_says_how_long_it_was_willing_to_wait() -> None:
    error = expiry(2_592_000)
    assert error.code == "expired"
    assert "2592000 s" in error.message


def test_the_codes_of_errors_are_those_of_the_contract() -> None:
    codes = {"exit_nonzero", "signalled", "timeout", "out_of_memory", "spawn_failed", "lost"}
    assert set(get_args(JobError.model_fields["code"].annotation)) == codes | {"expired"}


# the record


def test_the_record_has_the_fields_of_the_contract_and_no_others() -> None:
    fields = (
        "jobId type project status timestamp output script module venv args params cwd env "
        "warm preload timeout expires attempt maxAttempts retryOf runAt startedAt finishedAt "
        "cancelRequestedAt exitCode signal error progress result outputBytes outputTruncated "
        "attempts"
    )
    shown = json.loads(a_job().model_dump_json(by_alias=True))
    assert " ".join(shown) == fields


def test_the_record_reads_as_in_the_contract() -> None:
    job = a_job(
        status=RUNNING,
        started_at=NOW,
        run_at=NOW + 0.0004,
        progress=Progress(percent=40, message="half"),
        attempts=[Attempt(attempt=1, started_at=NOW, run=5)],
    )
    shown = json.loads(job.model_dump_json(by_alias=True))
    assert shown["startedAt"] == shown["runAt"] == "2026-09-21T14:13:20.000Z"
    assert shown["progress"] == {"percent": 40.0, "message": "half"}
    assert shown["attempts"] == [
        {
            "attempt": 1,
            "startedAt": "2026-09-21T14:13:20.000Z",
            "finishedAt": None,
            "exitCode": None,
            "signal": None,
            "error": None,
        }
    ]


def test_values_of_env_and_stdin_never_come_back() -> None:
    job = a_job(env={"B": "s3cret", "A": "s3cret"}, stdin="s3cret", idempotency_key="s3cret")
    text = job.model_dump_json(by_alias=True)
    assert "s3cret" not in text
    assert json.loads(text)["env"] == ["A", "B"]


def test_an_attempt_is_found_by_its_number_the_running_one_included() -> None:
    ended = Attempt(attempt=1, started_at=NOW, run=4)
    job = a_job(status=RUNNING, attempt=2, run=7, attempts=[ended])
    assert [job.run_of(n) for n in (0, 1, 2, 3)] == [None, 4, 7, None]
    assert a_job(status=PENDING, attempt=1, run=4, attempts=[ended]).run_of(1) == 4
    assert a_job(status=CANCELLED).run_of(0) is None


# ids and times


def test_an_id_is_a_uuid_of_version_7_that_tells_its_millisecond() -> None:
    job_id = new_job_id(NOW + 0.25)
    as_uuid = uuid.UUID(job_id)
    assert (as_uuid.version, as_uuid.variant, as_uuid.hex) == (7, uuid.RFC_4122, job_id)
    assert int(job_id[:12], 16) == int((NOW + 0.25) * 1000)


@settings(deadline=None)
@given(TIMES, st.floats(min_value=2e-6, max_value=1e9))
def test_ids_sort_by_creation(now: float, later: float) -> None:
    assert new_job_id(now) < new_job_id(now + later)


def test_ids_made_at_one_moment_differ() -> None:
    assert len({new_job_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW, "2026-09-21T14:13:20.000Z"),
        (NOW + 0.0124, "2026-09-21T14:13:20.012Z"),
        (NOW + 0.0126, "2026-09-21T14:13:20.013Z"),
        (NOW + 0.9996, "2026-09-21T14:13:21.000Z"),
        (1_798_761_599.9999, "2027-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_rounded_to_milliseconds(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


@pytest.mark.parametrize("number, name", [(9, "SIGKILL"), (11, "SIGSEGV"), (42, "SIG42")])
def test_a_signal_has_a_name(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone, as a POSIX rule, which needs no zone files."""

    def put(rule: str) -> None:
        monkeypatch.setenv("TZ", rule)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "rule, now, hours",
    [
        ("UTC0", "2026-03-10 00:00", 24),
        ("UTC0", "2026-12-31 23:00", 1),
        (BERLIN, "2026-03-28 00:00", 24),
        (BERLIN, "2026-03-29 00:00", 23),  # summer time begins
        (BERLIN, "2026-10-25 00:00", 25),  # and ends
        (BERLIN, "2026-10-25 12:00", 12),
        (BRAZIL, "2026-10-17 12:00", 12),  # the next day begins at one
        (BRAZIL, "2026-10-18 01:00", 23),
        (BRAZIL, "2026-02-14 12:00", 13),  # the last hour of the day comes twice
        ("<+1245>-12:45", "2026-06-01 12:30", 11.5),
    ],
)
def test_the_next_midnight_is_local_and_knows_summer_time(
    zone: Callable[[str], None], rule: str, now: str, hours: float
) -> None:
    zone(rule)
    start = time.mktime(time.strptime(now, "%Y-%m-%d %H:%M"))
    assert next_midnight(start) - start == hours * 3600


@pytest.mark.parametrize("rule", ["UTC0", BERLIN, BRAZIL, "<+14>-14", "<-12>12"])
def test_at_the_next_midnight_the_local_date_changes_and_not_before(
    zone: Callable[[str], None], rule: str
) -> None:
    zone(rule)
    for hour in range(0, 400 * 24, 7):
        now = NOW + hour * 3600
        midnight = next_midnight(now)
        assert now < midnight
        assert local_date(midnight - 1) == local_date(now) < local_date(midnight)


def test_the_module_reads_no_clock() -> None:
    source = Path(job_module.__file__).read_text()
    assert "time.time" not in source and ".now(" not in source
