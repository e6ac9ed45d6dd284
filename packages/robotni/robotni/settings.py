"""The settings: one frozen object, built once in the entries.

They come from `ROBOTNI_…` in the environment, else from the project folder's `.env`, else the
defaults below. Of `.env` nothing but `ROBOTNI_` names is read. Every wrong value and every
unknown name is reported at once, one line each, and nothing starts.
"""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Dict, Iterable, List, Literal, Mapping, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from robotni.errors import SettingsError

PREFIX = "ROBOTNI_"
# Set for the scripts, or read by the command line: no settings, and no mistakes either.
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
    for mark in (".robotni", ".git"):
        for folder in folders:
            if (folder / mark).exists():
                return folder
    return start


class Settings(BaseModel):
    """All settings; field `max_pending` is `ROBOTNI_MAX_PENDING`. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    project_folder: Path = Field(description="where relative paths start; found, not set")
    data_dir: Path = Field(Path(".robotni"), description="the data directory")
    script_roots: Tuple[Path, ...] = Field(
        (), description="folders scripts and venvs may lie in, `:`-separated"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on (0: any free one)")
    workers: int = Field(4, ge=1, le=256, description="scripts that run at once, at most")
    warm_max: int = Field(
        4, ge=0, le=256, description="warm interpreters kept at once (0: every run is cold)"
    )
    idle_exit: float = Field(
        300, ge=0, le=31_536_000, description="idle seconds until the worker leaves (0: never)"
    )
    timeout: float = Field(3600, gt=0, le=31_536_000, description="seconds for one attempt")
    max_timeout: float = Field(
        86400, gt=0, le=31_536_000, description="longest timeout a job may ask for"
    )
    expires: float = Field(
        0, ge=0, le=31_536_000, description="seconds a job may wait for its start (0: for ever)"
    )
    kill_grace: float = Field(10, ge=0, le=3600, description="seconds between SIGTERM and SIGKILL")
    max_pending: int = Field(10000, ge=1, le=10_000_000, description="jobs that may wait")
    max_output: int = Field(
        10_485_760, ge=0, le=1 << 40, description="bytes of output kept of an attempt"
    )
    retention_days: float = Field(
        30, ge=0, le=36500, description="days an ended job is kept with its files"
    )
    token: Optional[str] = Field(
        None, repr=False, description="the bearer token every request must show"
    )
    allowed_hosts: Tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="`Host` names answered, comma list"
    )
    allowed_origins: Tuple[str, ...] = Field(
        (), description="origins of other web pages that may call, comma list"
    )
    pass_env: Tuple[str, ...] = Field(
        (), description="globs of server variables scripts may see, comma list"
    )
    autostart: bool = Field(True, description="the web process starts the worker when needed")
    root_path: str = Field(
        "", description="path prefix a reverse proxy serves robotni under, like `/robotni`"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="how log lines look: `text` or `json`"
    )

    @field_validator("data_dir", "host", mode="before")
    @classmethod
    def _check_given(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("it is empty; write a value, or leave it out for the default")
        return value

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: Optional[str]) -> Optional[str]:
        if token is not None and not _TOKEN.match(token):
            raise ValueError("write 8 visible ASCII characters or more, without spaces")
        return token

    @field_validator("max_timeout")
    @classmethod
    def _check_timeouts(cls, longest: float, info: ValidationInfo) -> float:
        timeout = info.data.get("timeout", 0)
        if timeout > longest:
            raise ValueError(f"less than {PREFIX}TIMEOUT={timeout:.12g}; raise it or lower that")
        return longest

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if not _ROOT_PATH.match(path):
            raise ValueError("write a path like /robotni, of letters, digits and . _ ~ -")
        return path

    @field_validator("script_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return tuple(p for p in value.split(":") if p) if isinstance(value, str) else value

    @field_validator("allowed_hosts", "allowed_origins", "pass_env", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: Tuple[str, ...]) -> Tuple[str, ...]:
        for name in value:
            if not _HOST.match(name):
                raise ValueError(f"{name!r} is no host; write a name or [address], without a port")
        return tuple(name.lower() for name in value)

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: Tuple[str, ...]) -> Tuple[str, ...]:
        for origin in value:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ValueError(f"{origin!r} is no origin; write scheme://host[:port]")
        return tuple(origin.lower() for origin in value)

    def model_post_init(self, context: Any) -> None:
        roots = self.script_roots or (self.project_folder,)
        _set(self, "data_dir", self._absolute(self.data_dir))
        _set(self, "script_roots", tuple(map(self._absolute, roots)))

    def _absolute(self, path: Path) -> Path:
        return Path(os.path.abspath(self.project_folder / os.path.expanduser(path)))

    @property
    def url(self) -> str:
        """Where a program on this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host.strip("[]"), self.host)
        host = host.strip("[]")
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.root_path}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def environ(self) -> Dict[str, str]:
        """These settings as `ROBOTNI_…` variables, for a worker process; without the token."""
        values: Dict[str, str] = {}
        for name in set(type(self).model_fields) - {"project_folder", "token"}:
            value = getattr(self, name)
            if isinstance(value, tuple):
                text = (":" if name == "script_roots" else ",").join(map(str, value))
            else:
                text = str(int(value)) if isinstance(value, bool) else str(value)
            values[PREFIX + name.upper()] = text
        return values


