"""The settings: one frozen object, built once, when a process starts.

A value comes from the environment (`ROBOTNI_…`), else from `.env` in the project folder, else from
the defaults below. Of `.env` only `ROBOTNI_` names are read. Wrong values and unknown names are
reported all at once, one line each, as "what is wrong; what to do", and the process does not start.
"""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Dict, Iterable, List, Literal, Mapping, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from robotni.errors import SettingsError

PREFIX = "ROBOTNI_"
# Variables with this prefix that are not settings: those of scripts and of the command line.
NOT_SETTINGS = frozenset(
    PREFIX + name
    for name in ("URL", "JOB_ID", "PROJECT", "ATTEMPT", "JOB_URL", "RESULT", "PROGRESS")
)
_TOKEN = re.compile(r"[!-~]{8,}\Z")
_ROOT_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)*\Z")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)\Z", re.ASCII | re.IGNORECASE)


def find_project_folder(start: Path) -> Path:
    """The nearest of `start` and its parents that holds `.robotni`, else `.git`, else `start`."""
    folders = [start, *start.parents]
    for name in (".robotni", ".git"):
        for folder in folders:
            if (folder / name).exists():
                return folder
    return start


class Settings(BaseModel):
    """All settings. Field `max_pending` is `ROBOTNI_MAX_PENDING`. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    project_folder: Path = Field(description="where relative paths start; found, not set")
    data_dir: Path = Field(Path(".robotni"), description="the data directory")
    script_roots: Tuple[Path, ...] = Field(
        (), description="folders that scripts and venvs must lie in, separated by `:`"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on (0: any free port)")
    workers: int = Field(4, ge=1, le=256, description="how many scripts may run at once")
    warm_max: int = Field(
        4,
        ge=0,
        le=256,
        description="how many standby interpreters may exist (0: every run is cold)",
    )
    idle_exit: float = Field(
        300,
        ge=0,
        le=31_536_000,
        description="seconds without work before the worker exits (0: never)",
    )
    timeout: float = Field(
        3600,
        gt=0,
        le=31_536_000,
        description="seconds one attempt may take, unless the job has its own timeout",
    )
    max_timeout: float = Field(
        86400, gt=0, le=31_536_000, description="longest timeout that a job may ask for"
    )
    expires: float = Field(
        0, ge=0, le=31_536_000, description="seconds a job may wait for its start (0: no limit)"
    )
    kill_grace: float = Field(10, ge=0, le=3600, description="seconds between SIGTERM and SIGKILL")
    max_pending: int = Field(
        10000,
        ge=1,
        le=10_000_000,
        description="how many jobs may wait to start; further submits are refused",
    )
    max_output: int = Field(
        10_485_760,
        ge=0,
        le=1 << 40,
        description="bytes of output kept for each attempt: the beginning and the end",
    )
    retention_days: float = Field(
        30, ge=0, le=36500, description="days before a job that has ended is deleted with its files"
    )
    token: Optional[str] = Field(
        None, repr=False, description="bearer token that every request must carry"
    )
    allowed_hosts: Tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="names that the server answers to (header `Host`), separated by commas",
    )
    allowed_origins: Tuple[str, ...] = Field(
        (), description="origins of other sites whose pages may call, separated by commas"
    )
    pass_env: Tuple[str, ...] = Field(
        (),
        description="names and globs of the server's variables that scripts get, separated by "
        "commas; `LD_…` and `PYTHON…` must be named in full",
    )
    autostart: bool = Field(
        True, description="whether the web process starts the worker when there is work"
    )
    root_path: str = Field(
        "", description="path prefix under which a reverse proxy serves robotni, such as `/robotni`"
    )
    log_format: Literal["text", "json"] = Field("text", description="format of the log lines")

    @field_validator("data_dir", "host", mode="before")
    @classmethod
    def _check_not_empty(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("must not be empty; write a value, or remove it for the default")
        return value

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: Optional[str]) -> Optional[str]:
        if token is not None and not _TOKEN.match(token):
            raise ValueError("must be at least 8 visible ASCII characters, without spaces")
        return token

    @field_validator("max_timeout")
    @classmethod
    def _check_timeouts(cls, max_timeout: float, info: ValidationInfo) -> float:
        timeout = info.data.get("timeout", 0)
        if timeout > max_timeout:
            raise ValueError(
                f"must not be less than {PREFIX}TIMEOUT={timeout:.12g}; change one of the two"
            )
        return max_timeout

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if not _ROOT_PATH.match(path):
            raise ValueError("must be a path such as /robotni, of letters, digits and . _ ~ -")
        return path

    @field_validator("script_roots", mode="before")
    @classmethod
    def _split_at_colons(cls, value: Any) -> Any:
        return tuple(p for p in value.split(":") if p) if isinstance(value, str) else value

    @field_validator("data_dir", "script_roots")
    @classmethod
    def _check_no_colon(cls, value: Any) -> Any:
        for path in value if isinstance(value, tuple) else (value,):
            if ":" in str(path):
                raise ValueError(
                    f"{path} has a ':' in its name, which separates folders in PATH and in "
                    f"{PREFIX}SCRIPT_ROOTS; choose or rename a folder without one"
                )
        return value

    @field_validator("allowed_hosts", "allowed_origins", "pass_env", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: Tuple[str, ...]) -> Tuple[str, ...]:
        for name in value:
            if not _HOST.match(name):
                raise ValueError(f"{name!r} is not a host; write a name or [address], without port")
        return tuple(name.lower() for name in value)

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: Tuple[str, ...]) -> Tuple[str, ...]:
        for origin in value:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ValueError(f"{origin!r} is not an origin; write scheme://host[:port]")
        return tuple(origin.lower() for origin in value)

    def model_post_init(self, context: Any) -> None:
        roots = self.script_roots or (self.project_folder,)
        # Written past pydantic, which allows no assignment to a frozen object.
        self.__dict__["data_dir"] = self._absolute(self.data_dir)
        self.__dict__["script_roots"] = tuple(map(self._absolute, roots))

    def _absolute(self, path: Path) -> Path:
        return Path(os.path.abspath(self.project_folder / os.path.expanduser(path)))

    @property
    def url(self) -> str:
        """The URL of the server for programs on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host.strip("[]"), self.host)
        host = host.strip("[]")
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.root_path}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def to_environ(self) -> Dict[str, str]:
        """The same settings as `ROBOTNI_…` variables for a worker process, without the token."""
        values: Dict[str, str] = {}
        for name in set(type(self).model_fields) - {"project_folder", "token"}:
            value = getattr(self, name)
            if isinstance(value, tuple):
                text = (":" if name == "script_roots" else ",").join(map(str, value))
            else:
                text = str(int(value)) if isinstance(value, bool) else str(value)
            values[PREFIX + name.upper()] = text
        return values


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load_settings(environ: Mapping[str, str], cwd: Path) -> Settings:
    """The settings of the project that `cwd` lies in. Raises SettingsError with all problems."""
    return load_project_settings(find_project_folder(cwd), environ, {})


