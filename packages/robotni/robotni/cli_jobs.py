"""The commands that speak HTTP: submit run jobs show logs cancel retry status types."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import click

from robotni import terminal
from robotni.errors import RobotniError
from robotni.job import CANCELLED, COMPLETED, SIGNALLED, STATES, TIMEOUT

if TYPE_CHECKING:
    from robotni.client import Client, RemoteJob

DEFAULT_URL = "http://127.0.0.1:8000"
QUICK, SLOW = 0.2, 1.0  # seconds between two looks at growing output


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that speaks HTTP."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--url", envvar="ROBOTNI_URL", default=DEFAULT_URL, show_default=True, help="The server."
    )(command)


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of submit and run, which make a request alike."""
    for option in reversed(
        (
            click.option("--venv", help="Its environment.  [default: the nearest .venv above it]"),
            click.option("--project", default="default", show_default=True, help="A label."),
            click.option(
                "--cwd", type=click.Path(), help="Working folder.  [default: the project's]"
            ),
            click.option("--timeout", type=float, help="Seconds for one attempt."),
            click.option("--expires", type=float, help="Seconds it may wait for its start."),
            click.option("--retries", type=int, help="Further attempts after a failure."),
            click.option("--retry-delay", type=float, help="Seconds before the next attempt."),
            click.option("--delay", type=float, help="Seconds until it is due."),
            click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="A variable."),
            click.option("--key", help="Idempotency key: sent twice, stored once."),
        )
    ):
        command = option(command)
    command = click.argument("args", nargs=-1)(command)
    return click.argument("script", type=click.Path())(command)


@click.command()
@request_options
@remote
def submit(url: str, as_json: bool, key: Optional[str], **options: Any) -> None:
    """Submit SCRIPT and print the job's id. Its arguments follow `--`.

    Example: robotni submit jobs/hello.py --venv .venv -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
    terminal.print_json(job) if as_json else click.echo(job.id)


@click.command()
@request_options
@remote
def run(url: str, as_json: bool, key: Optional[str], **options: Any) -> None:
    """Run SCRIPT as a job and follow it, as if you ran it yourself.

    Ends with the script's exit code; 124 after a timeout, 130 when cancelled. Ctrl-C asks whether
    to cancel, a second one does.

    Example: robotni run jobs/hello.py -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
        try:
            _follow(job, echo=not as_json)
        except KeyboardInterrupt:
            _cancel_or_leave(job, echo=not as_json)
    if as_json:
        terminal.print_json(job)
    elif job["error"] is not None:
        click.echo(f"robotni: {terminal.printable(job['error']['message'])}", err=True)
    sys.exit(exit_code(job))


