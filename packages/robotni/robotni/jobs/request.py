"""The body of a submit: its fields, their types and their bounds.

It is validated once, here, and every text, list and number is bounded. Whether the files it names
exist and may be used is not known here: `engine/preflight.py` checks that.
"""

import json
import re
from datetime import datetime
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

MAX_ARGS = 100
MAX_PRELOAD = 32
MAX_ARG_BYTES = 32 * 1024
MAX_TEXT_BYTES = 100_000  # of one flag or variable; the kernel's limit is 128 KiB
MAX_DEPTH = 100  # of nested JSON; pydantic cannot write what is nested about 250 deep
MAX_PATH = 4096
YEAR = 365 * 86400
PYTHON_SCRIPT = "python-script"

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,254}\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", re.ASCII)
_FORBIDDEN_ENV = re.compile(r"(PATH|BASH_ENV|LD_.*|PYTHON.*|ROBOTNI_.*)\Z")
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:[0-5]\d)?\Z", re.ASCII
)
_YEARS = range(1971, 2200)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class JobRequest(BaseModel):
    """Body of `POST /api/worker/jobs`. Durations are seconds."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, allow_inf_nan=False, frozen=True
    )

    type: str = Field(
        PYTHON_SCRIPT,
        max_length=64,
        pattern=r"^[a-z][a-z0-9-]*$",
        description="a worker type, as listed by /api/worker/types",
    )
    project: str = Field(
        "default", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$",
        description="a label to filter by",
    )  # fmt: skip
    script: Optional[str] = Field(
        None, max_length=MAX_PATH, description="path of a Python script; give this or `module`"
    )
    module: Optional[str] = Field(
        None, max_length=255, description="module below `cwd`, run with `python -m`"
    )
    venv: Optional[str] = Field(
        None, max_length=MAX_PATH, description="folder of the virtual environment to run it in"
    )
    args: List[str] = Field([], max_length=MAX_ARGS, description="passed as they are; no shell")
    params: Dict[str, Any] = Field({}, description="passed as flags (`--x 5`) after `args`")
    env: Dict[str, str] = Field(
        {}, max_length=100, description="environment variables; their values are never shown"
    )
    cwd: Optional[str] = Field(
        None, max_length=MAX_PATH, description="working folder; by default the project folder"
    )
    stdin: Optional[str] = Field(None, description="text for standard input; empty by default")
    warm: Optional[bool] = Field(
        None, description="use a standby interpreter; by default as the script's header says"
    )
    preload: Optional[List[str]] = Field(
        None,
        max_length=MAX_PRELOAD,
        description="modules that the standby interpreter imports ahead",
    )
    timeout: Optional[float] = Field(None, gt=0, description="seconds one attempt may take")
    expires: Optional[float] = Field(
        None, gt=0, le=YEAR, description="seconds the job may wait for its start"
    )
    retries: int = Field(0, ge=0, le=100, description="how many more attempts a failed job gets")
    retry_delay: float = Field(
        0,
        ge=0,
        le=86400,
        description="seconds before the next attempt; doubles each time",
    )
    delay: Optional[float] = Field(None, ge=0, le=YEAR, description="seconds until the job is due")
    run_at: Optional[str] = Field(
        None, max_length=64, description="when the job is due: RFC 3339 with a time zone"
    )

    @field_validator("script", "venv", "cwd")
    @classmethod
    def _check_path(cls, path: Optional[str]) -> Optional[str]:
        if path is None:
            return None
        if not path:
            raise ValueError("the path is empty; give the path of a file or folder")
        if _CONTROL.search(path):
            raise ValueError("the path has a control character; remove it")
        if ".." in path.split("/"):
            raise ValueError("the path has '..'; write it without")
        if path.startswith("~") or "://" in path:
            raise ValueError("the path is not expanded; write it in full, without ~ or ://")
        return path

    @field_validator("module")
    @classmethod
    def _check_module(cls, module: Optional[str]) -> Optional[str]:
        if module is not None and not is_module_name(module):
            raise ValueError("this is not a module name; write it like jobs.nightly")
        return module

    @field_validator("preload")
    @classmethod
    def _check_preload(cls, preload: Optional[List[str]]) -> Optional[List[str]]:
        for name in preload or ():
            if not is_module_name(name):
                raise ValueError(f"{name[:80]!r} is not a module name; write it like numpy.linalg")
        return preload

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: List[str]) -> List[str]:
        if any("\0" in arg for arg in args):
            raise ValueError("an argument has a NUL character; remove it")
        if sum(len(arg.encode()) + 1 for arg in args) > MAX_ARG_BYTES:
            raise ValueError("the arguments together exceed 32 KiB; pass the data by stdin")
        return args

    @field_validator("params")
    @classmethod
    def _check_params(cls, params: Dict[str, Any]) -> Dict[str, Any]:
        for name in params:
            if not _PARAM_NAME.match(name):
                raise ValueError(
                    f"{name[:80]!r} cannot be the name of a flag; use letters, digits, - and _"
                )
        if nests_deeper(params, MAX_DEPTH):
            raise ValueError("the params are nested too deeply; pass them by stdin")
        flags = params_as_flags(params)
        if any("\0" in flag for flag in flags):
            raise ValueError("a value has a NUL character; remove it")
        if len(flags) > 1000 or any(len(flag.encode()) > MAX_TEXT_BYTES for flag in flags):
            raise ValueError("the params are too many or too long; pass them by stdin")
        return params

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: Dict[str, str]) -> Dict[str, str]:
        for name, value in env.items():
            if not _ENV_NAME.match(name):
                raise ValueError(f"{name[:80]!r} is not the name of a variable; use A-Z, 0-9 and _")
            if _FORBIDDEN_ENV.match(name):
                raise ValueError(f"{name} may not be set by a request; choose another name")
            if "\0" in value:
                raise ValueError(f"the value of {name} has a NUL character; remove it")
            if len(value.encode()) > MAX_TEXT_BYTES:
                raise ValueError(f"the value of {name} has over 100,000 bytes; pass it by stdin")
        return env

    @field_validator("run_at")
    @classmethod
    def _check_run_at(cls, text: Optional[str]) -> Optional[str]:
        if text is not None:
            parse_rfc3339(text)
        return text

    @model_validator(mode="after")
    def _check_together(self) -> "JobRequest":
        if self.delay is not None and self.run_at is not None:
            raise ValueError("delay and runAt exclude each other; give only one of them")
        return self

    def due_at(self, now: float) -> Optional[float]:
        """When the job is due, in seconds since the epoch; None for now."""
        if self.run_at is not None:
            return parse_rfc3339(self.run_at)
        return now + self.delay if self.delay else None


def is_module_name(name: str) -> bool:
    """Whether `name` is a dotted module name of at most 255 characters."""
    return len(name) <= 255 and _MODULE.match(name) is not None


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch. Raises ValueError with a sentence, also when the zone is missing."""
    example = "write it like 2026-11-22T12:00:00Z"
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"this is not an RFC 3339 time; {example}")
    day, clock, fraction, zone = match.groups("")
    if not zone:
        raise ValueError(f"the time zone is missing; {example}")
    offset = "+00:00" if zone in "Zz" else zone
    try:
        when = datetime.fromisoformat(f"{day}T{clock}.{fraction[:6]:0<6}{offset}")
    except ValueError:
        raise ValueError(f"there is no such day or hour; {example}") from None
    if when.year not in _YEARS:
        raise ValueError(f"the year {when.year} is out of range; {example}")
    return when.timestamp()


def nests_deeper(value: Any, levels: int) -> bool:
    """Whether the lists and objects of a JSON value are nested more than `levels` deep."""
    if not isinstance(value, (dict, list)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(nests_deeper(item, levels - 1) for item in items)


def params_as_flags(params: Dict[str, Any]) -> List[str]:
    """`{"x": 5, "tag": ["a", "b"], "dry": true}` as `--x 5 --tag a --tag b --dry`.

    false and null leave the flag out. An object is passed as JSON. 5.0 is passed as 5, which to
    JSON is the same number. A value that begins with a dash is passed as `--x=-5`, so that it is
    not mistaken for a flag.
    """
    flags: List[str] = []
    for name, value in params.items():
        for item in value if isinstance(value, list) else [value]:
            if item is True:
                flags.append(f"--{name}")
            elif item is not None and item is not False:
                whole = isinstance(item, float) and item.is_integer()
                text = item if isinstance(item, str) else json.dumps(int(item) if whole else item)
                flags += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return flags
