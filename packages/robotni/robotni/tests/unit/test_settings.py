"""Settings: where they come from, which values are refused, and what is never shown."""

import os
from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from robotni.errors import SettingsError
from robotni.settings import (
    NOT_SETTINGS,
    Settings,
    find_project_folder,
    is_loopback,
    load_project_settings,
    load_settings,
)

NOWHERE = Path("/nowhere/project")  # no setting needs the folder to exist


def problems(environ: Any, cwd: Path = NOWHERE) -> List[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, cwd)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


# defaults, environment, .env


def test_the_defaults_are_those_of_the_contract() -> None:
    given = load_settings({}, NOWHERE).model_dump()
    assert given == {
        "project_folder": NOWHERE,
        "data_dir": NOWHERE / ".robotni",
        "script_roots": (NOWHERE,),
        "host": "127.0.0.1",
        "port": 8000,
        "workers": 4,
        "warm_max": 4,
        "idle_exit": 300,
        "timeout": 3600,
        "max_timeout": 86400,
        "expires": 0,
        "kill_grace": 10,
        "max_pending": 10000,
        "max_output": 10485760,
        "retention_days": 30,
        "token": None,
        "allowed_hosts": ("localhost", "127.0.0.1", "[::1]"),
        "allowed_origins": (),
        "pass_env": (),
        "autostart": True,
        "root_path": "",
        "log_format": "text",
    }


def test_each_setting_has_a_description() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []


def test_the_environment_overrides_dot_env_which_overrides_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ROBOTNI_PORT=1001\nROBOTNI_WORKERS=2\n")
    settings = load_settings({"ROBOTNI_PORT": "1002"}, tmp_path)
    assert (settings.port, settings.workers, settings.timeout) == (1002, 2, 3600)


def test_only_robotni_names_are_read_from_dot_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "PORT=1\nSECRET_KEY=abc\nexport ROBOTNI_PORT='1001' # a comment\n"
        "DATABASE_URL=postgres://x\nROBOTNI_PASS_ENV=$SECRET_KEY\nnot a line\n"
    )
    before = dict(os.environ)
    settings = load_settings({"PORT": "3", "HOME": "/x"}, tmp_path)
    assert (settings.port, settings.pass_env) == (1001, ("$SECRET_KEY",))
    assert "abc" not in repr(settings)
    assert dict(os.environ) == before


def test_dot_env_is_read_from_the_project_folder_only(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".env").write_text("ROBOTNI_PORT=1001\n")
    (below / ".env").write_text("ROBOTNI_PORT=1002\n")
    assert load_settings({}, below).port == 1001


def test_a_byte_order_mark_does_not_hide_the_first_setting(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfROBOTNI_TOKEN=long-enough\n")
    assert load_settings({}, tmp_path).token == "long-enough"


def test_an_unreadable_dot_env_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("ROBOTNI_PORT=1001\n".encode("utf-16"))
    (line,) = problems({}, tmp_path)
    assert str(tmp_path / ".env") in line and "UTF-8" in line


def test_a_folder_named_dot_env_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings({}, tmp_path).port == 8000


def test_the_variables_of_scripts_and_of_the_command_line_are_ignored() -> None:
    load_settings(dict.fromkeys(NOT_SETTINGS, "x"), NOWHERE)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError):
        load_settings({}, NOWHERE).port = 1


