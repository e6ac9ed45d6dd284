"""Installs from a copy of the sources, as a user would: empty environments and pip."""

import os
import shutil
import subprocess
import sys
import tarfile
import uuid
import zipfile
from pathlib import Path

import pytest

import robotni
from robotni.tests.paths import PACKAGE

SOURCES = PACKAGE.parent
ENVIRON = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ROBOTNI_"))
}


def run(*command, cwd):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=str(cwd),
        check=False,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    copy = tmp_path_factory.mktemp("sources") / "robotni"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "venv")
    return Path(shutil.copytree(str(SOURCES), str(copy), ignore=ignored))


@pytest.fixture(scope="module")
def venv(sources, tmp_path_factory):
    """An environment into which nothing but the entries were installed."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    pip(folder, "install", "-e", ".", cwd=sources / "robotni_huey")
    return folder


def pip(venv, *arguments, cwd):
    return run(venv / "bin/python", "-m", "pip", "-q", *arguments, cwd=cwd)


def assert_sees_an_edit(venv, sources):
    mark = uuid.uuid4().hex
    with open(sources / "robotni/__init__.py", "a") as file:
        file.write(f"\nMARK = '{mark}'\n")
    seen = run(venv / "bin/python", "-c", "import robotni; print(robotni.MARK)", cwd=venv)
    assert seen.strip() == mark


def test_an_edit_is_seen_after_installing_the_entries_alone(venv, sources):
    assert_sees_an_edit(venv, sources)
    run(venv / "bin/python", "-m", "pip", "check", cwd=venv)


def test_the_entries_bring_the_commands(venv):
    assert "serve" in run(venv / "bin/robotni", "--help", cwd=venv)
    assert "huey_instance" in run(venv / "bin/huey_consumer", "--help", cwd=venv)
    assert "huey_instance" in run(venv / "bin/huey_consumer.py", "--help", cwd=venv)


def test_the_entries_are_found_from_their_folder_and_need_nothing_else(venv, sources):
    code = "from main import app; from huey_app import huey"
    run(venv / "bin/python", "-W", "error", "-c", code, cwd=sources / "robotni_huey")


def test_an_edit_is_seen_when_robotni_is_installed_after_the_entries(venv, sources):
    pip(venv, "install", "--no-deps", "-e", ".", cwd=sources)
    assert_sees_an_edit(venv, sources)


def test_an_edit_is_seen_when_robotni_is_installed_before_the_entries(venv, sources):
    pip(venv, "uninstall", "-y", "robotni", "robotni_huey", cwd=sources)
    for distribution in (".", "robotni_huey"):
        pip(venv, "install", "--no-deps", "-e", distribution, cwd=sources)
        assert_sees_an_edit(venv, sources)
    run(venv / "bin/robotni", "--help", cwd=venv)


def test_wheel_and_sdist_hold_the_page_and_the_workers_but_not_the_tests(sources, tmp_path):
    run(sys.executable, "-m", "build", "--outdir", tmp_path, sources, cwd=tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}

    wanted = {
        path.relative_to(sources).as_posix()
        for folder in ("web", "workers")
        for path in (sources / "robotni" / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"robotni/workers/add.py", "robotni/workers/fakejob.py"} < wanted
    assert any(name.startswith("robotni/web/") for name in wanted)
    for names in (in_wheel, in_sdist):
        assert wanted <= names
        assert any(name.endswith("LICENSE") for name in names)
        assert not [name for name in names if "tests" in name or "robotni_huey" in name]


def test_the_wheel_of_the_entries_depends_on_robotni_of_the_same_version(sources, tmp_path):
    folder = sources / "robotni_huey"
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, folder, cwd=tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {"robotni_huey/main.py", "robotni_huey/huey_app.py"} < set(names)
    assert f"Requires-Dist: robotni=={robotni.__version__}\n" in metadata