def _set(settings: Settings, name: str, value: Any) -> None:
    settings.__dict__[name] = value  # frozen for everybody but its own construction


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load(environ: Mapping[str, str], cwd: Path) -> Settings:
    """The settings in force in folder `cwd`; raises SettingsError with a line for each fault."""
    return load_in(find_project_folder(cwd), environ, {})


def load_in(folder: Path, environ: Mapping[str, str], options: Mapping[str, Any]) -> Settings:
    """The settings of project folder `folder`; `options`, by field name, go before all others."""
    settings, faults = _load(Path(os.path.abspath(folder)), environ, options)
    if faults:
        raise SettingsError(faults)
    return settings


def load_sound(environ: Mapping[str, str], cwd: Path) -> Tuple[Settings, List[str]]:
    """The settings in force, wrong ones left at their defaults, and a line for each fault."""
    return _load(find_project_folder(cwd), environ, {})


def _load(
    folder: Path, environ: Mapping[str, str], options: Mapping[str, Any]
) -> Tuple[Settings, List[str]]:
    lines: List[str] = []
    sources = (
        _from_file(folder / ".env", lines),
        environ,
        {PREFIX + name.upper(): value for name, value in options.items()},
    )
    given: Dict[str, Any] = {
        name: value
        for source in sources
        for name, value in source.items()
        if name.startswith(PREFIX) and name not in NOT_SETTINGS and value is not None
    }
    names = {PREFIX + field.upper(): field for field in Settings.model_fields}
    del names[PREFIX + "PROJECT_FOLDER"]
    lines += [_unknown(name, names) for name in sorted(set(given) - set(names))]
    values = {names[n]: v for n, v in given.items() if n in names}
    if not _is_given(values.get("script_roots")):
        lines += _too_wide(folder)
    try:
        return Settings(project_folder=folder, **values), lines
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors()}
        lines += _wrong_values(error)
    sound = {name: value for name, value in values.items() if name not in wrong}
    try:
        return Settings(project_folder=folder, **sound), lines
    except ValidationError:  # one that goes only together with a wrong one
        return Settings(project_folder=folder), lines


def _from_file(path: Path, lines: List[str]) -> Mapping[str, Optional[str]]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # 1 MB, where there is a file to read

    try:
        return dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        lines.append(f"{path} cannot be read ({error}); make it a UTF-8 file of yours")
        return {}


def _unknown(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # only needed on the way out

    bare = sorted(known[len(PREFIX) :] for known in names)
    close = get_close_matches(name[len(PREFIX) :].upper(), bare, 1)
    hint = f"did you mean {PREFIX}{close[0]}?" if close else f"known are {', '.join(bare)}"
    return f"{name} is not a setting; {hint}"


def _wrong_values(error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        name = PREFIX + str(fault["loc"][0]).upper()
        message = fault["msg"].replace("Value error, ", "")
        shown = "…" if name == PREFIX + "TOKEN" else fault["input"]
        yield f"{name}={shown}: {message[:1].lower()}{message[1:]}"


def _is_given(roots: Any) -> bool:
    return bool(roots.strip(":") if isinstance(roots, str) else roots)


def _too_wide(folder: Path) -> List[str]:
    folder = folder.resolve()
    if folder in (Path(folder.anchor), Path(os.path.expanduser("~")).resolve()):
        return [
            f"the project folder is {folder}, too wide to run scripts from by default; start in "
            f"your project's folder, or set {PREFIX}SCRIPT_ROOTS={folder / 'your-project'}"
        ]
    return []
