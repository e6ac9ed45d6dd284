"""What a client may ask for: the body of a submit, validated once, every number bounded.

Shape only. Whether the script, the venv and the roots are real is `preflight.py`'s to say.
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
MAX_TEXT_BYTES = 100_000  # of one flag or variable; the kernel takes 128 KiB
MAX_DEPTH = 100  # of nested JSON; what is deeper than some 250 cannot be shown again
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
        None, max_length=MAX_PATH, description="path of a Python script; this or `module`"
    )
    module: Optional[str] = Field(
        None, max_length=255, description="module under `cwd`, run as `python -m`"
    )
    venv: Optional[str] = Field(
        None, max_length=MAX_PATH, description="folder of the virtual environment to run in"
    )
    args: List[str] = Field([], max_length=MAX_ARGS, description="handed on verbatim; no shell")
    params: Dict[str, Any] = Field({}, description="become flags (`--x 5`) after `args`")
    env: Dict[str, str] = Field(
        {}, max_length=100, description="variables for the script; never shown again"
    )
    cwd: Optional[str] = Field(
        None, max_length=MAX_PATH, description="working folder; the project folder by default"
    )
    stdin: Optional[str] = Field(None, description="text for standard input; empty by default")
    warm: Optional[bool] = Field(
        None, description="fork it from a warm interpreter; by default as the script's header says"
    )
    preload: Optional[List[str]] = Field(
        None, max_length=MAX_PRELOAD, description="modules that interpreter has imported"
    )
    timeout: Optional[float] = Field(None, gt=0, description="seconds for one attempt")
    expires: Optional[float] = Field(
        None, gt=0, le=YEAR, description="seconds the job may wait for its start"
    )
    retries: int = Field(0, ge=0, le=100, description="further attempts after a failure")
    retry_delay: float = Field(
        0, ge=0, le=86400, description="seconds before the next attempt; doubles each time"
    )
    delay: Optional[float] = Field(None, ge=0, le=YEAR, description="seconds until it is due")
    run_at: Optional[str] = Field(
        None, max_length=64, description="when it is due: RFC 3339 with a zone"
    )

    @field_validator("script", "venv", "cwd")
    @classmethod
    def _check_path(cls, path: Optional[str]) -> Optional[str]:
        if path is None:
            return None
        if not path:
            raise ValueError("the path is empty; write the path of a file or folder")
        if _CONTROL.search(path):
            raise ValueError("the path holds a control character; write it without")
        if ".." in path.split("/"):
            raise ValueError("the path holds '..'; write it without")
        if path.startswith("~") or "://" in path:
            raise ValueError("the path is taken literally; write it in full, without ~ or ://")
        return path

    @field_validator("module")
    @classmethod
    def _check_module(cls, module: Optional[str]) -> Optional[str]:
        if module is not None and not is_module(module):
            raise ValueError("not a module name; write it like jobs.nightly")
        return module

    @field_validator("preload")
    @classmethod
    def _check_preload(cls, preload: Optional[List[str]]) -> Optional[List[str]]:
        for name in preload or ():
            if not is_module(name):
                raise ValueError(f"{name[:80]!r} is no module name; write it like numpy.linalg")
        return preload

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: List[str]) -> List[str]:
        if any("\0" in arg for arg in args):
            raise ValueError("an argument holds a NUL character; write it without")
        if sum(len(arg.encode()) + 1 for arg in args) > MAX_ARG_BYTES:
            raise ValueError("the arguments are over 32 KiB together; hand it over by stdin")
        return args

    @field_validator("params")
    @classmethod
    def _check_params(cls, params: Dict[str, Any]) -> Dict[str, Any]:
        for name in params:
            if not _PARAM_NAME.match(name):
                raise ValueError(f"{name[:80]!r} cannot be a flag; use letters, digits, - and _")
        if nests_deeper(params, MAX_DEPTH):
            raise ValueError("the params are nested too deeply; hand them over by stdin")
        flags = params_as_flags(params)
        if any("\0" in flag for flag in flags):
            raise ValueError("a value holds a NUL character; write it without")
        if len(flags) > 1000 or any(len(flag.encode()) > MAX_TEXT_BYTES for flag in flags):
            raise ValueError("the params are too many or too long; hand them over by stdin")
        return params

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: Dict[str, str]) -> Dict[str, str]:
        for name, value in env.items():
            if not _ENV_NAME.match(name):
                raise ValueError(f"{name[:80]!r} is no variable name; use A-Z, 0-9 and _")
            if _FORBIDDEN_ENV.match(name):
                raise ValueError(f"{name} may not be set by a request; choose another name")
            if "\0" in value:
                raise ValueError(f"the value of {name} holds a NUL character; write it without")
            if len(value.encode()) > MAX_TEXT_BYTES:
                raise ValueError(f"the value of {name} is over 100,000 bytes; use stdin for it")
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
            raise ValueError("delay and runAt exclude each other; give one of them")
        return self

    def due_at(self, now: float) -> Optional[float]:
        """When the job is due, in seconds since the epoch; None for at once."""
        if self.run_at is not None:
            return parse_rfc3339(self.run_at)
        return now + self.delay if self.delay else None


def is_module(name: str) -> bool:
    """Whether `name` is a dotted module name of at most 255 characters."""
    return len(name) <= 255 and _MODULE.match(name) is not None


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch; ValueError with a sentence, also when the zone is missing."""
    example = "write it like 2026-11-22T12:00:00Z"
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time; {example}")
    day, clock, fraction, zone = match.groups("")
    if not zone:
        raise ValueError(f"the time zone is missing; {example}")
    offset = "+00:00" if zone in "Zz" else zone
    try:
        when = datetime.fromisoformat(f"{day}T{clock}.{fraction[:6]:0<6}{offset}")
    except ValueError:
        raise ValueError(f"no such day or hour; {example}") from None
    if when.year not in _YEARS:
        raise ValueError(f"the year {when.year} is out of reach; {example}")
    return when.timestamp()


def nests_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other more than `levels` deep."""
    if not isinstance(value, (dict, list)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(nests_deeper(item, levels - 1) for item in items)


def params_as_flags(params: Dict[str, Any]) -> List[str]:
    """`{"x": 5, "tag": ["a", "b"], "dry": true}` as `--x 5 --tag a --tag b --dry`.

    false and null leave the flag out; objects are handed over as JSON, and 5.0 as 5, which JSON
    and its schemas take for one number. What begins with a dash
    is written `--x=-5`, so that it cannot pass for a flag.
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
