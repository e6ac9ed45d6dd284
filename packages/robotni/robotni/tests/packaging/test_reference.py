"""The generated reference in docs/ is up to date."""

import importlib.util
import re
from typing import Any, get_args

import pytest

from robotni.cli.main import main
from robotni.errors import RobotniError
from robotni.jobs.models import JobError
from robotni.jobs.states import STATES, TRANSITIONS
from robotni.settings import Settings
from robotni.tests.paths import ROOT
from robotni.web.problems import STATUS

OUTDATED = "the code has changed; generate the reference again with: make reference"


@pytest.fixture(scope="module")
def reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(reference: Any) -> None:
    for name, text in reference.pages().items():
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
        *STATUS,
        RobotniError.code,
        "host_not_allowed",
        "origin_not_allowed",
        "nothing_there_yet",
    }
    assert names <= words, f"{sorted(names - words)}: {OUTDATED}"
    for command in main.commands:
        assert f"## {command}\n" in docs, OUTDATED


def test_every_transition_is_an_arrow_of_the_picture() -> None:
    picture = (ROOT / "docs" / "lifecycle.svg").read_text(encoding="utf-8")
    labels = re.findall(r"<text [^>]*>([^<]+)</text>", picture)
    drawn = sorted(verb for label in labels for verb in label.split(", "))
    transitions = [verb for verb, (froms, _) in TRANSITIONS.items() for _ in froms]
    assert drawn == sorted([*transitions, *STATES])
