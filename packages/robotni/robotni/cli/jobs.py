"""The commands about jobs that are there: jobs show logs cancel retry status types."""

import sys
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

import click

from robotni.cli import output as terminal
from robotni.cli.options import complete_states, complete_types, connect, job_argument, remote
from robotni.jobs.states import CANCELLED, STATES

if TYPE_CHECKING:
    from robotni.client import Client, RemoteJob


@click.command()
@click.option(
    "--status", shell_complete=complete_states, help=f"Comma list of {', '.join(STATES)}."
)
@click.option("--project", help="Only of this project.")
@click.option("--type", shell_complete=complete_types, help="Only of this worker type.")
@click.option("-q", "--query", "q", help="Start of the script's name, or of the id.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 200))
@remote
def jobs(url: Optional[str], as_json: bool, limit: int, **filters: Any) -> None:
    """List jobs, newest first.

    Example: robotni jobs --status failed -n 5
    """
    with connect(url) as client:
        page = _newest(client, limit, **filters)
    if as_json:
        terminal.print_json(page)
    else:
        headings = ("id", "status", "script", "project", "age", "error")
        terminal.print_table(headings, terminal.rows_of(page["jobs"]))


def _newest(client: "Client", limit: int, **filters: Any) -> Dict[str, Any]:
    """`{"jobs": […], "nextCursor": …}` of that many; the pages of the server may be shorter."""
    jobs: List[Dict[str, Any]] = []
    cursor: Optional[str] = None
    while len(jobs) < limit:
        page = client.list(limit=limit - len(jobs), cursor=cursor, **filters)
        jobs += page["jobs"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    return {"jobs": jobs, "nextCursor": cursor}


@click.command()
@job_argument
@remote
def show(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Show one job. Its state, how it ended, how to reproduce it, the end of its output.

    Example: robotni show 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.get(job_id)
    terminal.print_json(job) if as_json else terminal.print_job(job)


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=int, help="Of this attempt.  [default: the last]")
@remote
def logs(
    job_id: str, follow: bool, attempt: Optional[int], url: Optional[str], as_json: bool
) -> None:
    """Print the output of a job, as it came.

    Example: robotni logs -f 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        if follow:
            output = _follow(client.get(job_id), attempt, quiet=as_json)
        else:
            output = client.output(job_id, attempt=attempt)
            terminal.write(b"" if as_json else output)
    if as_json:
        terminal.print_json({"jobId": job_id, "output": output.decode("utf-8", "replace")})


@click.command()
@job_argument
@remote
def cancel(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Cancel a job that waits or runs.

    Example: robotni cancel 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.cancel(job_id)
    done = "cancelled" if job["status"] == CANCELLED else "is being cancelled"
    terminal.print_json(job) if as_json else click.echo(f"{job_id} {done}")


@click.command()
@job_argument
@remote
def retry(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Submit an ended job again and print the new id.

    Example: robotni retry 01936f3e8c7a7d1e9b2f4c5a6d7e8f90
    """
    with connect(url) as client:
        job = client.retry(job_id)
    terminal.print_json(job) if as_json else click.echo(job.id)


@click.command()
@remote
def status(url: Optional[str], as_json: bool) -> None:
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
def types(url: Optional[str], as_json: bool) -> None:
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


COMMANDS = (jobs, show, logs, cancel, retry, status, types)


def _follow(job: "RemoteJob", attempt: Optional[int], quiet: bool) -> bytes:
    """The output from `attempt` on, the last by default; Ctrl-C ends the looking, not the job."""
    seen = []
    try:
        for data in job.follow(attempt or max(1, job["attempt"])):
            terminal.write(b"" if quiet else data)
            seen.append(data if quiet else b"")
    except KeyboardInterrupt:
        sys.exit(130)
    return b"".join(seen)


def _figures(status: Dict[str, Any]) -> Iterator[List[Any]]:
    workers, queue, slo = status["workers"], status["queue"], status["slo"]
    yield ["version", status["version"]]
    yield ["worker", workers["consumer"]]
    yield ["busy", f"{workers['busy']} of {workers['max']}"]
    if "warm" in status:  # an older server has none
        warm = status["warm"]
        memory = f"{warm['memoryBytes'] / (1 << 20):.0f} MiB"
        yield ["warm interpreters", f"{warm['interpreters']}, {memory}"]
    for state, number in status["jobs"].items():
        yield [state, number]
    share = slo["completedWithinTimeout"]
    yield ["oldest pending, s", _or_dash(queue["oldestPendingSeconds"])]
    yield ["ended within timeout", _or_dash(None if share is None else f"{100 * share:.4g} %")]
    yield ["API p95, ms", _or_dash(slo["apiP95Ms"])]
    yield ["next wake-up", status["nextWake"]]


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value
