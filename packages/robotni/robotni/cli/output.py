"""What commands print: tables and colours on a terminal, tab-separated lines in a pipe."""

import errno
import json
import os
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


# Why a write fails, other than that the reader has left (EPIPE), which click takes care of.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def open_missing_streams() -> None:
    """Opens `/dev/null` for each of stdin, stdout and stderr that was closed, before another file
    gets its number."""
    fd = 0
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.close(fd)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def drop_rest() -> None:
    """Makes stdout, which takes no more, `/dev/null`: Python flushes it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if is_terminal() else None))


def write(data: bytes) -> None:
    """Writes bytes unchanged: the output of a script need not be text."""
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class StatusLine:
    """The progress of a job in the last line of a terminal; nothing when stderr is not one."""

    def __init__(self) -> None:
        self._is_wanted = sys.stderr.isatty()
        self._is_shown = False
        self._is_at_margin = True
        self._start = time.monotonic()

    def show(self, job: Mapping[str, Any], last_output: bytes) -> None:
        """Shows the progress, unless the output stopped in the middle of a line."""
        if last_output and is_terminal():
            self._is_at_margin = last_output.endswith(b"\n")
        text = _progress(job, int(time.monotonic() - self._start))
        if not (self._is_wanted and self._is_at_margin and text):
            return
        from rich.cells import set_cell_size

        width = shutil.get_terminal_size().columns - 1
        text = set_cell_size(printable(text).replace("\n", " "), width).rstrip()
        click.echo(f"\r\x1b[K{click.style(text, fg='cyan')}", err=True, nl=False)
        self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._is_shown = False


def _progress(job: Mapping[str, Any], seconds: int) -> str:
    if job["status"] == SCHEDULED:
        return f"scheduled for {job['runAt']}"
    if job["status"] == PENDING and seconds:
        return f"pending for {seconds} s"
    if job["status"] == RUNNING and job["progress"]:
        return f"{job['progress']['percent']:3.0f} %  {job['progress']['message']}"
    return ""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on a terminal; in a pipe one line for each row, columns separated by tabs."""
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


def print_finding(check: str, text: str, fix: str) -> None:
    """One line of `robotni doctor`: ok or fix, what was checked, what was found, how to fix it."""
    mark = click.style(f"{'fix' if fix else 'ok':<5}", fg="red" if fix else "green", bold=True)
    sentence = f"{text}; {fix}" if fix else text
    click.echo(f"{mark}{check:<16}{printable(sentence)}".replace("\n", " "))


def print_job(job: Dict[str, Any]) -> None:
    """One job: a line for each field that is set, then the end of its output."""
    for name in _SHOWN:
        value = job[name]
        if value is not False and value not in (None, [], {}, ""):
            text = _field_text(value)
            colour = _COLOURS.get(text) if name == "status" else None
            click.echo(f"{name:<12} {click.style(text, fg=colour) if colour else text}")
    click.echo(f"{'reproduce':<12} {printable(shell_command(job))}")
    if job["output"]:
        if job["outputTruncated"]:
            shown, size = len(job["output"].encode()), job["outputBytes"]
            rest = f"the last {shown} of {size} bytes; robotni logs prints what was kept"
            click.echo(f"{'output':<12} {rest}")
        click.echo(f"\n{printable(job['output'])}", nl=not job["output"].endswith("\n"))


def shell_command(job: Dict[str, Any]) -> str:
    """The command that runs the same by hand. Values of its `env` are unknown and left open."""
    from robotni.jobs.request import params_as_flags

    names = [f"{name}=…" for name in job["env"]]
    python = f"{job['venv']}/bin/python" if job["venv"] else "python"
    program = ["-m", job["module"]] if job["module"] else [job["script"] or job["type"]]
    words = [python, *program, *job["args"], *params_as_flags(job["params"])]
    command = " ".join([*names, *map(shlex.quote, words)])
    return f"cd {shlex.quote(job['cwd'])} && {command}"


def _field_text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"code", "message"}:
        return printable(f"{value['code']}: {value['message']}")
    return printable(value if isinstance(value, str) else json.dumps(value))


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey; newlines and tabs stay."""
    good = (c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(good)


def age(timestamp: str) -> str:
    """The time since `2026-11-22T12:00:00.000Z`, like `5 min`."""
    then = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    seconds = max(0, int((datetime.now(timezone.utc) - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def job_rows(jobs: List[Dict[str, Any]]) -> Iterable[Sequence[Any]]:
    """The rows of a table of jobs; shortened on a terminal."""
    for job in jobs:
        name, time_ = job["script"] or job["module"] or job["type"], job["timestamp"]
        if is_terminal():
            name, time_ = name.rsplit("/", 1)[-1], age(time_)
        error = job["error"]["code"] if job["error"] else None
        yield job["jobId"], job["status"], name, job["project"], time_, error
