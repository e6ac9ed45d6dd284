"""The commands that submit: submit and run, which follows its job as if one ran it oneself."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import click

from robotni.cli import output as terminal
from robotni.cli.options import connect, remote
from robotni.errors import Conflict, RobotniError, Unreachable
from robotni.jobs.states import CANCELLED, COMPLETED, EXIT_NONZERO, SIGNALLED, TIMEOUT

if TYPE_CHECKING:
    from robotni.client import RemoteJob

CANCELLED_CODE, TIMEOUT_CODE = 130, 124


class WithScript(click.Command):
    """Says where the arguments of the script go when one of them is taken for an option."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = f"If it is the script's, put it after `--`: … -- {error.option_name}"
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None


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
            click.option("--warm", is_flag=True, help="Fork it from a warm interpreter."),
            click.option(
                "--preload", multiple=True, metavar="MODULE", help="One it has; makes it warm."
            ),
            click.option("--key", help="Idempotency key: sent twice, stored once."),
        )
    ):
        command = option(command)
    command = click.argument("args", nargs=-1)(command)
    return click.argument("script", type=click.Path())(command)


@click.command(cls=WithScript)
@request_options
@remote
def submit(url: Optional[str], as_json: bool, key: Optional[str], **options: Any) -> None:
    """Submit SCRIPT and print the job's id. Its arguments follow `--`.

    Example: robotni submit jobs/hello.py --venv .venv -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
    terminal.print_json(job) if as_json else click.echo(job.id)


@click.command(cls=WithScript)
@request_options
@remote
def run(url: Optional[str], as_json: bool, key: Optional[str], **options: Any) -> None:
    """Run SCRIPT as a job and follow it, as if you ran it yourself.

    Ends with the script's exit code; 124 after a timeout, 130 when cancelled. Ctrl-C asks whether
    to cancel, a second one does; where nobody can be asked, the first one does.

    Example: robotni run jobs/hello.py -- --n 3
    """
    with connect(url) as client:
        job = client.submit(_request(options), key)
        try:
            _follow_to_the_end(job, quiet=as_json)
        except Unreachable:
            click.echo(f"The job goes on by itself: robotni logs -f {job.id}", err=True)
            raise
    if as_json:
        terminal.print_json(job)
    elif job["error"] is not None and job["error"]["code"] != EXIT_NONZERO:
        click.echo(f"robotni: {terminal.printable(job['error']['message'])}", err=True)
    sys.exit(exit_code(job))


COMMANDS = (submit, run)


def exit_code(job: Dict[str, Any]) -> int:
    """What `run` ends with: the script's own code where it has one."""
    if job["status"] == COMPLETED:
        return 0
    if job["status"] == CANCELLED:
        return CANCELLED_CODE
    if job["error"]["code"] == TIMEOUT:
        return TIMEOUT_CODE
    if job["error"]["code"] == SIGNALLED:
        import signal

        return 128 + int(getattr(signal, job["signal"], 0))
    return int(job["exitCode"] or 1)


def _request(options: Dict[str, Any]) -> Dict[str, Any]:
    script = _whole(options.pop("script"))
    if not script.exists():
        raise RobotniError(f"{script} does not exist; name a Python script")
    venv = _venv(script, options.pop("venv"))
    env = dict(_variable(text) for text in options.pop("env"))
    cwd = options.pop("cwd")
    given = {_camel(name): value for name, value in options.items() if value is not None}
    given["args"] = list(given["args"])
    preload, is_warm = given.pop("preload"), given.pop("warm")
    if preload or is_warm:
        given.update(warm=True, **({"preload": list(preload)} if preload else {}))
    if cwd is not None:
        given["cwd"] = str(_whole(cwd))
    return {**given, "script": str(script), "venv": str(venv), "env": env}


def _whole(path: str) -> Path:
    """As a shell reads it; `..` goes, since the server takes none. Links stay: a venv is one."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def _variable(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--env {text}: write it as NAME=VALUE")
    return name, value


def _venv(script: Path, given: Optional[str]) -> Path:
    if given is not None:
        return _whole(given)
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


def _follow_to_the_end(job: "RemoteJob", quiet: bool) -> None:
    chunks = job.follow()
    try:
        stream_output(job, chunks, quiet)
    except KeyboardInterrupt:
        if not _wants_it_cancelled():
            click.echo(f"It goes on: robotni logs -f {job.id}", err=True)
            sys.exit(CANCELLED_CODE)
        try:
            job.cancel()
        except Conflict:
            pass  # it ended by itself meanwhile
        stream_output(job, chunks, quiet)  # its last words


def stream_output(job: "RemoteJob", chunks: Iterator[bytes], quiet: bool = False) -> None:
    """Writes what the job prints as it comes; below it, on a terminal, how far it is."""
    line = terminal.StatusLine()
    try:
        for data in chunks:
            if quiet:
                continue
            line.clear()
            terminal.write(data)
            line.show(job, below=data)
    finally:
        line.clear()


def _wants_it_cancelled() -> bool:
    """A person is asked, and a second Ctrl-C is a yes; nobody there is one too."""
    if not sys.stdin.isatty():
        return True
    try:
        return click.confirm("\nCancel the job?", err=True)
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return True
