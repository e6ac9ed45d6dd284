"""Preflight on real files: which paths a job may have, and the sentence for each problem."""

import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotni.engine.preflight import JobPaths, Preflight, venv_problem, venv_python
from robotni.errors import InvalidRequest
from robotni.settings import load_settings
from robotni.tests.processes import make_venv

Check = Callable[..., Dict[str, str]]


def problems_of(preflight: Preflight, **names: Optional[str]) -> Dict[str, str]:
    """The problems of a job's paths by pointer; empty when there are none."""
    paths = preflight.resolve(
        names.get("script"), names.get("module"), names.get("venv"), names.get("cwd")
    )
    try:
        preflight.check(paths)
    except InvalidRequest as error:
        return dict(error.errors)
    return {}


@pytest.fixture
def check(project: Path) -> Check:
    """Checks paths with the project folder as the only root."""
    preflight = Preflight(project, (project,))
    return lambda **names: problems_of(preflight, **names)


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the project, with a script, a venv and a module."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "there.py").write_text("")
    (folder / "package").mkdir()
    (folder / "package" / "__main__.py").write_text("")
    make_venv(folder / "venv")
    (folder / "link.py").symlink_to("package/__main__.py")
    (folder / "link").symlink_to("/usr", target_is_directory=True)
    return folder


def test_a_script_and_its_venv_may_be_relative_or_absolute_paths(
    check: Check, project: Path
) -> None:
    assert check(script="hello.py", venv=".venv") == {}
    assert check(script=f"{project}/hello.py", venv=f"{project}/.venv", cwd=str(project)) == {}
    assert check(script="./hello.py", venv=".venv/", cwd=".") == {}


def test_relative_paths_start_at_the_project_folder(project: Path) -> None:
    preflight = Preflight(project, (project,))
    paths = preflight.resolve("jobs//a.py", None, ".venv/", None)
    assert paths == JobPaths(f"{project}/jobs/a.py", None, f"{project}/.venv", str(project))
    assert preflight.resolve(None, "jobs.a", None, "jobs") == JobPaths(
        None, "jobs.a", None, f"{project}/jobs"
    )


def test_all_problems_are_reported_at_once(check: Check) -> None:
    assert set(check(script="no.py", venv="no", cwd="no")) == {"/script", "/venv", "/cwd"}


# scripts


def test_a_missing_script_is_refused(check: Check, project: Path) -> None:
    assert check(script="no.py") == {
        "/script": f"{project}/no.py does not exist; give the path of a Python script"
    }


@pytest.mark.parametrize(
    "name",
    ["-c", "hello.py/x", "x" * 300, "a/" * 2000 + "b"],
    ids=["option", "below a file", "long name", "long path"],
)
def test_a_path_that_no_file_can_have_does_not_exist(check: Check, name: str) -> None:
    assert "does not exist" in check(script=name)["/script"]


