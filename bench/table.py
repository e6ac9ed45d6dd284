"""The table: figures of a row, each with its values by round, and how they are shown."""

from __future__ import annotations

import json
import operator
import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One line. `values` holds a value for each round; `against` the values, of the same rounds,
    of what it is compared with, and the ratio is the median of theirs. `goal` is like `<= 10` and
    judges the median, `ratio_goal` the ratio."""

    row: str
    what: str
    system: str
    unit: str
    values: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)
    goal: str = ""
    ratio_goal: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        if not self.against:
            return None
        return statistics.median(a / b for a, b in zip(self.values, self.against))

    @property
    def is_met(self) -> bool | None:
        """None where there is no goal, or nothing was measured."""
        verdicts = [_holds(value, goal) for value, goal in self._judged()]
        return all(verdicts) if verdicts else None

    def _judged(self) -> list[tuple[float, str]]:
        pairs = [(self.median, self.goal)] if self.values and self.goal else []
        return pairs + ([(self.ratio, self.ratio_goal)] if self.against and self.ratio_goal else [])

    def cells(self) -> list[str]:
        shown = [f"{self.what}, {self.system}" if self.system else self.what]
        if not self.values:
            return [*shown, "", "", "", self.unit, "", self.note]
        shown += map(number, (self.median, min(self.values), max(self.values)))
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        goals = ", ".join(goal for _, goal in self._judged())
        verdict = {None: "", True: f"{goals} met", False: f"{goals} missed"}[self.is_met]
        return [*shown, self.unit, ratio, verdict]

    def as_json(self) -> dict[str, Any]:
        extra = {"median": self.median, "ratio": self.ratio} if self.values else {}
        return {**self.__dict__, **extra, "met": self.is_met}


def _holds(value: float, goal: str) -> bool:
    sign, bound = goal.split()
    holds = {">=": operator.ge, "<=": operator.le, "<": operator.lt}[sign]
    return holds(round(value, 9), float(bound))  # 20 ms of 10 s are 0.2 %, not a hair less


HEAD = ["", "median", "min", "max", "unit", "ratio", "goal"]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.1f}"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def as_text(figures: list[Figure]) -> str:
    """Lines of equal columns, a title above each row's."""
    rows = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [_line(HEAD, widths)]
    row = None
    for figure in figures:
        if figure.row != row:
            row = figure.row
            lines += ["", row]
        lines.append(_line(figure.cells(), widths))
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int]) -> str:
    first, *numbers, unit, ratio, goal = cells
    middle = "".join(f"{cell:>{width + 2}}" for cell, width in zip(numbers, widths[1:]))
    text = f"  {first:<{widths[0]}}{middle}  {unit:<{widths[4]}}  {ratio:>{widths[5]}}  {goal}"
    return text.rstrip()


def as_markdown(figures: list[Figure], machine: dict[str, str], date: str) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [f"Measured on {date} by `make bench`; {facts}.", ""]
    lines += ["| " + " | ".join(["what", *HEAD[1:]]) + " |", "|---|--:|--:|--:|---|--:|---|"]
    lines += ["| " + " | ".join(figure.cells()) + " |" for figure in figures]
    return "\n".join(lines) + "\n"


def as_json(figures: list[Figure], machine: dict[str, str], date: str) -> str:
    shown = [figure.as_json() for figure in figures]
    return json.dumps({"date": date, "machine": machine, "figures": shown}, indent=1)