def load_project_settings(
    folder: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Settings:
    """The settings of project folder `folder`. `overrides`, by field name, win over all else.
    Raises SettingsError with all problems."""
    settings, problems = _load(Path(os.path.abspath(folder)), environ, overrides)
    if problems:
        raise SettingsError(problems)
    return settings


def load_settings_and_problems(environ: Mapping[str, str], cwd: Path) -> Tuple[Settings, List[str]]:
    """The settings with defaults in the place of wrong values, and one line for each problem."""
    return _load(find_project_folder(cwd), environ, {})


def _load(
    folder: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Tuple[Settings, List[str]]:
    problems: List[str] = []
    sources = (
        _read_env_file(folder / ".env", problems),
        environ,
        {PREFIX + name.upper(): value for name, value in overrides.items()},
    )
    given: Dict[str, Any] = {
        name: value
        for source in sources
        for name, value in source.items()
        if name.startswith(PREFIX) and name not in NOT_SETTINGS and value is not None
    }
    fields = {PREFIX + field.upper(): field for field in Settings.model_fields}
    del fields[PREFIX + "PROJECT_FOLDER"]
    problems += [_unknown_name(name, fields) for name in sorted(set(given) - set(fields))]
    values = {fields[name]: value for name, value in given.items() if name in fields}
    if ":" in str(folder):
        problems.append(
            f"the project folder {folder} has a ':' in its name, which separates folders in PATH "
            f"and in {PREFIX}SCRIPT_ROOTS; rename it, or move the project"
        )
    if not _has_roots(values.get("script_roots")):
        problems += _check_default_root(folder)
    try:
        return Settings(project_folder=folder, **values), problems
    except ValidationError as error:
        wrong = {str(e["loc"][0]) for e in error.errors()}
        problems += _wrong_values(error)
    valid = {name: value for name, value in values.items() if name not in wrong}
    try:
        return Settings(project_folder=folder, **valid), problems
    except ValidationError:  # a value that is only valid together with a wrong one
        return Settings(project_folder=folder), problems


def _read_env_file(path: Path, problems: List[str]) -> Mapping[str, Optional[str]]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # 1 MB of memory; most projects have no such file

    try:
        return dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read ({error}); make it a readable UTF-8 file")
        return {}


def _unknown_name(name: str, fields: Iterable[str]) -> str:
    from difflib import get_close_matches

    known = sorted(field[len(PREFIX) :] for field in fields)
    close = get_close_matches(name[len(PREFIX) :].upper(), known, 1)
    hint = f"did you mean {PREFIX}{close[0]}?" if close else f"the settings are {', '.join(known)}"
    return f"{name} is not a setting; {hint}"


def _wrong_values(error: ValidationError) -> Iterable[str]:
    for problem in error.errors():
        name = PREFIX + str(problem["loc"][0]).upper()
        message = problem["msg"].replace("Value error, ", "")
        shown = "…" if name == PREFIX + "TOKEN" else problem["input"]
        yield f"{name}={shown}: {message[:1].lower()}{message[1:]}"


def _has_roots(roots: Any) -> bool:
    return bool(roots.strip(":") if isinstance(roots, str) else roots)


def _check_default_root(folder: Path) -> List[str]:
    folder = folder.resolve()
    if folder in (Path(folder.anchor), Path(os.path.expanduser("~")).resolve()):
        return [
            f"the project folder is {folder}, too wide a default for the folders scripts may run "
            "from; start robotni in your project's folder, or set "
            f"{PREFIX}SCRIPT_ROOTS={folder / 'your-project'}"
        ]
    return []
