"""The command line: `robotni serve | worker | demo | submit | show | cancel`.

Exit codes: 0 done, 1 the job or the request failed, 2 wrong usage or settings.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

import click

from robotni import __version__
from robotni.errors import DataDirError, RobotniError, SettingsError

if TYPE_CHECKING:
    from robotni.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"


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


@main.command()
@click.option("--host", help="Address to listen on.  [default: ROBOTNI_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: ROBOTNI_PORT or 8000]")
def serve(host: Optional[str], port: Optional[int]) -> None:
    """Serve the API and the page; the worker is started when there is work.

    Example: robotni serve --port 8080
    """
    from robotni import serving
    from robotni.datadir import DataDir
    from robotni.settings import load
    from robotni.wiring import build_app

    given = {"ROBOTNI_HOST": host, "ROBOTNI_PORT": port}
    settings = load({**os.environ, **_given(given)}, Path.cwd())
    _log_to_stderr()
    datadir = DataDir(settings.data_dir).open()
    listener = serving.listen(settings)
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    app = build_app(settings)
    roots = ":".join(map(str, settings.script_roots))
    worker = "started when there is work" if settings.autostart else "start it: robotni worker"
    click.echo(f"robotni {__version__} listens on http://{settings.host}:{port}")
    click.echo(f"  page            http://{settings.host}:{port}/webdemo")
    click.echo(f"  project folder  {settings.project_folder}")
    click.echo(f"  data directory  {settings.data_dir}")
    click.echo(f"  script roots    {roots}")
    click.echo(f"  worker          {worker}, {settings.workers} scripts at once")
    serving.serve(app, listener)
    if not serving.send_worker_away(datadir):
        click.echo("The worker has not left yet; it will, after what it is doing.")
    running = app.state.engine.counts()["running"]
    if running:
        scripts = "1 script goes" if running == 1 else f"{running} scripts go"
        click.echo(f"{scripts} on running; the next start takes them up. To end them, start")
        click.echo("again and cancel them: robotni cancel ID")


@main.command()
@click.option("--on-demand", is_flag=True, hidden=True, help="Leave at once if another works.")
def worker(on_demand: bool) -> None:
    """Run the worker in the foreground; a running one leaves for it.

    Example: robotni worker
    """
    from robotni.wiring import build_huey

    _log_to_stderr()
    huey = build_huey()
    huey.create_consumer(takes_over=not on_demand).run()


@main.command()
@click.argument("script", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--venv", type=click.Path(exists=True, file_okay=False), help="Its environment.")
@click.argument("args", nargs=-1)
def demo(script: Optional[str], venv: Optional[str], args: Tuple[str, ...]) -> None:
    """Serve in a temporary folder, run a script through the API, show all of it, clean up.

    Example: robotni demo examples/report.py --venv examples/.venv
    """
    from robotni.demo import run_demo

    sys.exit(run_demo(script, venv, list(args)))


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that speaks HTTP."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--url", envvar="ROBOTNI_URL", default=DEFAULT_URL, show_default=True, help="The server."
    )(command)


@main.command()
@click.argument("script", type=click.Path())
@click.argument("args", nargs=-1)
@click.option("--venv", help="Virtual environment.  [default: the nearest .venv above the script]")
@click.option("--project", default="default", show_default=True, help="A label to filter by.")
@click.option("--timeout", type=float, help="Seconds for one attempt.")
@click.option("--retries", type=int, default=0, help="Further attempts after a failure.")
@click.option("--retry-delay", type=float, default=0, help="Seconds before the next attempt.")
@click.option("--delay", type=float, help="Seconds until the job is due.")
@click.option("--key", help="Idempotency key: sent twice, the job is stored once.")
@remote
def submit(script: str, args: Tuple[str, ...], url: str, as_json: bool, **options: Any) -> None:
    """Submit SCRIPT and print the job's id. Its arguments follow `--`.

    Example: robotni submit jobs/hello.py --venv .venv -- --n 3
    """
    path = Path(script).absolute()
    key = options.pop("key")
    request = {
        "script": str(path),
        "venv": str(_venv(path, options.pop("venv"))),
        "args": list(args),
        **{_camel(name): value for name, value in options.items() if value is not None},
    }
    with _client(url) as client:
        job = client.submit(request, key)
    click.echo(json.dumps(job) if as_json else job["jobId"])


@main.command()
@click.argument("job_id")
@remote
def show(job_id: str, url: str, as_json: bool) -> None:
    """Show one job: its state, how it ended, and the end of its output.

    Example: robotni show 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with _client(url) as client:
        job = client.get(job_id)
    if as_json:
        click.echo(json.dumps(job))
        return
    for name in _SHOWN:
        if job[name] not in (None, [], {}, ""):
            click.echo(f"{name:<12} {_text(job[name])}")
    if job["output"]:
        click.echo(f"\n{_printable(job['output'])}", nl=not job["output"].endswith("\n"))


@main.command()
@click.argument("job_id")
@remote
def cancel(job_id: str, url: str, as_json: bool) -> None:
    """Cancel a job that waits or runs.

    Example: robotni cancel 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with _client(url) as client:
        job = client.cancel(job_id)
    if as_json:
        click.echo(json.dumps(job))
    elif job["status"] == "cancelled":
        click.echo(f"{job_id} cancelled")
    else:
        click.echo(f"{job_id} is being cancelled")


_SHOWN = (
    "jobId", "status", "project", "type", "script", "module", "venv", "args", "params", "cwd",
    "env", "timestamp", "runAt", "startedAt", "finishedAt", "attempt", "exitCode", "signal",
    "error", "progress", "result", "outputBytes",
)  # fmt: skip


def _given(values: Dict[str, Any]) -> Dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _client(url: str) -> "Client":
    from robotni.client import Client

    return Client(url, os.environ.get("ROBOTNI_TOKEN"))


def _venv(script: Path, given: Optional[str]) -> Path:
    if given is not None:
        return Path(given).absolute()
    for folder in script.parents:
        if (folder / ".venv" / "pyvenv.cfg").is_file():
            return folder / ".venv"
    raise RobotniError(
        f"there is no .venv above {script}; make one with python3 -m venv .venv, or name "
        "another with --venv"
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def _text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"code", "message"}:
        return _printable(f"{value['code']}: {value['message']}")
    return _printable(value if isinstance(value, str) else json.dumps(value))


def _printable(text: str) -> str:
    """Without what could steer the terminal, but for line ends and tabs."""
    return "".join(
        c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _log_to_stderr() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("robotni")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