@pytest.mark.parametrize(
    "make, words",
    [
        (os.mkdir, "is a folder"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: os.symlink("/dev/null", path), "is outside the folders"),
        (lambda path: os.symlink("loop.py", path), "does not exist"),
        (lambda path: os.symlink("gone.py", path), "does not exist"),
        (lambda path: os.symlink(".venv", path), "is a folder"),
    ],
)
def test_a_script_must_be_a_regular_file_and_the_check_never_blocks(
    check: Check, project: Path, make: Any, words: str
) -> None:
    make(project / "loop.py")
    begin = time.monotonic()
    found = check(script="loop.py")
    assert time.monotonic() - begin < 1
    assert words in found["/script"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_script_is_refused(check: Check, project: Path) -> None:
    (project / "hello.py").chmod(0)
    assert "cannot be read" in check(script="hello.py")["/script"]


def test_a_link_within_the_roots_is_followed(check: Check, project: Path) -> None:
    (project / "deep").mkdir()
    (project / "deep" / "real.py").write_text("")
    (project / "link.py").symlink_to("deep/real.py")
    (project / "folder").symlink_to("deep", target_is_directory=True)
    assert check(script="link.py") == check(script="folder/real.py") == {}


# the roots


@pytest.fixture
def links_out(project: Path, outside: Path) -> Path:
    """The project with links that lead out of it, to existing and to missing files."""
    for name in ("there", "gone"):
        (project / f"{name}.py").symlink_to(outside / f"{name}.py")
    (project / "folder").symlink_to(outside, target_is_directory=True)
    (project / "chain.py").symlink_to("there.py")
    (project / "up.py").symlink_to(os.path.relpath(outside / "there.py", project))
    (project / "to-link.py").symlink_to(outside / "link.py")
    (project / "to-gone.py").symlink_to(outside / "gone.py")
    (project / "venv").symlink_to(outside / "venv", target_is_directory=True)
    (project / "no-venv").symlink_to(outside / "no-venv", target_is_directory=True)
    return project


@pytest.mark.parametrize(
    "path",
    [
        "{outside}/there.py",
        "{project}2/there.py",  # begins with the name of the root
        "{project}/../{outside.name}/there.py",
        "there.py",
        "chain.py",
        "up.py",
        "folder/there.py",
        "/etc/passwd",
        "/dev/null",
        "/",
    ],
)
def test_no_script_runs_from_outside_the_roots(
    check: Check, links_out: Path, outside: Path, path: str
) -> None:
    similar = Path(f"{links_out}2")
    similar.mkdir()
    (similar / "there.py").write_text("")
    found = check(script=path.format(project=links_out, outside=outside))
    assert list(found) == ["/script"]
    assert "is outside the folders scripts may run from" in found["/script"]


@pytest.mark.parametrize(
    "kind, there, gone",
    [
        ("script", "{outside}/there.py", "{outside}/gone.py"),
        ("script", "{outside}/package", "{outside}/gone_it_is"),
        ("script", "there.py", "gone.py"),
        ("script", "folder/there.py", "folder/gone.py"),
        ("script", "folder/package", "folder/nothing"),
        ("script", "folder/link.py", "folder/gone.py"),
        ("script", "folder/link/bin/env", "folder/gone/bin/env"),
        ("script", "folder/venv/bin/python", "folder/venv/bin/gone"),
        ("script", "to-link.py", "to-gone.py"),
        ("venv", "folder/link", "folder/gone"),
        ("cwd", "folder/link/bin", "folder/gone/bin"),
        ("module", "folder.link", "folder.gone"),
        ("venv", "{outside}/venv", "{outside}/gone"),
        ("venv", "venv", "no-venv"),
        ("venv", "folder/venv", "folder/gone"),
        ("cwd", "{outside}/package", "{outside}/gone"),
        ("cwd", "folder/package", "folder/nothing"),
        ("module", "there", "gone"),
        ("module", "folder.there", "folder.gone"),
        ("module", "folder.package", "folder.nothing"),
    ],
)
def test_the_answer_for_a_path_outside_is_the_same_whether_or_not_it_exists(
    check: Check, links_out: Path, outside: Path, kind: str, there: str, gone: str
) -> None:
    answers = []
    for path in (there.format(outside=outside), gone.format(outside=outside)):
        found = check(**{kind: path})
        assert list(found) == [f"/{kind}"]
        name = path.replace(".", "/") if kind == "module" else path
        words = re.escape(name.rsplit("/", 1)[-1]) + r"|\b(link|gone|there)\b"
        answers.append(re.sub(words, "NAME", found[f"/{kind}"]))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "kind, path",
    [
        ("script", "{outside}/there.py"),
        ("script", "there.py"),
        ("script", "chain.py"),
        ("script", "folder/there.py"),
        ("venv", "{outside}/venv"),
        ("venv", "venv"),
        ("cwd", "{outside}/package"),
        ("cwd", "folder/package"),
        ("module", "there"),
        ("module", "folder.there"),
        ("module", "folder.package"),
    ],
)
def test_the_suggested_setting_allows_the_path_and_no_more_than_needed(
    check: Check, links_out: Path, outside: Path, kind: str, path: str
) -> None:
    path = path.format(outside=outside)
    (sentence,) = check(**{kind: path}).values()
    (assignment,) = shlex.split(sentence[sentence.index("ROBOTNI_SCRIPT_ROOTS=") :])
    roots = load_settings(dict([assignment.split("=", 1)]), links_out).script_roots
    assert roots[:-1] == (links_out,)
    assert outside == roots[-1] or outside in roots[-1].parents
    assert problems_of(Preflight(links_out, roots), **{kind: path}) == {}


