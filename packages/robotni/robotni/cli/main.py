"""The command line, and the commands that act on this machine: serve worker stop doctor demo.

The ones that speak HTTP are in `cli_run.py` and `cli_jobs.py`.

Exit codes: 0 done, 1 the job or the request failed, 2 wrong usage or settings.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import click

from robotni import __version__, log
from robotni.cli import jobs as cli_jobs
from robotni.cli import submit as cli_run
from robotni.errors import DataDirError, RobotniError, SettingsError

if TYPE_CHECKING:
    from robotni.settings import Settings


class Group(click.Group):
    """Turns robotni's errors into a line each on stderr and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, DataDirError) as error:
            for line in str(error).splitlines():
                click.echo(f"robotni: {line}", err=True)
            ctx.exit(2)
        except RobotniError as error:
            click.echo(f"robotni: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="robotni")
def main() -> None:
    """Runs Python scripts in virtual environments of their own, and loses none."""
    from robotni.bootstrap import allow_long_integers

    allow_long_integers()


@main.command()
@click.option("--host", help="Address to listen on.  [default: ROBOTNI_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: ROBOTNI_PORT or 8000]")
def serve(host: Optional[str], port: Optional[int]) -> None:
    """Serve the API and the page. The worker is started when there is work.

    Example: robotni serve --port 8080
    """
    from robotni.bootstrap import build_app
    from robotni.cli import stop as stopping
    from robotni.settings import load_settings
    from robotni.system.datadir import DataDir
    from robotni.web import server as serving

    given = {"ROBOTNI_HOST": host, "ROBOTNI_PORT": port}
    settings = load_settings({**os.environ, **_given(given)}, Path.cwd())
    listener = serving.bind(settings)  # where that fails, nothing has been made
    datadir = DataDir(settings.data_dir).open()
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    app = build_app(settings)
    _say_where(settings)
    serving.serve(app, listener, datadir)
    if stopping.is_served(datadir):
        _say("Another server of this project goes on, and the worker with it.", settings)
        return
    gone = not settings.autostart or stopping.stop_worker(datadir)
    running = stopping.count_running(app.state.engine, datadir)
    if settings.log_format == log.JSON:
        log.stopped(running)
        return
    if not gone:
        click.echo("The worker has not left yet; it will, after what it is doing.")
    _say_what_runs(running)


def _say(sentence: str, settings: "Settings") -> None:
    if settings.log_format != log.JSON:
        click.echo(sentence)


def _say_where(settings: "Settings") -> None:
    """To a person; as JSON to a log, of which every line is an event."""
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
@click.option("--cancel", is_flag=True, help="Cancel what runs, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(cancel: bool, as_json: bool) -> None:
    """Stop the server and the worker of this project. Running scripts go on unless cancelled.
    Exits with 1 when something told to end has not ended yet.

    Example: robotni stop --cancel
    """
    from robotni.bootstrap import build_engine
    from robotni.cli import output as terminal
    from robotni.cli import stop as stopping

    settings, datadir, engine = build_engine()
    lived = stopping.running_parts(datadir)
    gone = [stopping.stop_server(datadir), stopping.stop_worker(datadir)]
    ended = stopping.cancel_running(engine, datadir, settings.kill_grace + 5) if cancel else 0
    running = stopping.count_running(engine, datadir)
    rests = stopping.wait_until_closed(engine, datadir)
    if as_json:
        done = {"stopped": all(gone), "cancelledJobs": ended, "runningJobs": running}
        terminal.print_json(done)
    elif cancel:
        click.echo(f"cancelled {ended} running")
    if not all(gone):
        raise RobotniError(
            "not everything has left yet; a server that robotni serve did not start is ended "
            "where it was started"
        )
    if cancel and running:
        scripts = "1 script has" if running == 1 else f"{running} scripts have"
        raise RobotniError(
            f"{scripts} not ended yet; run robotni stop --cancel again, or end the processes "
            "by hand"
        )
    if not as_json:
        click.echo(_what_stopped(lived, settings))
        _say_what_runs(running)
        if not rests:
            click.echo("Another process has the database open; copy it when that has ended, too.")


def _what_stopped(lived: List[str], settings: "Settings") -> str:
    if not lived:
        return f"neither server nor worker of {settings.project_folder} was there to stop"
    return f"{' and '.join(lived)} {'has' if len(lived) == 1 else 'have'} stopped"


def _say_what_runs(running: int) -> None:
    if running:
        scripts = "1 script goes" if running == 1 else f"{running} scripts go"
        click.echo(f"{scripts} on running; the next start takes them up.")
        click.echo("To end them: robotni stop --cancel")


@main.command()
@click.option("--on-demand", is_flag=True, hidden=True, help="Leave at once if another works.")
def worker(on_demand: bool) -> None:
    """Run the worker in the foreground; a running one leaves for it.

    Example: robotni worker
    """
    from robotni.bootstrap import build_huey
    from robotni.settings import load_project_settings

    # Who starts one on demand starts it in the project folder, which need not look like one.
    huey = build_huey(load_project_settings(Path.cwd(), os.environ, {}) if on_demand else None)
    huey.create_consumer(takes_over=not on_demand).run()


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Look for what is wrong here, and say how to mend it. Needs no server.

    Ends with 0 when all is well, with 1 when something needs mending.

    Example: robotni doctor
    """
    from robotni.cli import output as terminal
    from robotni.cli.doctor import as_json as to_json
    from robotni.cli.doctor import findings

    found = []
    for finding in findings(os.environ, Path.cwd()):
        found.append(finding)
        if not as_json:
            terminal.print_finding(finding.check, finding.text, finding.mend)
    if as_json:
        terminal.print_json(to_json(found))
    sys.exit(0 if all(finding.is_well for finding in found) else 1)


@main.command()
@click.argument("script", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--venv", type=click.Path(exists=True, file_okay=False), help="Its environment.")
@click.argument("args", nargs=-1)
def demo(script: Optional[str], venv: Optional[str], args: Tuple[str, ...]) -> None:
    """Run a script in a temporary folder, to watch. All of it is shown, and cleaned up.

    Example: robotni demo examples/report.py --venv examples/.venv
    """
    from robotni.cli.demo import run_demo

    sys.exit(run_demo(script, venv, list(args)))


def _given(values: Dict[str, Any]) -> Dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


for _command in (*cli_run.COMMANDS, *cli_jobs.COMMANDS):
    main.add_command(_command)
