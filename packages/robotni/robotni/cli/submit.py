"""The commands that submit a job: `submit`, and `run`, which then follows its output."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import click

from robotni.cli import output
from robotni.cli.options import connect, http_options
from robotni.errors import Conflict, RobotniError, Unreachable
from robotni.jobs.states import CANCELLED, COMPLETED, EXIT_NONZERO, SIGNALLED, TIMEOUT

if TYPE_CHECKING:
    from robotni.client import RemoteJob

EXIT_CANCELLED, EXIT_TIMEOUT = 130, 124


class ScriptCommand(click.Command):
    """A command with a SCRIPT; an unknown option may be an argument that is meant for it."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = f"Arguments of the script come after `--`: … -- {error.option_name}"
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of submit and run that make up the request."""
    option = click.option
    options = (
        option("--venv", help="Virtual environment.  [default: the nearest .venv above SCRIPT]"),
        option("--project", default="default", show_default=True, help="Project name."),
        option("--cwd", type=click.Path(), help="Working folder.  [default: the project folder]"),
        option("--timeout", type=float, help="Seconds an attempt may take."),
        option("--expires", type=float, help="Seconds the job may wait for its start."),
        option("--retries", type=int, help="How often a failed attempt is repeated."),
        option("--retry-delay", type=float, help="Seconds before a retry; doubles each time."),
        option("--delay", type=float, help="Seconds before the job may start."),
        option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Environment variable."),
        option("--warm", is_flag=True, help="Use a warm interpreter."),
        option("--preload", multiple=True, metavar="MODULE", help="Warm, with MODULE imported."),
        option("--key", help="Idempotency key: two submits with it store one job."),
    )
    for decorate in reversed(options):
        command = decorate(command)
    command = click.argument("args", nargs=-1)(command)
    return click.argument("script", type=click.Path())(command)


@click.command(cls=ScriptCommand)
@request_options
@http_options
def submit(url: Optional[str], as_json: bool, key: Optional[str], **options: Any) -> None:
    """Submit SCRIPT as a job and print the job's id. Arguments of the script come after `--`.

    Example: robotni submit jobs/hello.py --venv .venv -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
    output.print_json(job) if as_json else click.echo(job.id)


@click.command(cls=ScriptCommand)
@request_options
@http_options
def run(url: Optional[str], as_json: bool, key: Optional[str], **options: Any) -> None:
    """Run SCRIPT as a job and print its output.

    Exits with the script's exit code, with 124 after a timeout and with 130 when cancelled. Ctrl-C
    asks whether to cancel the job; a second Ctrl-C cancels it. Where there is no terminal to ask
    on, the first one does.

    Example: robotni run jobs/hello.py -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
        try:
            _follow_to_the_end(job, quiet=as_json)
        except Unreachable:
            click.echo(f"The job is not affected. To follow it: robotni logs -f {job.id}", err=True)
            raise
    if as_json:
        output.print_json(job)
    elif job["error"] is not None and job["error"]["code"] != EXIT_NONZERO:
        click.echo(f"robotni: {output.printable(job['error']['message'])}", err=True)
    sys.exit(exit_code(job))


COMMANDS = (submit, run)


def exit_code(job: Dict[str, Any]) -> int:
    """What `run` exits with: the script's own exit code where there is one."""
    if job["status"] == COMPLETED:
        return 0
    if job["status"] == CANCELLED:
        return EXIT_CANCELLED
    if job["error"]["code"] == TIMEOUT:
        return EXIT_TIMEOUT
    if job["error"]["code"] == SIGNALLED:
        import signal

        return 128 + int(getattr(signal, job["signal"], 0))
    return int(job["exitCode"] or 1)


def _request(options: Dict[str, Any]) -> Dict[str, Any]:
    script = _absolute(options.pop("script"))
    if not script.exists():
        raise RobotniError(f"{script} does not exist; give the path of a Python script")
    venv = _venv(script, options.pop("venv"))
    env = dict(_variable(text) for text in options.pop("env"))
    cwd = options.pop("cwd")
    request = {_camel(name): value for name, value in options.items() if value is not None}
    request["args"] = list(request["args"])
    preload, is_warm = request.pop("preload"), request.pop("warm")
    if preload or is_warm:
        request.update(warm=True, **({"preload": list(preload)} if preload else {}))
    if cwd is not None:
        request["cwd"] = str(_absolute(cwd))
    return {**request, "script": str(script), "venv": str(venv), "env": env}


def _absolute(path: str) -> Path:
    """Resolves `~` and `..`, which the server refuses, but no links: a venv's Python is one."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def _variable(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--env {text}: write it as NAME=VALUE")
    return name, value


def _venv(script: Path, given: Optional[str]) -> Path:
    if given is not None:
        return _absolute(given)
    for folder in script.parents:
        if (folder / ".venv").is_dir():  # the server says what is wrong with one that is none
            if sys.stderr.isatty():
                click.echo(f"robotni: using {folder / '.venv'}", err=True)
            return folder / ".venv"
    raise RobotniError(
        f"there is no .venv in a folder above {script}; create one with: python3 -m venv .venv, "
        "or name one with --venv"
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def _follow_to_the_end(job: "RemoteJob", quiet: bool) -> None:
    chunks = job.follow()
    try:
        print_output(job, chunks, quiet)
    except KeyboardInterrupt:
        if not _confirm_cancel():
            click.echo(f"The job goes on. To follow it: robotni logs -f {job.id}", err=True)
            sys.exit(EXIT_CANCELLED)
        try:
            job.cancel()
        except Conflict:
            pass  # it has ended meanwhile
        print_output(job, chunks, quiet)  # what it prints while it is being cancelled


def print_output(job: "RemoteJob", chunks: Iterator[bytes], quiet: bool = False) -> None:
    """Prints the chunks of output as they arrive, with the job's progress in a line below."""
    line = output.StatusLine()
    try:
        for data in chunks:
            if quiet:
                continue
            line.clear()
            output.write(data)
            line.show(job, last_output=data)
    finally:
        line.clear()


def _confirm_cancel() -> bool:
    """Asks on a terminal, where a second Ctrl-C means yes; without one the answer is yes."""
    if not sys.stdin.isatty():
        return True
    try:
        return click.confirm("\nCancel the job?", err=True)
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return True
