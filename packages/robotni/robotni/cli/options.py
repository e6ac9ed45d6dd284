"""How a command finds the server: `--url`, the token, and the shell completions that ask it.

Without `--url` it is the server that runs for the project of the working directory, at whatever
port; when none does, the address that the settings name.
"""

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Optional

import click
from click.shell_completion import CompletionItem

from robotni.errors import NotFound, RobotniError
from robotni.jobs.states import STATES
from robotni.settings import load_settings_and_problems
from robotni.system.datadir import DataDir
from robotni.system.server_address import address

if TYPE_CHECKING:
    from robotni.client import Client

LAST = "@last"  # the newest job
_COMPLETION_TIMEOUT = 2.0  # seconds a person waits for the Tab key
_MAX_COMPLETIONS = 30  # job ids


def http_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that speaks HTTP."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return click.option(
        "--url", envvar="ROBOTNI_URL", help="URL of the server.  [default: this project's]"
    )(command)


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("job_id", shell_complete=_complete_job_ids)(command)


def full_id(client: "Client", job_id: str) -> str:
    """The id that LAST stands for; any other as it is, since the server knows shortened ones."""
    if job_id != LAST:
        return job_id
    newest = client.list(limit=1)["jobs"]
    if not newest:
        raise NotFound("there is no job yet; submit one with: robotni submit SCRIPT")
    return str(newest[0]["jobId"])


def connect(url: Optional[str], timeout: float = 30) -> "Client":
    """A client of the server at `url`, by default this project's, with its token."""
    from robotni.client import Client

    token = os.environ.get("ROBOTNI_TOKEN") or None
    if url is not None:
        return Client(url, token, timeout)
    settings, _ = load_settings_and_problems(os.environ, Path.cwd())
    found = address(DataDir(settings.data_dir))
    return Client(found or settings.url, token or settings.token, timeout)


def complete_states(_: click.Context, __: click.Parameter, text: str) -> List[CompletionItem]:
    """Completes the last state of a comma-separated list."""
    before, comma, last = text.rpartition(",")
    return [CompletionItem(before + comma + s) for s in STATES if s.startswith(last)]


def complete_types(ctx: click.Context, _: click.Parameter, text: str) -> List[CompletionItem]:
    types = _ask_server(ctx, lambda client: client.types()["types"])
    return [CompletionItem(t["type"], help=t["title"]) for t in types if t["type"].startswith(text)]


def _complete_job_ids(ctx: click.Context, _: click.Parameter, text: str) -> List[CompletionItem]:
    if text and LAST.startswith(text):
        return [CompletionItem(LAST, help="the newest job")]

    def newest(client: "Client") -> List[Any]:
        return list(islice(client.jobs(q=text or None, limit=_MAX_COMPLETIONS), _MAX_COMPLETIONS))

    jobs = [job for job in _ask_server(ctx, newest) if job["jobId"].startswith(text)]
    name = [(job["script"] or job["module"] or job["type"]).rsplit("/", 1)[-1] for job in jobs]
    return [CompletionItem(j["jobId"], help=f"{j['status']} {n}") for j, n in zip(jobs, name)]


def _ask_server(ctx: click.Context, question: Callable[["Client"], List[Any]]) -> List[Any]:
    """The server's answer; nothing when there is none, since the Tab key must print no error."""
    url = ctx.params.get("url") or os.environ.get("ROBOTNI_URL") or None
    try:
        with connect(url, _COMPLETION_TIMEOUT) as client:
            return question(client)
    except (RobotniError, KeyError):
        return []
