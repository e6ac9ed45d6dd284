"""`robotni selftest`: a storm of `kill -9` over a server of its own, and what came of it.

Everything lives in a temporary folder and is gone afterwards; where a count is not 0 it stays, to
be looked at. The seed repeats the choices, not the moments.
"""

import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import click

from robotni import terminal, witness
from robotni.audit import audit
from robotni.storm import KINDS, Storm

SETTLE_WITHIN = 90.0  # over the 60 s in which a sweep finds whatever nobody minds


def run_selftest(
    seconds: float,
    kills: int,
    seed: Optional[int],
    kinds: Sequence[str],
    environ: Mapping[str, str],
    as_json: bool,
) -> int:
    """Rages for `seconds`, or until `kills` were done; 0 when every count is 0, else 1."""
    seed = random.randrange(1 << 32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="robotni-selftest-"))
    if not as_json:
        click.echo(f"seed {seed}, in {folder}")
    report = weather(folder, seconds, kills, seed, environ, kinds)
    if as_json:
        terminal.print_json(report)
    else:
        _print(report)
    if any(report["counts"].values()):
        click.echo(f"something is wrong; its traces are in {folder}", err=True)
        return 1
    shutil.rmtree(folder)
    return 0


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
