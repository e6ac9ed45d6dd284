"""How things look in a terminal: tables and colour there, plain tab-separated lines in a pipe."""

import json
import shlex
import shutil
import sys
import time
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, List, Mapping, Sequence

import click

from robotni.jobs.states import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING, SCHEDULED

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
    "exitCode", "signal", "error", "progress", "result", "outputBytes", "warm", "preload",
)  # fmt: skip


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if is_terminal() else None))


def write(data: bytes) -> None:
    """As it is: what a script prints may be no text."""
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class StatusLine:
    """How far a job is, as the last line of a terminal; in a pipe there is none."""

    def __init__(self) -> None:
        self._is_wanted = sys.stderr.isatty()
        self._is_shown = False
        self._at_margin = True
        self._began = time.monotonic()

    def show(self, job: Mapping[str, Any], below: bytes) -> None:
        """Shows it, unless what was printed last (`below`) stands in the middle of a line."""
        if below and is_terminal():
            self._at_margin = below.endswith(b"\n")
        text = _how_far(job, int(time.monotonic() - self._began))
        if not (self._is_wanted and self._at_margin and text):
            return
        from rich.cells import set_cell_size

        room = shutil.get_terminal_size().columns - 1
        text = set_cell_size(printable(text).replace("\n", " "), room).rstrip()
        click.echo(f"\r\x1b[K{click.style(text, fg='cyan')}", err=True, nl=False)
        self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._is_shown = False


def _how_far(job: Mapping[str, Any], seconds: int) -> str:
    if job["status"] == SCHEDULED:
        return f"scheduled for {job['runAt']}"
    if job["status"] == PENDING and seconds:
        return f"waits for its turn, {seconds} s"
    if job["status"] == RUNNING and job["progress"]:
        return f"{job['progress']['percent']:3.0f} %  {job['progress']['message']}"
    return ""


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
        fact = job.get(name)  # an older server does not tell all
        if fact is not False and fact not in (None, [], {}, ""):
            text = _fact(fact)
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
    from robotni.jobs.request import params_as_flags

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
