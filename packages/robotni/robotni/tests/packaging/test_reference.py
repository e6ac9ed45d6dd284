"""The generated reference in docs/ is up to date."""

import importlib
import re
from typing import Any, Set, Tuple, get_args

import pytest

from robotni.cli.main import main
from robotni.errors import RobotniError
from robotni.jobs.models import JobError
from robotni.jobs.states import STATES, TRANSITIONS
from robotni.settings import Settings
from robotni.tests.paths import PACKAGE, ROOT
from robotni.web.problems import STATUS

OUTDATED = "the code has changed; generate the reference again with: make reference"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of tools/, by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def test_the_reference_is_up_to_date(tool: Any) -> None:
    for name, text in tool("reference").pages().items():
        written = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert written == text, f"docs/{name}: {OUTDATED}"


def test_every_command_setting_state_transition_and_code_is_in_the_docs() -> None:
    docs = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md"))
    words = set(re.findall(r"[A-Za-z_]+", docs))
    names = {
        *(f"ROBOTNI_{name.upper()}" for name in Settings.model_fields if name != "project_folder"),
        *(name for name, command in main.commands.items() if not command.hidden),
        *STATES,
        *TRANSITIONS,
        *get_args(JobError.model_fields["code"].annotation),
    }
    assert names <= words, f"{sorted(names - words)}: {OUTDATED}"
    for command in main.commands:
        assert f"## {command}\n" in docs, OUTDATED


def test_every_error_of_the_api_is_explained(tool: Any) -> None:
    """Those mapped from robotni's errors, and those that middleware answers with by itself."""
    mapped = {(status, code) for code, status in STATUS.items()} | {(500, RobotniError.code)}
    written: Set[Tuple[int, str]] = set()
    for path in PACKAGE.glob("web/**/*.py"):
        found = re.findall(r"\(\s*([45]\d\d),\s*\"([a-z_]+)\"", path.read_text(encoding="utf-8"))
        written |= {(int(status), code) for status, code in found}
    assert (403, "host_not_allowed") in written
    by_framework = {(405, "method_not_allowed")}
    assert mapped | written | by_framework == set(tool("http_texts").ERRORS)


def test_every_transition_is_an_arrow_of_the_picture() -> None:
    picture = (ROOT / "docs" / "lifecycle.svg").read_text(encoding="utf-8")
    labels = re.findall(r"<text [^>]*>([^<]+)</text>", picture)
    drawn = sorted(verb for label in labels for verb in label.split(", "))
    transitions = [verb for verb, (froms, _) in TRANSITIONS.items() for _ in froms]
    assert drawn == sorted([*transitions, *STATES])
