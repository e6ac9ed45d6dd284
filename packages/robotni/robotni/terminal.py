"""How things look in a terminal: tables and colour there, plain tab-separated lines in a pipe."""

import json
import shlex
import sys
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, Sequence

import click

from robotni.job import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING, SCHEDULED

_COLOURS = {
    COMPLETED: "green",
    FAILED: "red",
    CANCELLED: "yellow",
    RUNNING: "cyan",
    PENDING: "blue",
    SCHEDULED: "magenta",
}
_SHOWN = (
    "jobId", "status", "project", "type", "script", "module", "venv", "args", "params", "cwd",
    "env", "timestamp", "runAt", "startedAt", "finishedAt", "attempt", "maxAttempts", "retryOf",
    "exitCode", "signal", "error", "progress", "result", "outputBytes",
)  # fmt: skip


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if is_terminal() else None))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on a terminal; in a pipe a line for each row, columns separated by tabs."""
    texts = [[printable("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not is_terminal():
        for row in texts:
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "id", overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)


def print_finding(check: str, text: str, mend: str) -> None:
    """One line: whether it is well, what it is about, what was found, and how to mend it."""
    mark = click.style(f"{'mend' if mend else 'ok':<6}", fg="red" if mend else "green", bold=True)
    what = f"{text}; {mend}" if mend else text
    click.echo(f"{mark}{check:<16}{printable(what)}".replace("\n", " "))


def print_job(job: Dict[str, Any]) -> None:
    """One job, a line for each fact, then the end of its output."""
    for name in _SHOWN:
        if job[name] not in (None, [], {}, ""):
            text = _fact(job[name])
            colour = _COLOURS.get(text) if name == "status" else None
            click.echo(f"{name:<12} {click.style(text, fg=colour) if colour else text}")
    click.echo(f"{'reproduce':<12} {printable(reproduce(job))}")
    if job["output"]:
        click.echo(f"\n{printable(job['output'])}", nl=not job["output"].endswith("\n"))


def reproduce(job: Dict[str, Any]) -> str:
    """The shell command that runs the same by hand. Of the environment it knows names only."""
    names = [f"{name}=…" for name in job["env"]]
    python = f"{job['venv']}/bin/python" if job["venv"] else "python"
    what = ["-m", job["module"]] if job["module"] else [job["script"] or job["type"]]
    from robotni.request import params_as_flags

    words = [python, *what, *job["args"], *params_as_flags(job["params"])]
    command = " ".join([*names, *map(shlex.quote, words)])
    return f"cd {shlex.quote(job['cwd'])} && {command}"


def _fact(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"code", "message"}:
        return printable(f"{value['code']}: {value['message']}")
    return printable(value if isinstance(value, str) else json.dumps(value))


def printable(text: str) -> str:
    """Without what could steer the terminal, but for line ends and tabs."""
    good = (c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(good)


def ago(stamp: str) -> str:
    """`2026-11-22T12:00:00.000Z` as `5 min`."""
    when = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    seconds = max(0, int((datetime.now(timezone.utc) - when).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def rows_of(jobs: List[Dict[str, Any]]) -> Iterable[Sequence[Any]]:
    for job in jobs:
        name = job["script"] or job["module"] or job["type"]
        short = name.rsplit("/", 1)[-1] if is_terminal() else name
        age = ago(job["timestamp"]) if is_terminal() else job["timestamp"]
        error = job["error"]["code"] if job["error"] else None
        yield job["jobId"], job["status"], short, job["project"], age, error
