"""How a command reaches the server: `--url` and the token, and what a shell may complete from it.

Without `--url` it is the server of the project one stands in, as `robotni serve` would start it.
"""

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Optional

import click
from click.shell_completion import CompletionItem

from robotni.errors import RobotniError
from robotni.jobs.states import STATES
from robotni.settings import load_settings_and_problems

if TYPE_CHECKING:
    from robotni.client import Client

_COMPLETE_WITHIN = 2.0  # seconds a person waits for the Tab key
_OFFERED = 30  # job ids


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that speaks HTTP."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--url", envvar="ROBOTNI_URL", help="The server.  [default: this project's]"
    )(command)


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("job_id", shell_complete=_job_ids)(command)


def connect(url: Optional[str], timeout: float = 30) -> "Client":
    """A client of the server at `url`, by default the one of this project, with its token."""
    from robotni.client import Client

    token = os.environ.get("ROBOTNI_TOKEN") or None
    if url is not None:
        return Client(url, token, timeout)
    settings, _ = load_settings_and_problems(os.environ, Path.cwd())
    return Client(settings.url, token or settings.token, timeout)


def _job_ids(ctx: click.Context, _: click.Parameter, begun: str) -> List[CompletionItem]:
    try:
        with connect(_url(ctx), _COMPLETE_WITHIN) as client:
            jobs = list(islice(client.jobs(q=begun or None, limit=_OFFERED), _OFFERED))
    except (RobotniError, KeyError):  # the Tab key says nothing where no server answers
        return []
    jobs = [job for job in jobs if job["jobId"].startswith(begun)]
    name = [(job["script"] or job["module"] or job["type"]).rsplit("/", 1)[-1] for job in jobs]
    return [CompletionItem(j["jobId"], help=f"{j['status']} {n}") for j, n in zip(jobs, name)]


def complete_states(_: click.Context, __: click.Parameter, begun: str) -> List[CompletionItem]:
    """The last one of a comma list."""
    before, comma, last = begun.rpartition(",")
    return [CompletionItem(before + comma + s) for s in STATES if s.startswith(last)]


def complete_types(ctx: click.Context, _: click.Parameter, begun: str) -> List[CompletionItem]:
    try:
        with connect(_url(ctx), _COMPLETE_WITHIN) as client:
            types = client.types()["types"]
    except (RobotniError, KeyError):
        return []
    return [
        CompletionItem(t["type"], help=t["title"]) for t in types if t["type"].startswith(begun)
    ]


def _url(ctx: click.Context) -> Optional[str]:
    return ctx.params.get("url") or os.environ.get("ROBOTNI_URL") or None
