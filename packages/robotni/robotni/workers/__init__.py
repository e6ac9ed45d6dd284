"""The worker types: scripts in this folder that describe themselves, and their registry.

A type is a plain script that runs like every other job, by robotni's own interpreter. Its PEP 723
block holds `[tool.robotni]` with `type`, `title`, `description` and `[tool.robotni.params]`, the
JSON Schema of its params. A new file here is a new type; nothing else needs to know.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field

from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.request import PYTHON_SCRIPT
from robotni.jobs.script_header import parse_block

_ANYTHING = {"type": "object"}
CAPABILITIES = ["cancel", "timeout", "retry", "output", "progress", "result"]


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

    def check(self, params: Dict[str, Any]) -> None:
        """Raises InvalidRequest with a pointer to each param that breaks the schema."""
        if self.params_schema == _ANYTHING:
            return
        from jsonschema import Draft202012Validator  # 3 MB that most servers never need

        validator = Draft202012Validator(self.params_schema)
        faults = sorted(validator.iter_errors(params), key=lambda fault: list(map(str, fault.path)))
        if faults:
            raise InvalidRequest(
                [
                    FieldError(
                        "/".join(["/params", *map(_escape, f.absolute_path)]), _shorten(f.message)
                    )
                    for f in faults[:20]
                ]
            )


class Registry:
    """All worker types by name."""

    def __init__(self, folder: Path = Path(__file__).parent) -> None:
        scripts = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
        self._types: Dict[str, WorkerType] = {}
        for worker_type in (_PYTHON_SCRIPT, *map(describe, scripts)):
            if worker_type.type in self._types:
                raise ValueError(f"{worker_type.script}: type {worker_type.type} exists already")
            self._types[worker_type.type] = worker_type

    def list(self) -> List[WorkerType]:
        return [self._types[name] for name in sorted(self._types)]

    def get(self, name: str) -> WorkerType:
        """The type called `name`; InvalidRequest names the known ones."""
        if name not in self._types:
            known = ", ".join(sorted(self._types))
            raise InvalidRequest(
                [FieldError("/type", f"{name} is no worker type; known are {known}")]
            )
        return self._types[name]


_PYTHON_SCRIPT = WorkerType(
    type=PYTHON_SCRIPT,
    title="Python script",
    description="Runs a script, or a module, in a virtual environment of yours.",
    params_schema=_ANYTHING,
)


def describe(script: Path) -> WorkerType:
    """The worker type a script says it is, read from its PEP 723 block without running it."""
    found = parse_block(script.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{script} has no '# /// script' block with [tool.robotni]")
    try:
        said = found["tool"]["robotni"]
        return WorkerType(
            type=said["type"],
            title=said["title"],
            description=said["description"],
            params_schema=said["params"],
            script=script,
        )
    except KeyError as error:
        raise ValueError(f"the block of {script} lacks {error} for [tool.robotni]") from None


def _escape(part: Any) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _shorten(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:150]} … {message[-100:]}"
