"""The worker types: scripts in this folder that describe themselves, and the registry of them.

A type is a plain script, which runs as any other job does, in robotni's own interpreter. The table
`[tool.robotni]` of its PEP 723 block has `type`, `title`, `description` and, as JSON Schema, its
`params`. To add a type, add a script: there is no list of them elsewhere. Headers are read without
running the script.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field

from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.request import PYTHON_SCRIPT
from robotni.jobs.script_header import parse_block

_ANY_PARAMS = {"type": "object"}
CAPABILITIES = ["cancel", "timeout", "retry", "output", "progress", "result"]
MAX_ERRORS = 20  # that one request gets to see


class WorkerType(BaseModel):
    """One kind of job. `schema` is the JSON Schema of its params."""

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, json_schema_serialization_defaults_required=True
    )

    type: str
    title: str
    description: str
    capabilities: List[str] = CAPABILITIES
    params_schema: Dict[str, Any] = Field(alias="schema")
    script: Optional[Path] = Field(None, exclude=True)

    def check_params(self, params: Dict[str, Any]) -> None:
        """Raises InvalidRequest with a pointer to each param that violates the schema."""
        if self.params_schema == _ANY_PARAMS:
            return
        from jsonschema import Draft202012Validator  # 3 MB of memory; most servers never need it

        validator = Draft202012Validator(self.params_schema)
        errors = sorted(validator.iter_errors(params), key=lambda e: list(map(str, e.path)))
        if errors:
            raise InvalidRequest([_field_error(error) for error in errors[:MAX_ERRORS]])


class Registry:
    """All worker types by name: `python-script`, and one for each script in `folder`."""

    def __init__(self, folder: Path = Path(__file__).parent) -> None:
        scripts = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
        self._types: Dict[str, WorkerType] = {}
        for worker_type in (_PYTHON_SCRIPT, *map(read_worker_type, scripts)):
            if worker_type.type in self._types:
                raise ValueError(f"{worker_type.script}: type {worker_type.type} exists already")
            self._types[worker_type.type] = worker_type

    def list(self) -> List[WorkerType]:
        return [self._types[name] for name in sorted(self._types)]

    def get(self, name: str) -> WorkerType:
        """The type of that name. Raises InvalidRequest, which lists the types, if there is none."""
        if name not in self._types:
            detail = f"{name} is not a worker type; the types are {', '.join(sorted(self._types))}"
            raise InvalidRequest([FieldError("/type", detail)])
        return self._types[name]


_PYTHON_SCRIPT = WorkerType(
    type=PYTHON_SCRIPT,
    title="Python script",
    description="Runs a script, or a module, in a virtual environment of yours.",
    params_schema=_ANY_PARAMS,
)


def read_worker_type(script: Path) -> WorkerType:
    """The worker type that a script describes in its header. Raises ValueError if it has none."""
    block = parse_block(script.read_text(encoding="utf-8"))
    if block is None:
        raise ValueError(f"{script} has no '# /// script' block with [tool.robotni]")
    try:
        table = block["tool"]["robotni"]
        return WorkerType(
            type=table["type"],
            title=table["title"],
            description=table["description"],
            params_schema=table["params"],
            script=script,
        )
    except KeyError as error:
        raise ValueError(f"the block of {script} lacks {error} for [tool.robotni]") from None


def _field_error(error: Any) -> FieldError:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path)
    message = error.message
    if len(message) > 300:  # it quotes the value
        message = f"{message[:150]} … {message[-100:]}"
    return FieldError("/".join(["/params", *parts]), message)
