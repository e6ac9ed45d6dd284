"""The header of a script: how its block is found, and the warm options in it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robotni.errors import InvalidRequest
from robotni.jobs.request import JobRequest
from robotni.jobs.script_header import find_block
from robotni.tests.conftest import House

HEADER = """# /// script
# dependencies = []
# [tool.robotni]
# warm = true
# preload = ["numpy", "os.path"]
# ///
"""


@pytest.mark.parametrize(
    "text, request_says, expected",
    [
        ("", {}, (False, [])),
        ("", {"warm": True}, (True, [])),
        ("", {"warm": True, "preload": ["json"]}, (True, ["json"])),
        (HEADER, {}, (True, ["numpy", "os.path"])),
        (HEADER.replace("\n", "\r\n"), {}, (True, ["numpy", "os.path"])),
        (HEADER, {"warm": False}, (False, [])),
        (HEADER, {"preload": []}, (True, [])),
        (HEADER, {"preload": ["json"]}, (True, ["json"])),
        (HEADER.replace("true", "false"), {"warm": True}, (True, ["numpy", "os.path"])),
        (HEADER.replace("# warm = true\n", ""), {}, (False, [])),
        (HEADER.replace("true", "yes"), {}, (False, [])),  # not TOML, which other tools report
        ("#" * 70_000 + "\n" + HEADER, {}, (False, [])),  # too far from the start of the script
        (HEADER.replace("true", "[" * 8000), {}, (False, [])),
        ("# /// script\n" + "# #robotni\n" * 1000 + "# ///\n", {}, (False, [])),
    ],
)  # fmt: skip
def test_the_warm_options_of_the_request_override_those_of_the_header(
    house: House, text: str, request_says: Any, expected: Any
) -> None:
    script = house.script(text)
    request = {"script": script, "venv": ".venv", **request_says}
    job = house.engine.submit(JobRequest.model_validate(request)).job
    assert (job.warm, job.preload) == expected
    house.engine.cancel(job.job_id)
    again = house.engine.retry(job.job_id)
    stored = house.store.get(again.job_id)
    assert stored is not None
    assert (stored.warm, stored.preload) == expected


@pytest.mark.parametrize(
    "text, request_says, pointer, words",
    [
        (HEADER.replace("true", "1"), {}, "/script", "true or false"),
        (HEADER.replace('["numpy", "os.path"]', '"numpy"'), {}, "/script", "a list"),
        (HEADER.replace("os.path", "os path"), {}, "/script", "module names"),
        (HEADER.replace("true", '"' + "x" * 8192 + '"'), {}, "/script", "over 8192 characters"),
        (HEADER.replace('["numpy", "os.path"]', str(["a"] * 33)), {}, "/script", "at most 32"),
        ("", {"preload": ["json"]}, "/preload", "add warm: true"),
        ("", {"preload": ["json"], "warm": False}, "/preload", "add warm: true"),
    ],
)
def test_wrong_warm_options_are_refused_with_a_sentence(
    house: House, text: str, request_says: Any, pointer: str, words: str
) -> None:
    request = {"script": house.script(text), "venv": ".venv", **request_says}
    with pytest.raises(InvalidRequest) as caught:
        house.engine.submit(JobRequest.model_validate(request))
    ((found, detail),) = caught.value.errors
    assert found == pointer and words in detail


LINES = ("# /// script", "# ///", "#", "# x = 1", "#y", "", "pass", "# /// other")
# The pattern of PEP 723, with the first start and the first end.
BLOCK = re.compile(r"(?m)^# /// script$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///$")


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_the_block_is_the_one_that_pep_723_finds(lines: List[str]) -> None:
    text = "\n".join(lines)
    match = BLOCK.search(text)
    expected = match and "\n".join(line[2:] for line in match["body"].split("\n")[:-1])
    assert find_block(text) == expected


PARSE_20_TIMES = """
import signal, sys
from robotni.jobs.script_header import parse_warm_options
signal.alarm(20)  # seconds; parsing one of these once took 2 s, the other 10 s
assert {parse_warm_options(open(sys.argv[1]).read()).warm for _ in range(20)} == {False}
"""
DOTS = "# /// script\n# a" + ".a" * 30_000 + " = 1\n# ///\n"


@pytest.mark.parametrize("text", ["# /// script\n" * 5000, DOTS])
def test_a_malicious_header_is_parsed_quickly(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.py").write_text(text)
    subprocess.run([sys.executable, "-c", PARSE_20_TIMES, str(tmp_path / "odd.py")], check=True)


def test_a_bundled_type_has_no_warm_options(house: House) -> None:
    with pytest.raises(InvalidRequest) as caught:
        house.engine.submit(
            JobRequest(type="add", params={"x": 1, "y": 2}, warm=True, preload=["json"])
        )
    assert [pointer for pointer, _ in caught.value.errors] == ["/warm", "/preload"]
