"""The Next.js example: compiled, its types as the server's document says, its tests on Node.

On the newest Python only: an older framework writes the document a little differently.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from robotni.tests.calls import serving
from robotni.tests.paths import EXAMPLES
from robotni.tests.processes import Server

EXAMPLE = EXAMPLES / "nextjs"
LEFT_OUT = shutil.ignore_patterns("node_modules", "build", ".next")
TOKEN = "token-of-this-test"

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 9), reason="what the example says does not depend on Python"
)


def run(folder: Path, *command: str, **environ: Any) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, exactly those of the lock file."""
    if shutil.which("npm") is None:
        if os.environ.get("REQUIRE_NODE"):
            pytest.fail("there is no npm here; install Node.js 18 or newer")
        pytest.skip("there is no npm here; with Node.js 18 or newer this runs")
    folder = tmp_path_factory.mktemp("nextjs") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=LEFT_OUT)
    run(folder, "npm", "ci", "--silent")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(EXAMPLE / "jobs", project / "jobs")
    yield from serving(project, token=TOKEN)


def test_it_compiles_under_strict_rules(example: Path) -> None:
    run(example, "npm", "run", "--silent", "check")


def test_the_types_are_those_of_the_document(example: Path, server: Server) -> None:
    committed = (example / "lib" / "openapi.ts").read_text(encoding="utf-8")
    run(example, "npm", "run", "--silent", "types", "--", f"{server.url}/openapi.json")
    generated = (example / "lib" / "openapi.ts").read_text(encoding="utf-8")
    assert generated == committed, "the API has changed; write the types anew with: make reference"


def test_handlers_and_hook_do_what_they_say(example: Path, server: Server) -> None:
    run(example, "npm", "run", "--silent", "build")
    run(example, "npm", "run", "--silent", "test", ROBOTNI_URL=server.url, ROBOTNI_TOKEN=TOKEN)


def test_the_lock_names_no_registry_and_a_digest_for_each_package() -> None:
    lock = json.loads((EXAMPLE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: about for name, about in lock["packages"].items() if name}
    assert packages
    for name, about in packages.items():
        assert "resolved" not in about, name
        assert about["integrity"].startswith("sha512-"), name
    wanted = json.loads((EXAMPLE / "package.json").read_text(encoding="utf-8"))
    for versions in (wanted["dependencies"], wanted["devDependencies"]):
        for name, version in versions.items():
            assert packages[f"node_modules/{name}"]["version"] == version, "pin it exactly"
