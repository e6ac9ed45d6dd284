"""The benchmark: `make bench`, or `python bench/run.py --only start,cancel`; see README.md.

Everything is measured side by side in one run: in each round every system once, in an order that
rotates, and a figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from pathlib import Path

import machine
import table
from house import House
from rows import api, cancel, history, idle, preload, start, throughput

ROWS = {
    "throughput": throughput.measure,
    "preload": preload.measure,
    "start": start.measure,
    "cancel": cancel.measure,
    "api": api.measure,
    "history": history.measure,
    "cost": throughput.measure_cost,
    "idle": idle.measure,  # the last: it ends everything else
}
BUSY = 0.5  # of a core, on average over the last minute


def main() -> None:
    given = arguments()
    rows = [name for name in ROWS if name in (given.only or ROWS)]
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        facts = machine.describe(Path(name))
        figures = []
        with House(Path(name), given) as house:
            for row in rows:
                print(f"{row} …", file=sys.stderr, flush=True)
                figures += ROWS[row](house)
            facts |= house.versions()
            notes = house.notes
    if float(facts["load before"].split(",")[0]) > BUSY:
        notes.append("The machine was busy before this run: neither figures nor ratios say much.")
    show(figures, facts, notes, given)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=rows_of, help=f"of {','.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=400, help="scripts in a throughput round")
    parser.add_argument("--starts", type=int, default=25, help="samples in a start round")
    parser.add_argument("--history", type=int, default=1_000_000, help="jobs in the big database")
    parser.add_argument("--seconds", type=float, default=5, help="of load in an api round")
    parser.add_argument("--no-peers", action="store_true", help="robotni and what is installed")
    parser.add_argument("--quick", action="store_true", help="a smoke test: no peers, no goals")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    folder = Path(__file__).parent / ".work"
    parser.add_argument("--folder", type=Path, default=folder, help="on the disk to measure")
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    if given.quick:
        given.no_peers = True
        given.rounds, given.jobs, given.starts = 1, 20, 3
        given.history, given.seconds = 2000, 0.5
    return given


def rows_of(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"no row {name}; there are {', '.join(ROWS)}")
    return names


def show(
    figures: list[table.Figure], facts: dict[str, str], notes: list[str], given: argparse.Namespace
) -> None:
    if given.quick:
        for figure in figures:
            figure.goal = figure.ratio_goal = ""
    date = datetime.date.today().isoformat()
    print(f"{date}; " + ", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    print(table.as_text(figures))
    for note in notes:
        print(f"\n{note}")
    if given.json:
        given.json.write_text(table.as_json(figures, facts, date))
    if given.markdown:
        given.markdown.write_text(table.as_markdown(figures, facts, date))


if __name__ == "__main__":
    main()