# wrong values


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("PORT", "x", "valid integer"),
        ("PORT", "", "valid integer"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PORT", "9" * 20, "less than or equal to 65535"),
        ("WORKERS", "0", "greater than or equal to 1"),
        ("WORKERS", "2.5", "valid integer"),
        ("WORKERS", "257", "less than or equal to 256"),
        ("TIMEOUT", "0", "greater than 0"),
        ("TIMEOUT", "-5", "greater than 0"),
        ("TIMEOUT", "nan", "less than or equal"),
        ("TIMEOUT", "inf", "less than or equal"),
        ("TIMEOUT", "1e400", "less than or equal"),
        ("TIMEOUT", "1h", "valid number"),
        ("MAX_TIMEOUT", "0", "greater than 0"),
        ("MAX_TIMEOUT", "10", "not be less than ROBOTNI_TIMEOUT=3600"),
        ("IDLE_EXIT", "-1", "greater than or equal to 0"),
        ("EXPIRES", "-1", "greater than or equal to 0"),
        ("KILL_GRACE", "nan", "less than or equal"),
        ("KILL_GRACE", "-0.1", "greater than or equal to 0"),
        ("MAX_PENDING", "0", "greater than or equal to 1"),
        ("MAX_OUTPUT", "-1", "greater than or equal to 0"),
        ("RETENTION_DAYS", "-1", "greater than or equal to 0"),
        ("RETENTION_DAYS", "nan", "less than or equal"),
        ("DATA_DIR", "", "must not be empty"),
        ("HOST", "", "must not be empty"),
        ("AUTOSTART", "maybe", "valid boolean"),
        ("ALLOWED_HOSTS", "example.com:8000", "without port"),
        ("ALLOWED_HOSTS", "https://example.com", "without port"),
        ("ALLOWED_HOSTS", "*", "name or [address]"),
        ("ALLOWED_HOSTS", "::1", "[address]"),
        ("ALLOWED_ORIGINS", "example.com", "scheme://host"),
        ("ALLOWED_ORIGINS", "http://example.com/", "scheme://host"),
        ("ALLOWED_ORIGINS", "http://a.example,null", "'null' is not an origin"),
        ("ALLOWED_ORIGINS", "*", "scheme://host"),
    ],
)
def test_a_wrong_value_is_an_error_with_its_name_its_value_and_a_sentence(
    name: str, value: str, words: str
) -> None:
    (line,) = problems({f"ROBOTNI_{name}": value})
    assert line.startswith(f"ROBOTNI_{name}={value}: ")
    assert words in line


