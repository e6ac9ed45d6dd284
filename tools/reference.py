"""Generates the reference in docs/ from the code: HTTP API, settings, commands, states of a job.

`make reference` runs it; test_reference.py fails when the files are not what the code says. The
OpenAPI document, the fields of Settings, the commands of click and `jobs.states.TRANSITIONS` are
rendered here, so that another release of those libraries does not change the files. HTTP is in
reference_http.py.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import typing
from pathlib import Path
from typing import Any, Dict, List, Tuple

import click
from reference_http import openapi, table
from reference_http import page as http_page
from typing_extensions import Literal, get_args, get_origin

from robotni.cli.main import main as robotni_command
from robotni.jobs.models import JobError
from robotni.jobs.states import STATES, TERMINAL, TRANSITIONS
from robotni.settings import PREFIX, Settings

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = DOCS.parent / "examples" / "nextjs"
NOTE = "<!-- Written by `make reference` from the code; change it there. -->\n"

# A sentence for each transition and each error code; add one for a new one here.
WHEN = {
    "due": "its `runAt` has come, or the delay before its next attempt is over",
    "claim": "a worker starts it; `attempt` rises",
    "release": "the run certainly did not start, say because the worker died; `attempt` falls",
    "requeue": "the attempt failed, and `retries` allow another one now",
    "postpone": "the attempt failed, and `retries` allow another one after `retryDelay`",
    "complete": "the script ended with exit code 0",
    "fail": "the attempt failed, and no other one follows; `error` says why",
    "abort": "it was cancelled while it ran, and all its processes have ended",
    "request_cancel": "a cancel was requested while it runs; its processes are being ended",
    "cancel": "it was cancelled before it started",
    "expire": "it waited for its start longer than its `expires`",
}
FAILURES = {
    "exit_nonzero": "the script ended with an exit code other than 0: see `exitCode`",
    "signalled": "a signal that robotni did not send ended the script: see `signal`",
    "timeout": "the attempt took longer than the job's `timeout`",
    "out_of_memory": "the kernel killed the script because the machine ran out of memory",
    "spawn_failed": "the script could not be started: it or its Python is gone, or the disk full",
    "lost": "the processes of the run died with the machine, or were killed from outside",
    "result_invalid": "the script ended well, but its result is no JSON, over 1 MiB, or nested too "
    "deep; it is not tried again",
    "expired": "the job waited for its start longer than its `expires`",
}


def pages() -> Dict[str, str]:
    """Each generated file below docs/, and its text."""
    texts = {
        "reference/http.md": http_page(NOTE),
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/states.md": states(),
        "lifecycle.svg": lifecycle(),
    }
    return {name: re.sub(r"\n{3,}", "\n\n", text) for name, text in texts.items()}


# Settings


def settings() -> str:
    rows = [
        (f"`{PREFIX}{name.upper()}`", default(name, field), limits(field), field.description or "")
        for name, field in Settings.model_fields.items()
        if name != "project_folder"
    ]
    return "\n".join(
        (
            NOTE,
            "# Settings\n",
            "Set them in the environment, or in a file `.env` in the project folder, from which "
            "only `ROBOTNI_` names are read; the environment wins. Durations are seconds. With a "
            "wrong value, or a `ROBOTNI_` name that does not exist, robotni does not start; it "
            "prints one line for each.\n",
            table(("setting", "default", "limits", "meaning"), rows),
            "The commands that speak HTTP read two more: `ROBOTNI_URL`, where the server is, and "
            "`ROBOTNI_TOKEN`.\n",
        )
    )


def default(name: str, field: Any) -> str:
    value = field.default
    if name == "script_roots":
        return "the project folder"
    if value in (None, (), ""):
        return "unset"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{int(value) if isinstance(value, bool) else value}`"


def limits(field: Any) -> str:
    if get_origin(field.annotation) in (Literal, typing.Literal):  # two things on Python 3.8
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    signs = (("gt", "> "), ("ge", "≥ "), ("lt", "< "), ("le", "≤ "))
    found = [
        f"{sign}{getattr(limit, name)}"
        for name, sign in signs
        for limit in field.metadata
        if hasattr(limit, name)
    ]
    return ", ".join(found)


# Commands


def commands() -> str:
    parts = [
        NOTE,
        "# Commands\n",
        "`robotni --help` lists them; `python -m robotni` is the same program. Exit codes: 0 done, "
        "1 the job or the request failed, 2 wrong usage or settings. `robotni run` exits with the "
        "script's own exit code, 124 after a timeout, 130 when cancelled.\n",
    ]
    for name, command in sorted(robotni_command.commands.items()):
        if not command.hidden:
            parts.append(describe(name, command))
    return "\n".join(parts)


def describe(name: str, command: click.Command) -> str:
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [argument(p) for p in shown if isinstance(p, click.Argument)]
    words = ["robotni", name, "[OPTIONS]" if len(shown) > len(arguments) else "", *arguments]
    parts = [f"## {name}\n", f"`{' '.join(w for w in words if w)}`\n"]
    for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("Example: "):
            text = f"Example: `{text[len('Example: ') :]}`"
        parts.append(f"{text}\n")
    rows = [option(p) for p in shown if isinstance(p, click.Option)]
    if rows:
        parts.append(table(("option", "meaning"), rows))
    return "\n".join(parts)


def argument(parameter: click.Argument) -> str:
    name = (parameter.name or "").upper()
    text = f"[-- {name}]" if parameter.nargs == -1 else name
    return text if parameter.required or parameter.nargs == -1 else f"[{text}]"


def option(parameter: click.Option) -> Tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    names += f" `{parameter.metavar}`" if parameter.metavar else ""
    text = parameter.help or ""
    if parameter.show_default and parameter.default is not None:
        text += f"  [default: {parameter.default}]"
    if parameter.envvar:
        text += f"  [also: {parameter.envvar}]"
    return names, text.strip()


# States


def states() -> str:
    codes = list(get_args(JobError.model_fields["code"].annotation))
    transitions = [
        (f"`{verb}`", ", ".join(f"`{s}`" for s in STATES if s in froms), f"`{to}`", WHEN[verb])
        for verb, (froms, to) in TRANSITIONS.items()
    ]
    ends = ", ".join(f"`{state}`" for state in STATES if state in TERMINAL)
    return "\n".join(
        (
            NOTE,
            "# States of a job\n",
            "![The states of a job and the transitions between them](../lifecycle.svg)\n",
            f"{ends} are terminal: such a job never changes, and `finishedAt` is set exactly then. "
            "Each transition is one guarded UPDATE of the job's row, so of two that compete one "
            "wins.\n",
            table(("transition", "from", "to", "when"), transitions),
            "## How a job fails\n",
            "The values of `error.code` of a `failed` job, and of each attempt that failed. "
            "`error.message` is a sentence that says what to do.\n",
            table(("code", "meaning"), [(f"`{code}`", FAILURES[code]) for code in codes]),
        )
    )


PLACES = {
    "scheduled": (120, 130),
    "pending": (400, 130),
    "running": (680, 130),
    "cancelled": (120, 330),
    "failed": (400, 330),
    "completed": (680, 330),
}
# The path of each arrow, and where its verbs are written. Draw a new transition here.
ARROWS = {
    ("scheduled", "pending"): ("M185 130 H330", (258, 122)),
    ("pending", "running"): ("M465 120 H610", (538, 112)),
    ("running", "pending"): ("M615 142 H470", (538, 160)),
    ("running", "scheduled"): ("M660 107 C620 30 180 30 122 102", (400, 42)),
    ("running", "running"): ("M700 107 C700 50 790 60 748 116", (745, 62)),
    ("running", "completed"): ("M680 153 V302", (724, 235)),
    ("running", "failed"): ("M650 153 L452 303", (602, 235)),
    ("running", "cancelled"): ("M630 153 L190 318", (262, 275)),
    ("pending", "cancelled"): ("M355 153 L163 303", (278, 182)),
    ("scheduled", "cancelled"): ("M120 153 V302", (90, 235)),
    ("pending", "failed"): ("M400 153 V302", (434, 280)),
}
COLOURS = {
    "scheduled": "#7e57c2",
    "pending": "#1e66c9",
    "running": "#00798c",
    "completed": "#2e7d32",
    "failed": "#c62828",
    "cancelled": "#9a6700",
}


def lifecycle() -> str:
    verbs: Dict[Tuple[str, str], List[str]] = {}
    for verb, (froms, to) in TRANSITIONS.items():
        for start in froms:
            verbs.setdefault((start, to), []).append(verb)
    if set(verbs) != set(ARROWS):
        raise SystemExit(
            f"draw these transitions in tools/reference.py: {set(verbs) ^ set(ARROWS)}"
        )
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 385" role="img"',
        '  font-family="system-ui, sans-serif" font-size="14" text-anchor="middle">',
        "<title>The states of a job and the transitions between them</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"',
        '  markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="#555"/></marker></defs>',
        '<rect width="820" height="385" rx="10" fill="#fff"/>',
    ]
    for edge, (path, _) in ARROWS.items():
        assert edge in verbs
        lines.append(f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"/>')
    for edge, (_, (x, y)) in ARROWS.items():
        text = ", ".join(verbs[edge])
        lines.append(
            f'<text x="{x}" y="{y}" fill="#222" stroke="#fff" stroke-width="5" '
            f'paint-order="stroke">{text}</text>'
        )
    for state in STATES:
        x, y = PLACES[state]
        radius = 23 if state in TERMINAL else 8
        lines.append(
            f'<rect x="{x - 65}" y="{y - 23}" width="130" height="46" rx="{radius}" '
            f'fill="{COLOURS[state]}"/>'
        )
        lines.append(f'<text x="{x}" y="{y + 5}" fill="#fff" font-weight="bold">{state}</text>')
    return "\n".join((*lines, "</svg>\n"))


def main() -> None:
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {', '.join(pages())}\n")
    write_types()


def write_types() -> None:
    """The API's types for the Next.js example."""
    if shutil.which("npm") is None:
        sys.stdout.write("no npm here: examples/nextjs/lib/openapi.ts stays as it is\n")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as document:
        json.dump(openapi(), document)
        document.flush()
        subprocess.run(["npm", "ci", "--silent"], cwd=EXAMPLE, check=True)
        types = ["npm", "run", "--silent", "types", "--", document.name]
        subprocess.run(types, cwd=EXAMPLE, check=True)


if __name__ == "__main__":
    main()
