"""The `robotni` command, and the commands that act on this machine: serve worker stop doctor demo.

The commands that speak HTTP are in `submit.py` and `jobs.py`. What a command needs is imported when
it runs, so that the others start quickly. Exit codes: 0 done, 1 the job or the request failed, 2
wrong usage or settings.
"""

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Tuple

import click

from robotni import __version__, log
from robotni.cli import jobs, output, submit
from robotni.errors import DataDirError, RobotniError, SettingsError

if TYPE_CHECKING:
    from robotni.settings import Settings


class Group(click.Group):
    """Prints robotni's errors on stderr, a line for each, and exits with the right code."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        output.open_missing_streams()
        with _errors_printed():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _errors_printed():
            return super().invoke(ctx)


@contextmanager
def _errors_printed() -> Iterator[None]:
    try:
        yield
    except (SettingsError, DataDirError) as error:
        for line in str(error).splitlines():
            _print_error(line)
        sys.exit(2)
    except RobotniError as error:
        _print_error(str(error))
        sys.exit(1)
    except click.ClickException as error:  # click prints it
        vars(error)["message"] = output.printable(error.message)
        raise
    except UnicodeEncodeError as error:
        start, end = max(0, error.start - 30), error.end + 30
        text = error.object[start:end]
        _print_error(f"{text!r} is not UTF-8; rename it, or write it in UTF-8")
        sys.exit(2)
    except OSError as error:
        if error.filename is not None or error.errno not in output.UNWRITABLE:
            raise
        output.drop_rest()
        _print_error(f"the output cannot be written ({error.strerror}); write it elsewhere")
        sys.exit(1)


def _print_error(text: str) -> None:
    click.echo(f"robotni: {output.printable(text)}", err=True)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="robotni")
def main() -> None:
    """Run Python scripts as jobs, each in a process of its own, in its virtual environment."""
    from robotni.bootstrap import allow_long_integers

    allow_long_integers()


@main.command()
@click.option("--host", help="Address to listen on.  [default: ROBOTNI_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: ROBOTNI_PORT or 8000]")
def serve(host: Optional[str], port: Optional[int]) -> None:
    """Run the web server. It starts the worker when there is work; Ctrl-C stops both, and running
    scripts go on.

    Example: robotni serve --port 8080
    """
    from robotni.bootstrap import build_app
    from robotni.cli.stop import count_running, is_served, stop_worker
    from robotni.settings import load_settings
    from robotni.system.datadir import DataDir
    from robotni.web import server

    options = {"ROBOTNI_HOST": host, "ROBOTNI_PORT": port}
    given = {name: str(value) for name, value in options.items() if value is not None}
    settings = load_settings({**os.environ, **given}, Path.cwd())
    listener = server.bind(settings)  # before anything is created, since this may fail
    datadir = DataDir(settings.data_dir).open()
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    app = build_app(settings)
    _print_addresses(settings)
    server.serve(app, listener, datadir, settings.url)
    is_text = settings.log_format != log.JSON
    if is_served(datadir):
        if is_text:
            click.echo("Another server of this project is running, so the worker goes on.")
        return
    has_stopped = not settings.autostart or stop_worker(datadir)
    running = count_running(app.state.engine)
    if is_text:
        if not has_stopped:
            click.echo("The worker has not stopped yet; it will when its current step is done.")
        _print_running(running)
    else:
        log.stopped(running)


def _print_addresses(settings: "Settings") -> None:
    """For a person; with LOG_FORMAT=json as an event, since every line of that log is one."""
    if settings.log_format == log.JSON:
        log.serving(settings.url, str(settings.project_folder), str(settings.data_dir))
        return
    roots = ":".join(map(str, settings.script_roots))
    worker = "started when there is work" if settings.autostart else "start it: robotni worker"
    click.echo(f"robotni {__version__} listens on {settings.url}")
    click.echo(f"  page            {settings.url}/webdemo")
    click.echo(f"  project folder  {settings.project_folder}")
    click.echo(f"  data directory  {settings.data_dir}")
    click.echo(f"  script roots    {roots}")
    click.echo(f"  worker          {worker}, {settings.workers} scripts at once")


@main.command()
@click.option("--cancel", is_flag=True, help="Also cancel the running jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(cancel: bool, as_json: bool) -> None:
    """Stop the server and the worker of this project. Running scripts go on, unless cancelled.

    Exits with 1 when something has not ended in time.

    Example: robotni stop --cancel
    """
    from robotni.bootstrap import build_engine, open_datadir
    from robotni.cli import stop

    settings, datadir = open_datadir()
    parts = stop.running_parts(datadir)
    has_stopped = [stop.stop_server(datadir), stop.stop_worker(datadir)]
    engine = build_engine(settings, datadir)  # only now: they may have had another database open
    cancelled = stop.cancel_running(engine, settings.kill_grace + 5) if cancel else 0
    running = stop.count_running(engine)
    is_closed = stop.wait_until_closed(engine, datadir)
    if as_json:
        counts = {"cancelledJobs": cancelled, "runningJobs": running}
        output.print_json({"stopped": all(has_stopped), **counts})
    elif cancel:
        click.echo(f"running jobs cancelled: {cancelled}")
    if not all(has_stopped):
        raise RobotniError(
            "the server or the worker has not stopped yet; run robotni stop again. A server that "
            "was not started by robotni serve has to be stopped where it was started"
        )
    if cancel and running:
        scripts = "1 script has" if running == 1 else f"{running} scripts have"
        raise RobotniError(
            f"{scripts} not ended yet; run robotni stop --cancel again, or kill the processes"
        )
    if not as_json:
        click.echo(_what_stopped(parts, settings))
        _print_running(running)
        if not is_closed:
            click.echo("Another process has the database open; end it before you copy the data.")


def _what_stopped(parts: List[str], settings: "Settings") -> str:
    if not parts:
        return f"no server and no worker of {settings.project_folder} was running"
    return f"{' and '.join(parts)} {'has' if len(parts) == 1 else 'have'} stopped"


def _print_running(running: int) -> None:
    if running:
        scripts, them = (
            ("1 script goes", "it") if running == 1 else (f"{running} scripts go", "them")
        )
        click.echo(f"{scripts} on running; the next worker takes {them} over.")
        click.echo(f"To end {them}: robotni stop --cancel")


@main.command()
@click.option("--on-demand", is_flag=True, hidden=True, help="Exit at once if another worker runs.")
def worker(on_demand: bool) -> None:
    """Run the worker in the foreground. It replaces a worker that is running.

    Example: robotni worker
    """
    from robotni.bootstrap import build_huey
    from robotni.settings import load_project_settings

    # The web server starts it in the project folder, which may have no mark of one.
    huey = build_huey(load_project_settings(Path.cwd(), os.environ, {}) if on_demand else None)
    huey.create_consumer(takes_over=not on_demand).run()


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check this project's setup and say how to fix what is wrong. Needs no server.

    Exits with 0 when nothing needs fixing, else with 1.

    Example: robotni doctor
    """
    from robotni.cli.doctor import as_json as to_json
    from robotni.cli.doctor import findings

    found = []
    for finding in findings(os.environ, Path.cwd()):
        found.append(finding)
        if not as_json:
            output.print_finding(finding.check, finding.text, finding.fix)
    if as_json:
        output.print_json(to_json(found))
    sys.exit(0 if all(finding.is_ok for finding in found) else 1)


@main.command()
@click.argument("script", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--venv", type=click.Path(exists=True, file_okay=False), help="Virtual environment of SCRIPT."
)
@click.argument("args", nargs=-1)
def demo(script: Optional[str], venv: Optional[str], args: Tuple[str, ...]) -> None:
    """Run a script on a temporary server and print each step. Everything is removed afterwards.

    Example: robotni demo examples/report.py --venv examples/.venv
    """
    from robotni.cli.demo import run_demo

    sys.exit(run_demo(script, venv, list(args)))


for _command in (*submit.COMMANDS, *jobs.COMMANDS):
    main.add_command(_command)