def test_the_suggested_setting_is_quoted_for_a_shell(project: Path) -> None:
    (sentence,) = problems_of(Preflight(project, (project,)), script="/srv/my jobs/a.py").values()
    assert sentence.endswith(f"ROBOTNI_SCRIPT_ROOTS='{project}:/srv/my jobs'")


def test_a_root_given_by_a_link_allows_both_of_its_paths(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "link-to-project"
    link.symlink_to(project, target_is_directory=True)
    preflight = Preflight(project, (link,))
    for folder in (link, project):
        assert problems_of(preflight, script=f"{folder}/hello.py", venv=f"{folder}/.venv") == {}


def test_the_file_system_root_allows_every_path(project: Path, outside: Path) -> None:
    preflight = Preflight(project, (Path("/"),))
    assert problems_of(preflight, script=f"{outside}/there.py", venv=".venv", cwd="/") == {}


def test_a_path_must_be_in_one_of_the_roots(project: Path, outside: Path) -> None:
    preflight = Preflight(project, (outside, project / "jobs"))
    assert problems_of(preflight, script=f"{outside}/there.py", venv=f"{outside}/venv") == {}
    assert list(problems_of(preflight, script="hello.py", venv=".venv")) == ["/script", "/venv"]


def test_the_project_folder_may_be_the_working_folder_also_outside_the_roots(
    project: Path, outside: Path
) -> None:
    preflight = Preflight(project, (outside,))
    assert problems_of(preflight, script=f"{outside}/there.py") == {}
    assert list(problems_of(preflight, module="hello")) == ["/module"]


def test_a_script_replaced_by_a_link_is_refused_at_the_next_check(
    check: Check, project: Path, outside: Path
) -> None:
    assert check(script="hello.py") == {}
    (project / "hello.py").unlink()
    (project / "hello.py").symlink_to(outside / "there.py")
    assert "outside" in check(script="hello.py")["/script"]


NAMES = st.sampled_from(["a", "b", "c", "d", "..", ".", "hello.py", "project", "outside"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "{base}/", "{base}/project/", "{base}/outside/"]), PATHS)


@settings(deadline=None)
@given(
    links=st.dictionaries(
        st.tuples(st.sampled_from(["project", "outside"]), st.sampled_from(["a", "b", "c"])),
        TARGETS.map("".join),
        max_size=6,
    ),
    script=PATHS,
)
def test_no_combination_of_links_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, links: Any, script: str
) -> None:
    base = tmp_path_factory.mktemp("links")
    for folder in ("project", "project/d", "outside", "outside/d"):
        (base / folder).mkdir()
        (base / folder / "hello.py").write_text("")
    for (folder, name), target in links.items():
        (base / folder / name).symlink_to(target.format(base=base))
    project = base / "project"
    for roots in ((project,), (project, project / "a"), (project / "b",)):
        path = os.path.join(project, script)  # with the '..' that a request must not have
        inside = [os.path.realpath(root) for root in roots]
        found = {}
        try:
            Preflight(base, roots).check(JobPaths(path, None, None, str(base)))
        except InvalidRequest as error:
            found = dict(error.errors)
        real = os.path.realpath(path)
        if not found:
            assert any(real == root or real.startswith(root + "/") for root in inside)
        elif not links and ".." not in script and roots[0] == project:
            assert "outside the folders" not in found["/script"]


# working folders


@pytest.mark.parametrize("cwd", ["hello.py", "no/such", "link"])
def test_a_working_folder_must_be_a_folder(check: Check, project: Path, cwd: str) -> None:
    (project / "link").symlink_to("gone")
    assert check(cwd=cwd) == {
        "/cwd": f"{project}/{cwd} is not a folder; create it, or leave cwd out for the project "
        "folder"
    }


