"""The table: a line for each figure, with its value in each round."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """`against` holds, for the same rounds, the values that the ratio is taken to."""

    row: str
    what: str
    system: str
    unit: str
    values: list[float]
    against: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the ratios of each round; never of figures of two runs."""
        pairs = [(value, other) for value, other in zip(self.values, self.against) if other]
        return statistics.median(value / other for value, other in pairs) if pairs else None

    def cells(self) -> list[str]:
        if not self.values:
            return [self.what, self.system, "", "", "", self.unit, self.note]
        numbers = (statistics.median(self.values), min(self.values), max(self.values))
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return [self.what, self.system, *map(number, numbers), self.unit, ratio]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.1f}"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def as_markdown(figures: list[Figure], facts: dict[str, str], date: str, notes: list[str]) -> str:
    head = ["what", "system", "median", "min", "max", "unit", "ratio"]
    lines = [
        f"Measured on {date} by `make bench`: "
        + ", ".join(f"{name} {value}" for name, value in facts.items())
        + ".",
        "",
        f"| {' | '.join(head)} |",
        "|---|---|--:|--:|--:|---|--:|",
        *(f"| {' | '.join(figure.cells())} |" for figure in figures),
        *(f"\n{note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def as_json(figures: list[Figure], facts: dict[str, str], date: str) -> str:
    shown = [{**figure.__dict__, "ratio": figure.ratio} for figure in figures]
    return json.dumps({"date": date, "machine": facts, "figures": shown}, indent=1)
