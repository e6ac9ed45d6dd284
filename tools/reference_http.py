"""docs/reference/http.md, from the OpenAPI document and the texts in http_texts.py."""

import json
import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

from http_texts import (
    COMMON,
    ERRORS,
    FIELDS,
    HEADERS,
    JOB_ID,
    JOBS,
    NOTES,
    OPTIONS,
    PARAMETERS,
    STATUSES,
)

from robotni.bootstrap import build_app
from robotni.settings import Settings
from robotni.web.security import OPEN_PATHS

METHODS = ("get", "post", "put", "patch", "delete")
INTRODUCTION = """\
JSON in camelCase; times are RFC 3339 in UTC, durations are seconds. `/docs` of a running server
shows the same calls to try, and `/openapi.json` describes them for programs.

* **Token.** With `ROBOTNI_TOKEN` set, every call but those marked *open* carries
  `Authorization: Bearer …`.
* **Polling.** A job that has not ended is answered with `Retry-After: 5`, the seconds to wait
  before the next look. A GET has an `ETag`; send it as `If-None-Match`, and an unchanged answer is
  `304` without a body.
* **Bodies** are at most 1 MiB of JSON, with `Content-Type: application/json`. An unknown field is
  refused.
* **Refusals.** Any call may be refused with 401, 403 or 422, one with a body also with 413 or 415.
  Each call below lists only what else it may be refused with; [Errors](#errors) explains all.
"""
ERRORS_INTRODUCTION = """\
Every error is `application/problem+json` (RFC 9457): a [Problem](#problem). `code` never changes;
`detail` is for people and says what to do.
"""


