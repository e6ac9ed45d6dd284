"""The submit body: the bounds of every field, params as flags, and times."""

import argparse
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from robotni.jobs.models import Job, rfc3339
from robotni.jobs.request import (
    MAX_ARG_BYTES,
    MAX_DEPTH,
    YEAR,
    JobRequest,
    nests_deeper,
    params_as_flags,
    parse_rfc3339,
)

NOW = 1_790_000_000.0


def problems(**body: Any) -> List[Any]:
    """(location, message) of each problem of a body."""
    with pytest.raises(ValidationError) as caught:
        JobRequest.model_validate(body)
    return [(e["loc"], e["msg"].replace("Value error, ", "")) for e in caught.value.errors()]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_an_empty_body_has_the_defaults_of_the_contract() -> None:
    assert JobRequest.model_validate({}).model_dump(by_alias=True) == {
        "type": "python-script",
        "project": "default",
        "script": None,
        "module": None,
        "venv": None,
        "args": [],
        "params": {},
        "env": {},
        "cwd": None,
        "stdin": None,
        "warm": None,
        "preload": None,
        "timeout": None,
        "expires": None,
        "retries": 0,
        "retryDelay": 0,
        "delay": None,
        "runAt": None,
    }


@pytest.mark.parametrize(
    "preload", [["numpy; import os"], [""], ["a..b"], ["é"], ["a" * 256], ["numpy"] * 33, "numpy"]
)
def test_preload_takes_only_a_list_of_module_names(preload: Any) -> None:
    ((location, _),) = problems(preload=preload)
    assert location[0] == "preload"


@pytest.mark.parametrize("name", ["scirpt", "run_at", "retry_delay", "jobId", "status", ""])
def test_an_unknown_field_is_refused_with_its_name(name: str) -> None:
    ((location, message),) = problems(**{name: 1})
    assert location == (name,) and "not permitted" in message


