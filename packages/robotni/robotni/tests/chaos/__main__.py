"""`python -m robotni.tests.chaos`: kills processes of a server at random and counts what broke.

Everything lives in a temporary folder and is gone afterwards; where a count is not 0 it stays, to
be looked at. The seed repeats the choices, not the moments.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import click

from robotni.cli import output as terminal
from robotni.tests.chaos import witness
from robotni.tests.chaos.audit import audit
from robotni.tests.chaos.storm import KINDS, Storm

SETTLE_WITHIN = 90.0  # over the 60 s in which a sweep finds whatever nobody minds


@click.command()
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long to kill.")
@click.option("--kills", type=int, default=1 << 30, help="Stop after so many.")
@click.option("--seed", type=int, help="Repeat the choices of an earlier run.")
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Kill only these.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    seconds: float, kills: int, seed: Optional[int], only: Sequence[str], as_json: bool
) -> None:
    """Kill the processes of a server at random and count what was lost. Nothing should be."""
    seed = random.randrange(1 << 32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="robotni-chaos-"))
    if not as_json:
        click.echo(f"seed {seed}, in {folder}")
    report = weather(folder, seconds, kills, seed, os.environ, only or KINDS)
    if as_json:
        terminal.print_json(report)
    else:
        _print(report)
    if any(report["counts"].values()):
        click.echo(f"something is wrong; its traces are in {folder}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


def weather(
    folder: Path,
    seconds: float,
    kills: int,
    seed: int,
    environ: Mapping[str, str],
    kinds: Sequence[str] = KINDS,
) -> Dict[str, Any]:
    """One storm in `folder` and its audit: what was killed, and how often each promise broke."""
    began = time.monotonic()
    with Storm(folder, seed, environ) as storm:
        storm.rage(seconds, kills, tuple(kinds))
        counts = {"acknowledged jobs stuck": storm.settle(SETTLE_WITHIN)}
        counts["ended jobs that changed"] = storm.changed()
        counts["processes left"] = storm.leave()
        testimony = witness.read(folder)
        counts.update(audit(storm.data, testimony, storm.acknowledged, storm.workers))
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "kills": dict(storm.kills),
        "jobs": len(storm.acknowledged),
        "starts": sum(testimony.starts.values()),
        "counts": counts,
    }


def _print(report: Dict[str, Any]) -> None:
    kills = sum(report["kills"].values())
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(report["kills"].items()))
    click.echo(f"{kills} kills in {report['seconds']:g} s: {by_kind}")
    click.echo(f"{report['jobs']} jobs acknowledged, {report['starts']} starts\n")
    terminal.print_table(
        ["what must not happen", f"times in {kills:,} kills"], report["counts"].items()
    )
    if kills and not any(report["counts"].values()):
        click.echo(
            f"\n0 in n = {kills:,} kills: with 95 % confidence each happens in under "
            f"3/n = {300 / kills:.2g} % of kills"
        )


if __name__ == "__main__":
    main()