@click.command()
@click.option("--status", help=f"Comma list of {', '.join(STATES)}.")
@click.option("--project", help="Only of this project.")
@click.option("--type", help="Only of this worker type.")
@click.option("-q", "--query", "q", help="Start of the script's name, or of the id.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 200))
@remote
def jobs(url: str, as_json: bool, **filters: Any) -> None:
    """List jobs, newest first.

    Example: robotni jobs --status failed -n 5
    """
    with connect(url) as client:
        page = client.list(**filters)
    if as_json:
        terminal.print_json(page)
    else:
        headings = ("id", "status", "script", "project", "age", "error")
        terminal.print_table(headings, terminal.rows_of(page["jobs"]))


@click.command()
@click.argument("job_id")
@remote
def show(job_id: str, url: str, as_json: bool) -> None:
    """Show one job: its state, how it ended, how to reproduce it, the end of its output.

    Example: robotni show 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.get(job_id)
    terminal.print_json(job) if as_json else terminal.print_job(job)


@click.command()
@click.argument("job_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=int, help="Of this attempt.  [default: the last]")
@remote
def logs(job_id: str, follow: bool, attempt: Optional[int], url: str, as_json: bool) -> None:
    """Print the output of a job, as it came.

    Example: robotni logs -f 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        if follow:
            _follow(client.get(job_id), echo=True)
            return
        output = client.output(job_id, attempt=attempt)
    if as_json:
        terminal.print_json({"jobId": job_id, "output": output.decode("utf-8", "replace")})
    else:
        _write(output)


@click.command()
@click.argument("job_id")
@remote
def cancel(job_id: str, url: str, as_json: bool) -> None:
    """Cancel a job that waits or runs.

    Example: robotni cancel 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.cancel(job_id)
    done = "cancelled" if job["status"] == CANCELLED else "is being cancelled"
    terminal.print_json(job) if as_json else click.echo(f"{job_id} {done}")


@click.command()
@click.argument("job_id")
@remote
def retry(job_id: str, url: str, as_json: bool) -> None:
    """Submit an ended job again and print the new id.

    Example: robotni retry 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.retry(job_id)
    terminal.print_json(job) if as_json else click.echo(job.id)


@click.command()
@remote
def status(url: str, as_json: bool) -> None:
    """Show how queue and worker are.

    Example: robotni status
    """
    with connect(url) as client:
        figures = client.status()
    if as_json:
        terminal.print_json(figures)
    else:
        terminal.print_table(("what", "figure"), _figures(figures))


@click.command()
@remote
def types(url: str, as_json: bool) -> None:
    """List the worker types.

    Example: robotni types
    """
    with connect(url) as client:
        listed = client.types()
    if as_json:
        terminal.print_json(listed)
    else:
        rows = [(t["type"], t["title"], t["description"]) for t in listed["types"]]
        terminal.print_table(("type", "title", "description"), rows)


COMMANDS = (submit, run, jobs, show, logs, cancel, retry, status, types)


def connect(url: str) -> "Client":
    from robotni.client import Client

    return Client(url, os.environ.get("ROBOTNI_TOKEN"))


def exit_code(job: Dict[str, Any]) -> int:
    """What `run` ends with: the script's own code where it has one."""
    if job["status"] == COMPLETED:
        return 0
    if job["status"] == CANCELLED:
        return 130
    if job["error"]["code"] == TIMEOUT:
        return 124
    if job["error"]["code"] == SIGNALLED:
        import signal

        return 128 + int(getattr(signal, job["signal"], 0))
    return int(job["exitCode"] or 1)


def _request(options: Dict[str, Any]) -> Dict[str, Any]:
    script = Path(options.pop("script")).absolute()
    if not script.exists():
        raise RobotniError(f"{script} does not exist; name a Python script")
    venv = _venv(script, options.pop("venv"))
    env = dict(_variable(text) for text in options.pop("env"))
    cwd = options.pop("cwd")
    given = {_camel(name): value for name, value in options.items() if value is not None}
    given["args"] = list(given["args"])
    if cwd is not None:
        given["cwd"] = str(Path(cwd).absolute())
    return {**given, "script": str(script), "venv": str(venv), "env": env}


def _variable(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--env {text}: write it as NAME=VALUE")
    return name, value


def _venv(script: Path, given: Optional[str]) -> Path:
    if given is not None:
        return Path(given).absolute()
    for folder in script.parents:
        if (folder / ".venv" / "pyvenv.cfg").is_file():
            if sys.stderr.isatty():
                click.echo(f"robotni: in {folder / '.venv'}", err=True)
            return folder / ".venv"
    raise RobotniError(
        f"there is no .venv above {script}; make one with python3 -m venv .venv, or name "
        "another with --venv"
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def _follow(job: "RemoteJob", echo: bool) -> None:
    """Waits for the end, handing on the output meanwhile, by ranges, of each attempt anew."""
    attempt, start, pause = 1, 0, QUICK
    while True:
        ended = job.is_terminal
        while echo and attempt < job["attempt"]:
            _write(job.output(start, attempt))
            attempt, start = attempt + 1, 0
        new = job.output(start, attempt) if echo and job["attempt"] else b""
        _write(new)
        start += len(new)
        if ended:
            return
        pause = QUICK if new else min(SLOW, pause * 1.2)
        time.sleep(pause)
        job.refresh()


def _cancel_or_leave(job: "RemoteJob", echo: bool) -> None:
    """After Ctrl-C: a person is asked, and a second Ctrl-C is a yes; nobody there is one too."""
    if sys.stdin.isatty():
        try:
            if not click.confirm("\nCancel the job?", err=True):
                click.echo(f"It goes on: robotni logs -f {job.id}", err=True)
                sys.exit(130)
        except (KeyboardInterrupt, click.Abort):
            pass
    job.cancel()
    _follow(job, echo=False)


def _write(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _figures(status: Dict[str, Any]) -> Iterator[List[Any]]:
    workers, queue, slo = status["workers"], status["queue"], status["slo"]
    yield ["version", status["version"]]
    yield ["worker", workers["consumer"]]
    yield ["busy", f"{workers['busy']} of {workers['max']}"]
    for state, number in status["jobs"].items():
        yield [state, number]
    yield ["oldest pending, s", queue["oldestPendingSeconds"]]
    yield ["ended within timeout", slo["completedWithinTimeout"]]
    yield ["API p95, ms", slo["apiP95Ms"]]
    yield ["next wake-up", status["nextWake"]]