def test_all_problems_are_reported_at_once() -> None:
    found = problems(script="", venv="~/v", args="-n", timeout=0, retries=-1, runAt="now", x=1)
    assert {location[0] for location, _ in found} == {
        "script", "venv", "args", "timeout", "retries", "runAt", "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    "field, value",
    [
        ("type", "add"),
        ("type", "a" * 64),
        ("project", "A.b_c-9"),
        ("project", "p" * 64),
        ("script", "/srv/jobs/hello world.py"),
        ("script", "jobs/..hidden..py"),
        ("script", "-c"),
        ("script", "é/\U0001f600.py"),
        ("script", "x" * 4096),
        ("module", "jobs.nightly"),
        ("module", "_a.b9"),
        ("args", ["--n", "3", "", "; rm -rf /", "$(id)", "a\nb"]),
        ("args", ["x"] * 100),
        ("args", ["x" * (MAX_ARG_BYTES - 1)]),
        ("params", {"x": 10**1000}),
        ("params", {"x": nested(MAX_DEPTH - 1)}),
        ("params", {"x": "y" * 100_000}),
        ("params", {"tag": ["a"] * 500}),
        ("env", {"API_URL": "http://x", "_": "", "pythonpath": "lower case is another name"}),
        ("env", {"X": "y" * 100_000}),
        ("env", {f"V{n}": "" for n in range(100)}),
        ("stdin", ""),
        ("stdin", "a\0b\n" * 1000),
        ("timeout", 0.001),
        ("timeout", 1e9),
        ("expires", YEAR),
        ("retries", 0),
        ("retries", 100),
        ("retryDelay", 0),
        ("retryDelay", 86400),
        ("delay", 0),
        ("delay", YEAR),
        ("runAt", "2026-11-22T12:00:00Z"),
    ],
)
def test_a_value_within_the_bounds_is_accepted(field: str, value: Any) -> None:
    assert JobRequest.model_validate({field: value}).model_dump(by_alias=True)[field] == value


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("type", "Python", "pattern"),
        ("type", "", "pattern"),
        ("type", "add\n", "pattern"),
        ("type", "a" * 65, "at most 64"),
        ("type", None, "string"),
        ("project", "", "at least 1"),
        ("project", "a b", "pattern"),
        ("project", "<img>", "pattern"),
        ("project", "a\n", "pattern"),
        ("project", "p" * 65, "at most 64"),
        ("script", 5, "string"),
        ("script", ["a.py"], "string"),
        ("module", "", "module name"),
        ("module", "a-b", "module name"),
        ("module", "a..b", "module name"),
        ("module", ".a", "module name"),
        ("module", "a.b\n", "module name"),
        ("module", "9a", "module name"),
        ("module", "a/b", "module name"),
        ("module", "m" * 256, "at most 255"),
        ("args", "--n 3", "list"),
        ("args", [3], "string"),
        ("args", ["a\0b"], "NUL"),
        ("args", ["x"] * 101, "at most 100"),
        ("args", ["x" * MAX_ARG_BYTES], "32 KiB"),
        ("args", ["é" * (MAX_ARG_BYTES // 2)], "32 KiB"),
        ("args", ["\ud800"], "surrogates"),
        ("params", [], "dict"),
        ("params", {"": 1}, "name of a flag"),
        ("params", {"-x": 1}, "name of a flag"),
        ("params", {"a b": 1}, "name of a flag"),
        ("params", {"a=b": 1}, "name of a flag"),
        ("params", {"x\n": 1}, "name of a flag"),
        ("params", {"p" * 256: 1}, "name of a flag"),
        ("params", {"x": "a\0b"}, "NUL"),
        ("params", {"x": ["a\0b"]}, "NUL"),
        ("params", {"x": "y" * 100_001}, "too long"),
        ("params", {"x": "é" * 50_001}, "too long"),
        ("params", {"x": "\ud800"}, "surrogates"),
        ("params", {"x": ["a"] * 501}, "too many"),
        ("params", {"x": nested(MAX_DEPTH)}, "nested too deeply"),
        ("params", {"x": {"y": nested(900)}}, "nested too deeply"),
        ("env", {"A B": ""}, "name of a variable"),
        ("env", {"": ""}, "name of a variable"),
        ("env", {"9A": ""}, "name of a variable"),
        ("env", {"A=B": ""}, "name of a variable"),
        ("env", {"A\n": ""}, "name of a variable"),
        ("env", {"É": ""}, "name of a variable"),
        ("env", {"A" * 256: ""}, "name of a variable"),
        ("env", {"A": 1}, "string"),
        ("env", {"A": None}, "string"),
        ("env", {"A": "b\0"}, "NUL"),
        ("env", {"A": "é" * 50_001}, "100,000 bytes"),
        ("env", {f"V{n}": "" for n in range(101)}, "at most 100"),
        ("env", [["A", "b"]], "dict"),
        ("stdin", 5, "string"),
        ("timeout", 0, "greater than 0"),
        ("timeout", -1, "greater than 0"),
        ("timeout", float("nan"), "finite"),
        ("timeout", float("inf"), "finite"),
        ("timeout", "5", "number"),
        ("timeout", True, "number"),
        ("timeout", 10**400, "number"),
        ("expires", 0, "greater than 0"),
        ("expires", YEAR + 1, "less than or equal"),
        ("retries", -1, "greater than or equal to 0"),
        ("retries", 101, "less than or equal to 100"),
        ("retries", 10**400, "less than or equal to 100"),
        ("retries", 1.5, "integer"),
        ("retries", True, "integer"),
        ("retries", "1", "integer"),
        ("retries", None, "integer"),
        ("retryDelay", -0.1, "greater than or equal to 0"),
        ("retryDelay", 86401, "less than or equal to 86400"),
        ("retryDelay", float("nan"), "finite"),
        ("delay", -1, "greater than or equal to 0"),
        ("delay", YEAR + 1, "less than or equal"),
        ("runAt", 1_790_000_000, "string"),
        ("runAt", "tomorrow", "RFC 3339"),
        ("runAt", "2026-11-22T12:00:00", "zone is missing"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_field_and_a_sentence(
    field: str, value: Any, words: str
) -> None:
    ((location, message),) = problems(**{field: value})
    assert location[0] == field and words in message


@pytest.mark.parametrize("field", ["script", "venv", "cwd"])
@pytest.mark.parametrize(
    "path, words",
    [
        ("", "empty"),
        ("..", "'..'"),
        ("../x.py", "'..'"),
        ("a/../../x.py", "'..'"),
        ("/srv/app/..", "'..'"),
        ("a\0.py", "control character"),
        ("a\n.py", "control character"),
        ("a\x7f.py", "control character"),
        ("a\x1b[31m.py", "control character"),
        ("~/x.py", "not expanded"),
        ("~root/x.py", "not expanded"),
        ("file:///etc/passwd", "not expanded"),
        ("https://evil.example/x.py", "not expanded"),
        ("a\ud800.py", "unicode"),
        ("x" * 4097, "at most 4096"),
    ],
)
def test_a_malformed_path_is_refused(field: str, path: str, words: str) -> None:
    ((location, message),) = problems(**{field: path})
    assert location == (field,) and words in message


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "BASH_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP",
        "PYTHON", "ROBOTNI_JOB_ID", "ROBOTNI_TOKEN", "ROBOTNI_ANYTHING",
    ],
)  # fmt: skip
def test_env_may_not_set_variables_that_decide_which_code_runs(name: str) -> None:
    ((location, message),) = problems(env={name: "x"})
    assert location == ("env",) and message.startswith(f"{name} may not be set")


@pytest.mark.parametrize("name", ["MYPATH", "PATHS", "XLD_A", "MY_PYTHON", "ROBOTNI"])
def test_env_may_set_names_that_only_resemble_these(name: str) -> None:
    assert JobRequest(env={name: "x"}).env == {name: "x"}


def test_no_value_of_env_is_shown_in_a_problem() -> None:
    found = str(problems(env={"A": "s3cret\0"})) + str(problems(env={"A": "s3cret" * 20_000}))
    assert "s3cret" not in found


def test_delay_and_run_at_exclude_each_other() -> None:
    ((_, message),) = problems(delay=1, runAt="2026-11-22T12:00:00Z")
    assert "exclude each other" in message


def test_the_time_when_a_job_is_due() -> None:
    assert JobRequest().due_at(NOW) is None
    assert JobRequest(delay=0).due_at(NOW) is None
    assert JobRequest(delay=1.5).due_at(NOW) == NOW + 1.5
    assert JobRequest.model_validate({"runAt": rfc3339(NOW - 5)}).due_at(NOW) == NOW - 5


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        JobRequest(script="a.py").script = "../b.py"


# params


@pytest.mark.parametrize(
    "params, flags",
    [
        ({}, []),
        ({"x": 5}, ["--x", "5"]),
        ({"x": 0}, ["--x", "0"]),
        ({"x": 1.5}, ["--x", "1.5"]),
        ({"x": 5.0}, ["--x", "5"]),
        ({"x": [-2.0, {"a": 1.0}]}, ["--x=-2", "--x", '{"a": 1.0}']),
        ({"x": "text"}, ["--x", "text"]),
        ({"x": ""}, ["--x", ""]),
        ({"x": "a b; $(id)"}, ["--x", "a b; $(id)"]),
        ({"x": "é"}, ["--x", "é"]),
        ({"dry": True}, ["--dry"]),
        ({"dry": False, "n": None}, []),
        ({"tag": ["a", "b", 3]}, ["--tag", "a", "--tag", "b", "--tag", "3"]),
        ({"tag": []}, []),
        ({"v": [True, False, None, "x"]}, ["--v", "--v", "x"]),
        ({"where": {"a": [1]}}, ["--where", '{"a": [1]}']),
        ({"pair": [[1, 2]]}, ["--pair", "[1, 2]"]),
        ({"b": 1, "a": 2}, ["--b", "1", "--a", "2"]),
        ({"x": 10**30}, ["--x", "1" + "0" * 30]),
        ({"x": -5}, ["--x=-5"]),
        ({"x": -1e-05}, ["--x=-1e-05"]),
        ({"x": "--help"}, ["--x=--help"]),
        ({"x": ["-a", "b"]}, ["--x=-a", "--x", "b"]),
        ({"x": "-"}, ["--x=-"]),
    ],
)
def test_params_become_flags(params: Any, flags: Any) -> None:
    assert params_as_flags(params) == flags
    assert JobRequest(params=params).params == params


@settings(deadline=None)
@given(
    x=st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
)
def test_argparse_reads_the_params_back_from_the_flags(x: float, text: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--x", type=type(x))
    parser.add_argument("--text")
    read = parser.parse_args(params_as_flags({"x": x, "text": text}))
    assert (read.x, read.text) == (x, text)


@pytest.mark.parametrize("levels", [0, 1, 7])
def test_the_depth_of_nested_json_is_measured(levels: int) -> None:
    assert nests_deeper(nested(levels), levels - 1) if levels else not nests_deeper(1, 0)
    assert not nests_deeper(nested(levels), levels)


def test_the_deepest_params_allowed_can_be_shown_again() -> None:
    params = {"x": nested(MAX_DEPTH - 1)}
    job = Job(job_id="0" * 32, timestamp=NOW, params=JobRequest(params=params).params)
    assert json.loads(job.model_dump_json())["params"] == params


# times


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("1971-01-01T00:00:00Z", 31_536_000),
        ("2026-09-21T14:13:20Z", NOW),
        ("2026-09-21t14:13:20z", NOW),
        ("2026-09-21 14:13:20Z", NOW),
        ("2026-09-21T14:13:20.5Z", NOW + 0.5),
        ("2026-09-21T14:13:20.123456789Z", NOW + 0.123456),
        ("2026-09-21T14:13:20.000Z", NOW),
        ("2026-09-21T16:13:20+02:00", NOW),
        ("2026-09-21T08:43:20.25-05:30", NOW + 0.25),
        ("2026-09-21T14:13:20-00:00", NOW),
        ("2024-02-29T00:00:00Z", 1_709_164_800),
        ("2199-12-31T23:59:59Z", 7_258_118_399),
    ],
)
def test_a_time_is_read_the_same_on_every_python(text: str, seconds: float) -> None:
    assert parse_rfc3339(text) == seconds


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not an RFC 3339 time"),
        ("now", "not an RFC 3339 time"),
        ("2026-11-22", "not an RFC 3339 time"),
        ("2026-11-22T12:00Z", "not an RFC 3339 time"),
        ("20261122T120000Z", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00.Z", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00,5Z", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00+0200", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00+02", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00 Europe/Berlin", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00Z\n", "not an RFC 3339 time"),
        ("٢٠٢٦-11-22T12:00:00Z", "not an RFC 3339 time"),
        ("2026-W47-7T12:00:00Z", "not an RFC 3339 time"),
        ("1790000000", "not an RFC 3339 time"),
        ("2026-11-22T12:00:00", "zone is missing"),
        ("2026-11-22T12:00:00.5", "zone is missing"),
        ("2026-13-01T12:00:00Z", "no such day or hour"),
        ("2026-02-29T12:00:00Z", "no such day or hour"),
        ("2026-11-22T24:00:01Z", "no such day or hour"),
        ("2026-11-22T12:00:61Z", "no such day or hour"),
        ("2026-11-22T12:00:00+24:00", "no such day or hour"),
        ("0000-01-01T00:00:00Z", "no such day or hour"),
        ("1970-12-31T23:59:59Z", "out of range"),
        ("2200-01-01T00:00:00Z", "out of range"),
        ("9999-12-31T23:59:59-23:59", "out of range"),
    ],
)
def test_a_wrong_time_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_rfc3339(text)
    assert "2026-11-22T12:00:00Z" in str(caught.value)


LIKE_A_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
TIMES = st.datetimes(datetime(1971, 1, 3), datetime(2199, 12, 29), timezones=ZONES)


@settings(deadline=None)
@given(TIMES)
def test_a_time_in_any_zone_is_read_back_as_it_was_written(when: datetime) -> None:
    assert parse_rfc3339(when.isoformat()) == when.timestamp()
    milliseconds = round(when.timestamp() * 1000)
    assert round(parse_rfc3339(rfc3339(when.timestamp())) * 1000) == milliseconds


@settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(re.compile(LIKE_A_TIME, re.ASCII), fullmatch=True))
def test_any_text_is_a_time_or_gets_a_sentence(text: str) -> None:
    try:
        rfc3339(parse_rfc3339(text))
    except ValueError as error:
        assert "write it like" in str(error)