# modules


@pytest.fixture
def modules(project: Path) -> Path:
    for name in ("jobs/nightly.py", "jobs/tool/__main__.py", "plain/__init__.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    os.mkfifo(project / "pipe.py")
    return project


@pytest.mark.parametrize(
    "module, cwd", [("jobs.nightly", "."), ("nightly", "jobs"), ("jobs.tool", "."), ("hello", ".")]
)
def test_a_module_or_a_package_with_main_is_found_below_cwd(
    check: Check, modules: Path, module: str, cwd: str
) -> None:
    assert check(module=module, cwd=cwd, venv=".venv") == {}


@pytest.mark.parametrize(
    "module", ["nightly", "jobs.no", "plain", "jobs", "json", "pipe", "os.path"]
)
def test_a_module_that_is_not_below_cwd_is_refused(
    check: Check, modules: Path, module: str
) -> None:
    (sentence,) = check(module=module).values()
    assert sentence == (
        f"module {module} is not below {modules} (there is neither {module.replace('.', '/')}.py "
        "nor a package with a __main__.py); set cwd to the folder that holds it"
    )


def test_the_module_is_not_checked_when_cwd_is_wrong(check: Check) -> None:
    assert list(check(module="hello", cwd="no")) == ["/cwd"]


# venvs


def test_a_missing_venv_is_refused_with_the_command_that_creates_it(
    check: Check, project: Path
) -> None:
    assert check(venv="new venv") == {
        "/venv": f"{project}/new venv does not exist; create a virtual environment with: "
        f"python3 -m venv '{project}/new venv'"
    }


def test_a_venv_that_is_a_file_is_refused(check: Check, project: Path) -> None:
    assert check(venv="hello.py") == {
        "/venv": f"{project}/hello.py is not a folder; give the folder of a virtual environment"
    }


def test_a_folder_without_pyvenv_cfg_is_not_a_venv(check: Check, project: Path) -> None:
    assert check(venv=".") == {
        "/venv": f"{project} is not a virtual environment (it has no pyvenv.cfg); create one with: "
        f"python3 -m venv {project}"
    }


@pytest.mark.parametrize(
    "paths, python, kind",
    [
        (["bin/python"], "bin/python", "a Python"),
        (["bin/python3", "bin/python3.11"], "bin/python3", "a Python"),  # as /usr has it
        (["bin/pypy3.10"], "bin/pypy3.10", "a Python"),
        (["shims/python"], "shims/python", "a Python"),  # the root of pyenv
        (["bin/python", "conda-meta/history"], "bin/python", "a conda environment"),
    ],
)
def test_no_venv_is_to_be_created_in_a_folder_that_has_another_python(
    check: Check, project: Path, paths: List[str], python: str, kind: str
) -> None:
    other = project / "other"
    for path in paths:
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        (other / path).touch()
    assert check(venv="other") == {
        "/venv": f"{other} is not a virtual environment (it has no pyvenv.cfg), but holds {kind} "
        "of its own; create a virtual environment from it in another folder with: "
        f"{other}/{python} -m venv ANOTHER_FOLDER, and name that"
    }


def test_a_conda_environment_without_python_is_not_overwritten(check: Check, project: Path) -> None:
    (project / "other" / "conda-meta").mkdir(parents=True)
    assert "python3 -m venv ANOTHER_FOLDER" in check(venv="other")["/venv"]


def test_a_broken_venv_with_other_files_in_it_is_not_cleared(check: Check, project: Path) -> None:
    (project / ".venv" / "bin" / "python").unlink()
    (project / ".venv" / "thesis.tex").touch()
    problem = check(venv=".venv")["/venv"]
    assert "--clear" not in problem
    assert problem.endswith("create another with: python3 -m venv ANOTHER_FOLDER, and name that")


def test_a_venv_with_a_colon_in_its_path_is_refused(check: Check, project: Path) -> None:
    (project / "a:b").mkdir()
    (project / ".venv").rename(project / "a:b" / ".venv")
    assert check(venv="a:b/.venv") == {
        "/venv": f"{project}/a:b/.venv has a ':' in its path, where PATH is cut; move it to "
        "another folder"
    }


def test_a_venv_whose_interpreter_is_gone_is_refused_with_its_name_and_a_command(
    check: Check, project: Path, tmp_path: Path
) -> None:
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    (python.parent / "python3").unlink()
    (python.parent / "python3").symlink_to(tmp_path / "gone" / "python3.9")
    python.symlink_to("python3")
    (sentence,) = check(venv=".venv").values()
    assert sentence == (
        f"{project}/.venv links to python3.9, which does not exist; recreate it with: "
        f"python3 -m venv --clear {project}/.venv"
    )


def test_the_suggested_command_repairs_a_broken_venv(check: Check, project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/gone/python3.9")
    (sentence,) = check(venv=".venv").values()
    command = shlex.split(sentence.split("recreate it with: ")[1])
    assert command[:4] == ["python3", "-m", "venv", "--clear"]
    assert os.spawnv(os.P_WAIT, sys.executable, [*command[:3], "--without-pip", *command[3:]]) == 0
    assert check(venv=".venv") == {}


@pytest.mark.parametrize(
    "break_it, words",
    [
        (lambda python: None, "has no bin/python; recreate it with"),
        (os.mkdir, "cannot be run; recreate it with"),
        (os.mkfifo, "cannot be run; recreate it with"),
        (lambda python: Path(python).write_text("#!/bin/sh\n"), "cannot be run; recreate it with"),
    ],
)
def test_a_venv_whose_python_cannot_be_run_is_refused(
    check: Check, project: Path, break_it: Any, words: str
) -> None:
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    break_it(python)
    assert words in check(venv=".venv")["/venv"]


def test_a_venv_without_bin_is_refused(check: Check, project: Path) -> None:
    shutil.rmtree(project / ".venv" / "bin")
    assert "has no bin/python" in check(venv=".venv")["/venv"]


def test_the_python_of_a_venv_is_not_resolved(check: Check, project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    assert python.is_symlink() and not str(os.path.realpath(python)).startswith(str(project))
    assert venv_python(f"{project}/.venv") == str(python)
    assert check(venv=".venv") == {}


def test_a_check_takes_well_under_a_millisecond(check: Check) -> None:
    best = min(timed(lambda: check(script="hello.py", venv=".venv", cwd=".")) for _ in range(50))
    assert best < 0.001


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def test_a_venv_created_by_a_python_that_is_gone_is_refused(tmp_path: Path) -> None:
    make_venv(tmp_path / "copied")
    config = tmp_path / "copied" / "pyvenv.cfg"
    config.write_text(re.sub(r"(?m)^home = .*$", "home = /gone/bin", config.read_text()))
    problem = Preflight(tmp_path, (tmp_path,))._check_venv(str(tmp_path / "copied"))
    assert problem is not None
    assert "was created by a Python in /gone/bin, which does not exist; recreate it" in problem


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_pyvenv_cfg_is_read_as_python_reads_it(tmp_path: Path, end: str) -> None:
    make_venv(tmp_path / "venv")
    config = tmp_path / "venv" / "pyvenv.cfg"
    lines = [" HOME=  /gone/bin\t", "include-system-site-packages = false", "home = /other"]
    config.write_bytes(end.join([*lines, *[""] * 60_000]).encode())
    problem = venv_problem(str(tmp_path / "venv"))
    assert problem is not None
    assert "was created by a Python in /gone/bin, which does not exist" in problem


def test_a_pyvenv_cfg_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    make_venv(tmp_path / "venv")
    config = tmp_path / "venv" / "pyvenv.cfg"
    config.unlink()
    for make in (config.mkdir, lambda: os.mkfifo(config)):
        make()
        problem = venv_problem(str(tmp_path / "venv"))
        assert problem is not None
        assert "not a virtual environment (it has no readable pyvenv.cfg)" in problem
        config.rmdir() if config.is_dir() else config.unlink()
