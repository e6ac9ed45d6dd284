"""The benchmark: `make bench`, or `python bench/run.py --only jobs,api`; see README.md."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from pathlib import Path

import measure
import peers
import table
from project import Project
from rows import api, history, idle, jobs

from robotni import __version__

ROWS = {
    "jobs": jobs.measure,
    "api": api.measure,
    "history": history.measure,
    "idle": idle.measure,
}
BUSY = 0.5  # of a core, on average over the last minute


class Bench:
    """What the rows share: the numbers of this run, its folder, and notes for the reader."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.is_quick = given.quick
        self.no_peers = given.no_peers or given.quick
        self.rounds = 1 if given.quick else given.rounds
        self.jobs = 20 if given.quick else 400  # scripts in a round
        self.starts = 3 if given.quick else 25  # in a round
        self.history = 2000 if given.quick else 1_000_000  # jobs in the database
        self.seconds = 0.5 if given.quick else 5  # of load in a round
        self.project = Project(folder / "project")
        self.notes: list[str] = []


def main() -> None:
    given = arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder.resolve()) as name:
        facts = {**measure.facts(Path(name)), "robotni": __version__}
        bench = Bench(given, Path(name))
        figures: list[table.Figure] = []
        for row in given.only or ROWS:
            print(f"{row} …", file=sys.stderr, flush=True)
            figures += ROWS[row](bench)
        facts.update({} if bench.no_peers else peers.versions())
    if float(facts["load before"].split(",")[0]) > BUSY:
        bench.notes.append("The machine was busy before this run: its figures say little.")
    date = datetime.date.today().isoformat()
    print(table.as_markdown(figures, facts, date, bench.notes), end="")
    if given.json:
        given.json.write_text(table.as_json(figures, facts, date))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=rows_of, help=f"of {','.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true", help="robotni and its yardsticks only")
    parser.add_argument("--quick", action="store_true", help="one small round, without peers")
    parser.add_argument("--json", type=Path, metavar="FILE")
    folder = Path(__file__).parent / ".work"
    parser.add_argument("--folder", type=Path, default=folder, help="on the disk to measure")
    return parser.parse_args()


def rows_of(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"no row {name}; there are {', '.join(ROWS)}")
    return names


if __name__ == "__main__":
    main()
