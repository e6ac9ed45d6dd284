"""What becomes of a job when a run ends: `outcome` as a table, and the messages of the errors."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.jobs.models import Job, new_job_id
from robotni.jobs.outcome import MAX_RETRY_DELAY, ExitFacts, expiry, outcome, signal_name
from robotni.jobs.states import CANCELLED, COMPLETED, RUNNING, TERMINAL, TRANSITIONS

NOW = 1_790_000_000.0


def a_job(**fields: Any) -> Job:
    return Job(**{"job_id": new_job_id(NOW), "timestamp": NOW, "script": "/srv/a.py", **fields})


FIRST, LAST = {"attempt": 1, "max_attempts": 3}, {"attempt": 3, "max_attempts": 3}
CANCELLING = {"cancel_requested_at": NOW - 1}
SUCCESS, FAILURE = ExitFacts(exit_code=0), ExitFacts(exit_code=3)
SEGV, LOST = ExitFacts(signal="SIGSEGV"), ExitFacts(lost=True)
OUT_OF_MEMORY = ExitFacts(signal="SIGKILL", out_of_memory=True)
SPAWN_FAILED = ExitFacts(spawn_error="/v/bin/python could not be started: gone.")
TIMED_OUT = ExitFacts(signal="SIGTERM", stopped_by="timeout")
STOPPED = ExitFacts(signal="SIGTERM", stopped_by="cancel")


@pytest.mark.parametrize(
    "fields, facts, verb, code",
    [
        ({}, SUCCESS, "complete", None),
        ({}, FAILURE, "fail", "exit_nonzero"),
        ({}, SEGV, "fail", "signalled"),
        ({}, OUT_OF_MEMORY, "fail", "out_of_memory"),
        ({}, TIMED_OUT, "fail", "timeout"),
        ({}, SPAWN_FAILED, "fail", "spawn_failed"),
        ({}, LOST, "fail", "lost"),
        # why robotni stopped it counts more than how the script reacted to the signal
        ({}, ExitFacts(exit_code=0, stopped_by="timeout"), "fail", "timeout"),
        ({}, ExitFacts(exit_code=1, stopped_by="timeout"), "fail", "timeout"),
        ({}, ExitFacts(signal="SIGKILL", stopped_by="timeout"), "fail", "timeout"),
        # every kind of failure is retried while attempts are left
        (FIRST, SUCCESS, "complete", None),
        (FIRST, FAILURE, "requeue", "exit_nonzero"),
        (FIRST, SEGV, "requeue", "signalled"),
        (FIRST, OUT_OF_MEMORY, "requeue", "out_of_memory"),
        (FIRST, TIMED_OUT, "requeue", "timeout"),
        (FIRST, SPAWN_FAILED, "requeue", "spawn_failed"),
        (FIRST, LOST, "requeue", "lost"),
        ({**FIRST, "retry_delay": 5}, FAILURE, "postpone", "exit_nonzero"),
        ({**FIRST, "retry_delay": 5}, LOST, "postpone", "lost"),
        (LAST, FAILURE, "fail", "exit_nonzero"),
        (LAST, LOST, "fail", "lost"),
        ({**LAST, "retry_delay": 5}, TIMED_OUT, "fail", "timeout"),
        # the cancel stopped the run
        (CANCELLING, STOPPED, "abort", None),
        (CANCELLING, ExitFacts(exit_code=0, stopped_by="cancel"), "abort", None),
        (CANCELLING, ExitFacts(exit_code=1, stopped_by="cancel"), "abort", None),
        (CANCELLING, ExitFacts(stopped_by="cancel"), "abort", None),
        (CANCELLING, LOST, "abort", None),
        ({**CANCELLING, **FIRST}, STOPPED, "abort", None),
        ({**CANCELLING, **FIRST}, LOST, "abort", None),
        # the script ended before the cancel reached it; it is not retried
        (CANCELLING, SUCCESS, "complete", None),
        (CANCELLING, FAILURE, "fail", "exit_nonzero"),
        (CANCELLING, TIMED_OUT, "fail", "timeout"),
        ({**CANCELLING, **FIRST}, SUCCESS, "complete", None),
        ({**CANCELLING, **FIRST}, FAILURE, "fail", "exit_nonzero"),
        ({**CANCELLING, **FIRST, "retry_delay": 5}, SEGV, "fail", "signalled"),
        # the shim saw the cancel file before the row said that a cancel was requested
        ({}, STOPPED, "abort", None),
        (FIRST, STOPPED, "abort", None),
    ],
)
def test_the_outcome_follows_from_how_the_run_ended(
    fields: Any, facts: ExitFacts, verb: str, code: Any
) -> None:
    result = outcome(a_job(status=RUNNING, **{"attempt": 1, **fields}), facts, NOW)
    assert result.verb == verb
    assert (result.error and result.error.code) == code
    assert (result.run_at is not None) == (verb == "postpone")


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
    cancelling=st.booleans(),
)
def test_any_outcome_is_a_transition_from_running_and_can_be_shown(
    facts: ExitFacts, attempt: int, max_attempts: int, retry_delay: float, cancelling: bool
) -> None:
    job = a_job(
        status=RUNNING,
        attempt=attempt,
        max_attempts=max_attempts,
        retry_delay=retry_delay,
        cancel_requested_at=NOW if cancelling else None,
    )
    verb, error, run_at = outcome(job, facts, NOW)
    froms, to = TRANSITIONS[verb]
    assert RUNNING in froms
    assert (error is None) == (to in (COMPLETED, CANCELLED))
    assert to in TERMINAL or (attempt < max_attempts and not cancelling)
    if run_at is not None:
        assert NOW <= run_at <= NOW + MAX_RETRY_DELAY
        job.model_copy(update={"run_at": run_at}).model_dump_json()


def test_the_delay_of_a_retry_doubles_with_each_attempt() -> None:
    delays = []
    for attempt in range(1, 6):
        job = a_job(status=RUNNING, attempt=attempt, max_attempts=9, retry_delay=1.5)
        delays.append((outcome(job, FAILURE, NOW).run_at or 0) - NOW)
    assert delays == [1.5, 3, 6, 12, 24]


def test_the_delay_of_a_retry_is_at_most_a_year() -> None:
    job = a_job(status=RUNNING, attempt=100, max_attempts=101, retry_delay=86400)
    assert outcome(job, FAILURE, NOW).run_at == NOW + 365 * 86400


@pytest.mark.parametrize(
    "fields, facts, words",
    [
        ({}, FAILURE, ["/srv/a.py", "exit code 3", "printed nothing"]),
        ({}, FAILURE._replace(quote="KeyError: 'x'"), ["exit code 3: KeyError: 'x'"]),
        ({}, FAILURE._replace(quote=None), ["exit code 3; the end", "nothing is quoted"]),
        ({"script": None, "module": "jobs.a"}, FAILURE, ["jobs.a ended"]),
        ({"script": None, "type": "add"}, FAILURE, ["add ended"]),
        ({}, SEGV, ["/srv/a.py", "SIGSEGV"]),
        ({}, OUT_OF_MEMORY, ["memory"]),
        ({"timeout": 2_592_000}, TIMED_OUT, ["2592000 s", "longer timeout"]),
        ({"timeout": 0.5}, TIMED_OUT, ["0.5 s"]),
        ({}, SPAWN_FAILED, [str(SPAWN_FAILED.spawn_error)]),
        ({}, LOST, ["died", "retries"]),
    ],
)
def test_the_message_of_an_error_says_what_to_do(fields: Any, facts: ExitFacts, words: Any) -> None:
    error = outcome(a_job(status=RUNNING, attempt=1, **fields), facts, NOW).error
    assert error is not None
    for word in words:
        assert word in error.message


def test_the_error_of_an_expired_job_names_its_expires() -> None:
    error = expiry(2_592_000)
    assert error.code == "expired"
    assert "2592000 s" in error.message


@pytest.mark.parametrize("number, name", [(9, "SIGKILL"), (11, "SIGSEGV"), (42, "SIG42")])
def test_a_signal_has_a_name(number: int, name: str) -> None:
    assert signal_name(number) == name
