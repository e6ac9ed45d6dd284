"""The commands about stored jobs: jobs, show, logs, cancel, retry; and status and types."""

import sys
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

import click

from robotni.cli import output
from robotni.cli.options import (
    complete_states,
    complete_types,
    connect,
    full_id,
    http_options,
    job_argument,
)
from robotni.jobs.states import CANCELLED, STATES

if TYPE_CHECKING:
    from robotni.client import Client, RemoteJob


@click.command()
@click.option(
    "--status",
    shell_complete=complete_states,
    help=f"Only jobs in these states, comma-separated: {', '.join(STATES)}.",
)
@click.option("--project", help="Only jobs of this project.")
@click.option("--type", shell_complete=complete_types, help="Only jobs of this worker type.")
@click.option("-q", "--query", "q", help="Only jobs whose script or id starts with this text.")
@click.option(
    "-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 200),
    help="At most this many jobs.",
)  # fmt: skip
@http_options
def jobs(url: Optional[str], as_json: bool, limit: int, **filters: Any) -> None:
    """List jobs, newest first.

    Example: robotni jobs --status failed -n 5
    """
    with connect(url) as client:
        page = _newest(client, limit, **filters)
    if as_json:
        output.print_json(page)
    else:
        headings = ("id", "status", "script", "project", "age", "error")
        output.print_table(headings, output.job_rows(page["jobs"]))


def _newest(client: "Client", limit: int, **filters: Any) -> Dict[str, Any]:
    """`{"jobs": […], "nextCursor": …}` with `limit` jobs, from as many of the server's pages."""
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
@http_options
def show(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Show one job. Prints its fields, a shell command that reproduces it, and the end of its
    output. JOB_ID may be its last 8 or more digits, or @last for the newest job.

    Example: robotni show 6d7e8f90
    """
    with connect(url) as client:
        job = client.get(full_id(client, job_id))
    output.print_json(job) if as_json else output.print_job(job)


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the job has ended.")
@click.option("--attempt", type=int, help="Number of the attempt.  [default: the last]")
@http_options
def logs(
    job_id: str, follow: bool, attempt: Optional[int], url: Optional[str], as_json: bool
) -> None:
    """Print the output of a job, byte for byte. JOB_ID may be its last 8 or more digits, or @last
    for the newest job.

    Example: robotni logs -f @last
    """
    with connect(url) as client:
        job = client.get(full_id(client, job_id))
        if follow:
            data = _follow(job, attempt, quiet=as_json)
        else:
            data = job.output(attempt=attempt)
            output.write(b"" if as_json else data)
    if as_json:
        output.print_json({"jobId": job.id, "output": data.decode("utf-8", "replace")})


@click.command()
@job_argument
@http_options
def cancel(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Cancel a job that waits or runs. JOB_ID may be its last 8 or more digits, or @last for the
    newest job.

    Example: robotni cancel 6d7e8f90
    """
    with connect(url) as client:
        job = client.cancel(full_id(client, job_id))
    state = "cancelled" if job["status"] == CANCELLED else "is being cancelled"
    output.print_json(job) if as_json else click.echo(f"{job.id} {state}")


@click.command()
@job_argument
@http_options
def retry(job_id: str, url: Optional[str], as_json: bool) -> None:
    """Submit an ended job again and print the new id. JOB_ID may be its last 8 or more digits, or
    @last for the newest job.

    Example: robotni retry @last
    """
    with connect(url) as client:
        job = client.retry(full_id(client, job_id))
    output.print_json(job) if as_json else click.echo(job.id)


@click.command()
@http_options
def status(url: Optional[str], as_json: bool) -> None:
    """Show the state of the worker and the queue.

    Example: robotni status
    """
    with connect(url) as client:
        figures = client.status()
    if as_json:
        output.print_json(figures)
    else:
        output.print_table(("figure", "value"), _figures(figures))


@click.command()
@http_options
def types(url: Optional[str], as_json: bool) -> None:
    """List the worker types.

    Example: robotni types
    """
    with connect(url) as client:
        listed = client.types()
    if as_json:
        output.print_json(listed)
    else:
        rows = [(t["type"], t["title"], t["description"]) for t in listed["types"]]
        output.print_table(("type", "title", "description"), rows)


COMMANDS = (jobs, show, logs, cancel, retry, status, types)


def _follow(job: "RemoteJob", attempt: Optional[int], quiet: bool) -> bytes:
    """Prints the output from `attempt` on, by default the last; with `quiet`, returns it instead.
    Ctrl-C ends the printing, not the job."""
    chunks = []
    try:
        for data in job.follow(attempt or max(1, job["attempt"])):
            output.write(b"" if quiet else data)
            chunks.append(data if quiet else b"")
    except KeyboardInterrupt:
        sys.exit(130)
    return b"".join(chunks)


def _figures(status: Dict[str, Any]) -> Iterator[List[Any]]:
    workers, queue, slo, warm = (status[name] for name in ("workers", "queue", "slo", "warm"))
    yield ["version", status["version"]]
    yield ["worker", workers["consumer"]]
    yield ["busy", f"{workers['busy']} of {workers['max']}"]
    yield [
        "warm interpreters",
        f"{warm['interpreters']}, {warm['memoryBytes'] / (1 << 20):.0f} MiB",
    ]
    for state, count in status["jobs"].items():
        yield [state, count]
    share = slo["completedWithinTimeout"]
    yield ["oldest pending, s", _or_dash(queue["oldestPendingSeconds"])]
    yield ["ended within timeout", _or_dash(None if share is None else f"{100 * share:.4g} %")]
    yield ["API p95, ms", _or_dash(slo["apiP95Ms"])]
    yield ["next wake-up", status["nextWake"]]


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value