def test_all_problems_are_reported_at_once_with_one_line_each(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ROBOTNI_WOKERS=1\nROBOTNI_PORT=x\n")
    lines = problems(
        {
            "ROBOTNI_TIMEOUT": "100000",
            "ROBOTNI_COLOUR": "blue",
            "ROBOTNI_TOKEN": "short",
            "ROBOTNI_ALLOWED_ORIGINS": "localhost",
        },
        tmp_path,
    )
    names = [line.split(" ")[0].split("=")[0] for line in lines]
    assert sorted(names) == [
        "ROBOTNI_ALLOWED_ORIGINS",
        "ROBOTNI_COLOUR",
        "ROBOTNI_MAX_TIMEOUT",
        "ROBOTNI_PORT",
        "ROBOTNI_TOKEN",
        "ROBOTNI_WOKERS",
    ]
    assert not any("\n" in line for line in lines)


def test_the_two_timeouts_are_compared_whichever_of_them_is_set() -> None:
    (line,) = problems({"ROBOTNI_TIMEOUT": "90000"})
    assert line.startswith(
        "ROBOTNI_MAX_TIMEOUT=86400: must not be less than ROBOTNI_TIMEOUT=90000;"
    )
    both = load_settings({"ROBOTNI_TIMEOUT": "90000", "ROBOTNI_MAX_TIMEOUT": "90000"}, NOWHERE)
    assert both.timeout == both.max_timeout


@pytest.mark.parametrize(
    "name, hint",
    [
        ("ROBOTNI_TIMOUT", "did you mean ROBOTNI_TIMEOUT?"),
        ("ROBOTNI_WORKER", "did you mean ROBOTNI_WORKERS?"),
        ("ROBOTNI_DATADIR", "did you mean ROBOTNI_DATA_DIR?"),
        ("ROBOTNI_ALLOW_HOSTS", "did you mean ROBOTNI_ALLOWED_HOSTS?"),
        ("ROBOTNI_port", "did you mean ROBOTNI_PORT?"),
        ("ROBOTNI_FOO", "the settings are ALLOWED_HOSTS, "),
        ("ROBOTNI_PROJECT_FOLDER", "the settings are "),
        ("ROBOTNI_", "the settings are "),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests_the_likely_one(name: str, hint: str) -> None:
    (line,) = problems({name: "1"})
    assert line.startswith(f"{name} is not a setting; {hint}")


# the token


@pytest.mark.parametrize(
    "token", ["", "short", "seven77", "with space", "not-ascii-ü", "line\nfeed"]
)
def test_a_token_that_does_not_fit_in_a_header_is_refused_and_not_shown(token: str) -> None:
    (line,) = problems({"ROBOTNI_TOKEN": token})
    assert line.startswith("ROBOTNI_TOKEN=…: ")
    assert not token or token not in line


def test_the_token_is_never_shown() -> None:
    given = {"ROBOTNI_TOKEN": "s3cret-token", "ROBOTNI_WORKERS": "2"}
    settings = load_settings(given, NOWHERE)
    assert settings.token == "s3cret-token"
    shown = [repr(settings), str(settings), f"{settings}", str(settings.to_environ())]
    shown += problems({**given, "ROBOTNI_PORT": "x", "ROBOTNI_TOKE": "y"})
    assert "s3cret" not in "".join(shown)


# lists, ports, paths


@pytest.mark.parametrize(
    "text, names",
    [
        ("", ()),
        ("a.example", ("a.example",)),
        (" A.Example , b.example,, ", ("a.example", "b.example")),
        ("[::1],10.0.0.1", ("[::1]", "10.0.0.1")),
    ],
)
def test_a_list_is_separated_by_commas(text: str, names: Any) -> None:
    assert load_settings({"ROBOTNI_ALLOWED_HOSTS": text}, NOWHERE).allowed_hosts == names


def test_origins_and_globs_are_lists() -> None:
    settings = load_settings(
        {
            "ROBOTNI_ALLOWED_ORIGINS": "http://localhost:3000, https://A.example",
            "ROBOTNI_PASS_ENV": "AWS_*, MY_VAR",
        },
        NOWHERE,
    )
    assert settings.allowed_origins == ("http://localhost:3000", "https://a.example")
    assert settings.pass_env == ("AWS_*", "MY_VAR")


def test_a_project_folder_with_a_colon_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "12:30"
    folder.mkdir()
    for environ in ({}, {"ROBOTNI_SCRIPT_ROOTS": "/srv"}):
        with pytest.raises(SettingsError) as caught:
            load_settings(environ, folder)
        (problem,) = caught.value.lines
        assert problem == (
            f"the project folder {folder} has a ':' in its name, which separates folders in PATH "
            "and in ROBOTNI_SCRIPT_ROOTS; rename it, or move the project"
        )


@pytest.mark.parametrize(
    "overrides", [{"data_dir": "/srv/12:30"}, {"script_roots": (Path("/srv/12:30"),)}]
)
def test_a_path_with_a_colon_is_refused(overrides: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        load_project_settings(NOWHERE, {}, overrides)
    (problem,) = caught.value.lines
    assert "/srv/12:30 has a ':' in its name" in problem
    assert "rename a folder without one" in problem


@pytest.mark.parametrize("port", [0, 1, 8000, 65535])
def test_a_port_may_be_any_number_or_0(port: int) -> None:
    assert load_settings({"ROBOTNI_PORT": str(port)}, NOWHERE).port == port


@pytest.mark.parametrize("text, value", [("1", True), ("0", False), ("true", True), ("no", False)])
def test_a_boolean_setting_takes_several_spellings(text: str, value: bool) -> None:
    assert load_settings({"ROBOTNI_AUTOSTART": text}, NOWHERE).autostart is value


def test_relative_paths_start_at_the_project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = load_settings(
        {"ROBOTNI_DATA_DIR": "../data", "ROBOTNI_SCRIPT_ROOTS": "jobs:/srv/x/../jobs/::~/jobs"},
        NOWHERE,
    )
    assert settings.data_dir == Path("/nowhere/data")
    assert settings.script_roots == (NOWHERE / "jobs", Path("/srv/jobs"), Path("/home/me/jobs"))
    at_home = load_settings({"ROBOTNI_DATA_DIR": "~/.local/robotni"}, NOWHERE)
    assert at_home.data_dir == Path("/home/me/.local/robotni")


@pytest.mark.parametrize(
    "host, answer",
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("::1%lo", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_which_hosts_are_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
    if host:
        assert load_settings({"ROBOTNI_HOST": host}, NOWHERE).is_loopback is answer


# the project folder


@pytest.mark.parametrize(
    "marks, found",
    [
        ([], "a/b/c"),
        (["a/.git"], "a"),
        (["a/.git", "a/b/.git"], "a/b"),
        (["a/.robotni"], "a"),
        (["a/.robotni", "a/b/.robotni"], "a/b"),
        (["a/.robotni", "a/b/.git"], "a"),  # a data directory wins over a repository
        (["a/b/c/.git", ".robotni"], "."),
        (["a/b/c/d/.robotni"], "a/b/c"),  # a folder below does not count
    ],
)
def test_the_project_folder_is_the_nearest_one_with_a_data_directory_or_else_with_a_repository(
    tmp_path: Path, marks: Any, found: str
) -> None:
    start = tmp_path / "a" / "b" / "c"
    start.mkdir(parents=True)
    for mark in marks:
        (tmp_path / mark).mkdir(parents=True)
    assert find_project_folder(start) == tmp_path / found


def test_a_repository_whose_git_is_a_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere\n")  # a worktree, a submodule
    (tmp_path / "a").mkdir()
    assert find_project_folder(tmp_path / "a") == tmp_path


def test_different_folders_of_a_project_have_the_same_settings(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    assert (
        load_settings({}, tmp_path / "a")
        == load_settings({}, tmp_path / "b")
        == load_settings({}, tmp_path)
    )


@pytest.mark.parametrize("roots", [{}, {"ROBOTNI_SCRIPT_ROOTS": ""}, {"ROBOTNI_SCRIPT_ROOTS": ":"}])
def test_the_file_system_root_and_the_home_folder_are_refused_as_default_script_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roots: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    (tmp_path / "home" / "project").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home")
    for folder in (Path("/"), tmp_path / "home", tmp_path / "link"):
        (line,) = problems(roots, folder)
        assert "too wide" in line
        assert f"ROBOTNI_SCRIPT_ROOTS={folder.resolve() / 'your-project'}" in line
    load_settings(roots, tmp_path / "home" / "project")


def test_a_refused_default_root_is_reported_with_all_other_problems() -> None:
    lines = problems({"ROBOTNI_PORT": "x", "ROBOTNI_FOO": "1"}, Path("/"))
    assert len(lines) == 3


def test_the_file_system_root_may_be_a_script_root_when_it_is_named() -> None:
    settings = load_settings({"ROBOTNI_SCRIPT_ROOTS": "/"}, Path("/"))
    assert settings.script_roots == (Path("/"),)


# the environment of a worker process


ENVIRONS = st.fixed_dictionaries(
    {},
    optional={
        "PORT": st.integers(0, 65535).map(str),
        "WORKERS": st.integers(1, 256).map(str),
        "IDLE_EXIT": st.floats(0, 31_536_000).map(str),
        "TIMEOUT": st.floats(0.001, 86400).map(str),
        "RETENTION_DAYS": st.floats(0, 36500).map(str),
        "AUTOSTART": st.sampled_from(["0", "1", "true", "off"]),
        "DATA_DIR": st.sampled_from(["data", "/srv/a b", "~/x", "../up"]),
        "SCRIPT_ROOTS": st.sampled_from(["", "jobs", "jobs:/srv/a b:~/x", "/"]),
        "ALLOWED_HOSTS": st.sampled_from(["", "a.example", "A.example, [::1]"]),
        "ALLOWED_ORIGINS": st.sampled_from(["", "http://a.example,http://b.example:1"]),
        "PASS_ENV": st.sampled_from(["", "AWS_*,X"]),
        "HOST": st.sampled_from(["127.0.0.1", "::1", "localhost"]),
    },
)


@hypothesis_settings(deadline=None)
@given(ENVIRONS)
def test_a_worker_gets_the_same_settings_through_its_environment(environ: Any) -> None:
    given = load_settings({f"ROBOTNI_{name}": value for name, value in environ.items()}, NOWHERE)
    assert load_settings(given.to_environ(), NOWHERE) == given


def test_a_worker_gets_all_settings_except_the_token() -> None:
    given = load_settings({"ROBOTNI_TOKEN": "s3cret-token"}, NOWHERE)
    names = {f"ROBOTNI_{name.upper()}" for name in Settings.model_fields}
    assert set(given.to_environ()) == names - {"ROBOTNI_TOKEN", "ROBOTNI_PROJECT_FOLDER"}
