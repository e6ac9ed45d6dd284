"""Worker types: their headers, the check of their params, and the bundled scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from jsonschema import Draft202012Validator

from robotni.errors import InvalidRequest
from robotni.jobs.request import params_as_flags
from robotni.workers import CAPABILITIES, MAX_ERRORS, Registry, WorkerType, read_worker_type

HEADER = """\
# /// script
# requires-python = ">=3.8"
# dependencies = []
#
# [tool.robotni]
# type = "resize"
# title = "Resize"
# description = "Makes an image smaller."
#
# [tool.robotni.params]
# type = "object"
# required = ["size"]
#
# [tool.robotni.params.properties.size]
# type = "array"
# items = { type = "integer", maximum = 9 }
# ///
"""
RAISES = 'raise SystemExit("a header must be read without running the script")\n'


def write(folder: Path, text: str, name: str = "resize.py") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def problems(worker_type: WorkerType, params: Dict[str, Any]) -> List[Any]:
    with pytest.raises(InvalidRequest) as caught:
        worker_type.check_params(params)
    return [(error.pointer, error.detail) for error in caught.value.errors]


@pytest.fixture
def resize(tmp_path: Path) -> WorkerType:
    return read_worker_type(write(tmp_path, HEADER + RAISES))


# headers


def test_a_header_is_read_without_running_the_script(tmp_path: Path) -> None:
    script = write(tmp_path, f"#!/usr/bin/env python3\n{HEADER}\n{RAISES}")
    found = read_worker_type(script)
    assert (found.type, found.title, found.script) == ("resize", "Resize", script)
    assert found.description == "Makes an image smaller."
    assert found.params_schema["properties"]["size"]["items"] == {"type": "integer", "maximum": 9}


def test_the_path_of_the_script_of_a_type_is_not_shown(resize: WorkerType) -> None:
    shown = json.loads(resize.model_dump_json(by_alias=True))
    assert set(shown) == {"type", "title", "description", "capabilities", "schema"}
    assert shown["capabilities"] == CAPABILITIES


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no '# /// script' block"),
        (RAISES, "no '# /// script' block"),
        (HEADER.replace("# ///\n", ""), "no '# /// script' block"),
        (HEADER.replace("# /// script", "# /// pyproject"), "no '# /// script' block"),
        (HEADER.replace("#\n# [tool.robotni]", "\n# [tool.robotni]"), "no '# /// script' block"),
        ("# /// script\n# dependencies = []\n# ///\n", "lacks 'tool'"),
        ("# /// script\n# [tool.other]\n# x = 1\n# ///\n", "lacks 'robotni'"),
        (HEADER.replace('# title = "Resize"\n', ""), "lacks 'title'"),
        (HEADER.replace("[tool.robotni.params", "[tool.robotni.other"), "lacks 'params'"),
        (HEADER.replace('"Resize"', "Resize"), "Invalid value"),
        (HEADER.replace('"Resize"', "5"), "valid string"),
    ],
)
def test_an_incomplete_header_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ValueError, match=words):
        Registry(tmp_path)


# the registry


def test_each_script_in_the_folder_is_a_type(tmp_path: Path) -> None:
    assert [t.type for t in Registry(tmp_path).list()] == ["python-script"]
    write(tmp_path, HEADER)
    write(tmp_path, RAISES, "_helper.py")
    write(tmp_path, "not a script", "notes.txt")
    assert [t.type for t in Registry(tmp_path).list()] == ["python-script", "resize"]


def test_the_bundled_types_are_listed_by_name() -> None:
    types = Registry().list()
    assert [t.type for t in types] == ["add", "fakejob", "python-script"]
    assert all(t.title and t.description.endswith(".") for t in types)
    assert [t.script is not None and t.script.is_file() for t in types] == [True, True, False]


@pytest.mark.parametrize("name", ["add", "fakejob", "python-script"])
def test_the_schema_of_a_bundled_type_is_valid_and_so_are_its_defaults(name: str) -> None:
    schema = Registry().get(name).params_schema
    Draft202012Validator.check_schema(schema)
    for field in schema.get("properties", {}).values():
        if "default" in field:
            Draft202012Validator(field).validate(field["default"])


def test_an_unknown_type_is_an_error_that_lists_the_types() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Registry().get("resize")
    assert caught.value.errors == [
        ("/type", "resize is not a worker type; the types are add, fakejob, python-script")
    ]


# params


@pytest.mark.parametrize(
    "name, params",
    [
        ("add", {"x": 5, "y": 3}),
        ("add", {"x": -(10**400), "y": 0}),
        ("add", {"x": 5.0, "y": 3}),  # the same number to JSON Schema
        ("fakejob", {}),
        ("fakejob", {"seconds": 0}),
        ("fakejob", {"seconds": 86400}),
        ("python-script", {}),
        ("python-script", {"any": ["thing", {"at": "all"}]}),
    ],
)
def test_params_that_fit_the_schema_are_accepted(name: str, params: Dict[str, Any]) -> None:
    Registry().get(name).check_params(params)


@pytest.mark.parametrize(
    "name, params, found",
    [
        ("add", {"y": 3}, [("/params", "'x' is a required property")]),
        ("add", {"x": "5", "y": 3}, [("/params/x", "'5' is not of type 'integer'")]),
        ("add", {"x": 5, "y": True}, [("/params/y", "True is not of type 'integer'")]),
        ("add", {"x": 1.5, "y": 3}, [("/params/x", "1.5 is not of type 'integer'")]),
        (
            "add",
            {"x": None, "y": "b"},
            [
                ("/params/x", "None is not of type 'integer'"),
                ("/params/y", "'b' is not of type 'integer'"),
            ],
        ),
        (
            "add",
            {"x": 5, "y": 3, "z": 1},
            [("/params", "Additional properties are not allowed ('z' was unexpected)")],
        ),
        ("fakejob", {"seconds": -1}, [("/params/seconds", "-1 is less than the minimum of 0")]),
        (
            "fakejob",
            {"seconds": 86401},
            [("/params/seconds", "86401 is greater than the maximum of 86400")],
        ),
    ],
)
def test_params_that_violate_the_schema_are_refused_with_a_pointer_to_each(
    name: str, params: Dict[str, Any], found: Any
) -> None:
    assert problems(Registry().get(name), params) == found


def test_a_pointer_reaches_into_lists_and_escapes_names(tmp_path: Path) -> None:
    header = HEADER.replace("properties.size]", 'properties."a/b~c"]').replace('"size"', "")
    odd = read_worker_type(write(tmp_path, header))
    assert problems(odd, {"a/b~c": [1, 10, "x"]}) == [
        ("/params/a~1b~0c/1", "10 is greater than the maximum of 9"),
        ("/params/a~1b~0c/2", "'x' is not of type 'integer'"),
    ]


def test_of_very_many_errors_few_are_reported_and_each_is_short(resize: WorkerType) -> None:
    found = problems(resize, {"size": ["x" * 10_000] * 1000})
    assert len(found) == MAX_ERRORS
    assert all(len(detail) < 300 for _, detail in found)


# the bundled scripts, run without robotni


def run(name: str, params: Dict[str, Any], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(Registry().get(name).script), *params_as_flags(params)],
        env={
            **os.environ,
            "ROBOTNI_RESULT": str(folder / "result"),
            "ROBOTNI_PROGRESS": str(folder / "progress"),
        },
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )


@pytest.mark.parametrize("x, y", [(5, 3), (-5, -3), (0, 0), (2.0, 3), (10**3000, 1 - 10**2999)])
def test_add_adds_integers_of_any_size(tmp_path: Path, x: Any, y: Any) -> None:
    done = run("add", {"x": x, "y": y}, tmp_path)
    assert done.returncode == 0
    assert json.loads((tmp_path / "result").read_text()) == int(x) + int(y)
    assert done.stdout == f"{int(x) + int(y)}\n"


def test_fakejob_reports_its_progress_and_its_result(tmp_path: Path) -> None:
    done = run("fakejob", {"seconds": 0.02}, tmp_path)
    assert (done.returncode, done.stdout) == (0, "waiting for 0.02 s\ndone\n")
    lines = (tmp_path / "progress").read_text().splitlines()
    percents = [float(line.split()[0]) for line in lines]
    assert percents == sorted(percents)
    assert (percents[0], lines[-1]) == (0, "100 done")
    assert json.loads((tmp_path / "result").read_text()) == {"seconds": 0.02}