def page(note: str) -> str:
    document = openapi()
    parts = [note, "# HTTP API\n", INTRODUCTION]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                parts.append(operation(method.upper(), path, operations[method], document))
    parts += ["## Errors\n", ERRORS_INTRODUCTION]
    rows = [(str(status), f"`{code}`", text) for (status, code), text in sorted(ERRORS.items())]
    parts.append(table(("status", "code", "when"), rows))
    parts += ["```json", problem_example(), "```\n"]
    parts += ["## Objects\n", "A field with `?` may be left out.\n"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema and "ValidationError" not in name:
            parts += [f"### {name}\n", fields(name, schema)]
    return "\n".join(parts)


def openapi() -> Dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return build_app(Settings(project_folder=Path(folder))).openapi()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |\n" for r in cells)


# One call


def operation(method: str, path: str, about: Dict[str, Any], document: Dict[str, Any]) -> str:
    name = about["operationId"]
    mark = " *open*" if path in OPEN_PATHS else ""
    summary = f"{about['summary']}.{mark} {NOTES.get(name, '')}"
    parts = [f"## {method} `{path}`\n", f"{summary.strip()}\n"]
    given = [
        (
            f"`{p['name']}`",
            p["in"],
            kind(p["schema"]),
            p.get("description") or PARAMETERS[p["name"]],
        )
        for p in about.get("parameters", ())
    ]
    if given:
        parts.append(table(("parameter", "in", "type", "meaning"), given))
    if "requestBody" in about:
        parts.append(f"Body: {kind(body_schema(about))}\n")
    answers = [
        (status, answer["description"].replace("Successful Response", "Done"), body_of(answer))
        for status, answer in sorted(about["responses"].items())
        if status < "400"
    ]
    parts.append(table(("status", "meaning", "body"), answers))
    others = [s for s in sorted(about["responses"]) if s >= "400" and s not in COMMON]
    if others:
        parts.append(f"May be refused with {listed(others)}.\n")
    parts += ["```text", example(method, path, about, document), "```\n"]
    return "\n".join(parts)


def listed(words: List[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def body_schema(about: Dict[str, Any]) -> Dict[str, Any]:
    schema: Dict[str, Any] = about["requestBody"]["content"]["application/json"]["schema"]
    return schema


def body_of(answer: Dict[str, Any]) -> str:
    for media, content in answer.get("content", {}).items():
        if "$ref" in content.get("schema", {}):
            return kind(content["schema"])
        return f"`{media}`"
    return ""


def example(method: str, path: str, about: Dict[str, Any], document: Dict[str, Any]) -> str:
    """A call by curl, and what comes back."""
    name = about["operationId"]
    given = OPTIONS.get(name, "")
    query, options = (given, "") if given.startswith("?") else ("", given)
    url = "http://127.0.0.1:8000" + path.replace("{jobId}", JOB_ID).replace("{task_id}", JOB_ID)
    words = ["$ curl -i", f"-X {method}" if method in ("DELETE", "POST") else "", options]
    words.append(f"'{url}{query}'" if query else url)
    command = " ".join(filter(None, words))
    if "requestBody" in about and example_of(body_schema(about), document) is not None:
        command = command.replace(" -X POST", "")
        body = json.dumps(example_of(body_schema(about), document))
        command += f" -H 'Content-Type: application/json' \\\n    -d '{body}'"
    status = STATUSES.get(name) or success(about, bool(JOBS.get(name)))
    lines = [command, f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *HEADERS.get(name, ()), ""]
    return "\n".join([*lines, answer_text(name, about, document)])


def success(about: Dict[str, Any], is_accepted: bool) -> int:
    """The status of the example: 202 where a call may answer with it and with 200."""
    found = [int(status) for status in about["responses"] if status < "300"]
    return max(found) if is_accepted else min(found)


def answer_text(name: str, about: Dict[str, Any], document: Dict[str, Any]) -> str:
    status = str(success(about, bool(JOBS.get(name))))
    ((media, content),) = about["responses"][status]["content"].items()
    value = content.get("example")
    if value is None:
        value = example_of(content["schema"], document)
    if name in JOBS:
        value = {k: {**value, **JOBS[name]}[k] for k in ("jobId", "type", "status", *JOBS[name])}
        return json.dumps(value)[:-1] + ", …}"
    if name == "listJobs":
        head = {k: value["jobs"][0][k] for k in ("jobId", "type", "project", "status", "timestamp")}
        item = json.dumps(head)[:-1] + ", …}"
        return f'{{"jobs": [{item}], "nextCursor": "{value["nextCursor"]}"}}'
    if media == "text/plain":
        return str(value).rstrip()
    return rendered(value)


def rendered(value: Any) -> str:
    """An object with a line for each field, where one line for all would be too long."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 100:
        return text
    lines = [f'  "{name}": {json.dumps(v, ensure_ascii=False)}' for name, v in value.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def example_of(schema: Dict[str, Any], document: Dict[str, Any]) -> Any:
    """The example of the object that a schema names, be it optional."""
    for each in schema.get("anyOf", [schema]):
        if "$ref" in each:
            return document["components"]["schemas"][name_of(each)].get("example")
    return None


def problem_example() -> str:
    problem = {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "…",
        "code": "invalid_request",
        "errors": [{"pointer": "/script", "detail": "…"}],
    }
    return rendered(problem)


# Schemas


def name_of(reference: Dict[str, Any]) -> str:
    return str(reference["$ref"].rsplit("/", 1)[1])


def kind(schema: Dict[str, Any]) -> str:
    """A schema as a reader says it."""
    if "$ref" in schema:
        return f"[{name_of(schema)}](#{name_of(schema).lower()})"
    if "anyOf" in schema:
        return " or ".join(kind(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    text = str(schema.get("type", "any JSON")).replace("object", "an object")
    text = {"date-time": "time"}.get(str(schema.get("format")), text)
    return text + bounds(schema)


def bounds(schema: Dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": "> ", "minimum": "≥ ", "maximum": "≤ ", "maxItems": "items ≤ "}
    found = [f"{sign}{schema[name]:.12g}" for name, sign in signs.items() if name in schema]
    return f" ({', '.join(found)})" if found else ""


def fields(name: str, schema: Dict[str, Any]) -> str:
    if name == "JobItem":
        return "A [Job](#job) without `output` and `attempts`.\n"
    required = schema.get("required", ())
    rows: List[Tuple[str, str, str]] = []
    for field, about in schema["properties"].items():
        meaning = about.get("description") or FIELDS.get(name, {}).get(field)
        if meaning is None:
            raise SystemExit(f"say in tools/http_texts.py what {field} of {name} is")
        rows.append((f"`{field}`" + ("" if field in required else "?"), kind(about), meaning))
    return table(("field", "type", "meaning"), rows)
