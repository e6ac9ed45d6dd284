"""A sales report: reads a CSV file, computes with numpy, prints a table.

Under robotni it also says how far it is, and leaves its figures as JSON: robotni names a file for
each in the environment. Run by hand, it only prints.
"""

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np

RESAMPLES = 4000


def progress(percent, message):
    path = os.environ.get("ROBOTNI_PROGRESS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{percent:.0f} {message}\n")


def leave(result):
    path = os.environ.get("ROBOTNI_RESULT")
    if path:
        Path(path).write_text(json.dumps(result), encoding="utf-8")


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    months = np.array([row["date"][:7] for row in rows])
    regions = np.array([row["region"] for row in rows])
    revenue = np.array([int(row["units"]) * float(row["unit_price"]) for row in rows])
    return months, regions, revenue


def describe(revenue, rng):
    """The figures of one region; `likely` is the 95 % bootstrap interval of the mean."""
    means = rng.choice(revenue, (RESAMPLES, revenue.size)).mean(axis=1)
    median, ninth = np.percentile(revenue, [50, 90])
    return {
        "orders": int(revenue.size),
        "revenue": round(float(revenue.sum()), 2),
        "mean": round(float(revenue.mean()), 2),
        "likely": [round(float(bound), 2) for bound in np.percentile(means, [2.5, 97.5])],
        "median": round(float(median), 2),
        "p90": round(float(ninth), 2),
    }


def trend(months, revenue):
    """A straight line through the revenue of the months, and where it points next."""
    names, month = np.unique(months, return_inverse=True)
    slope, start = np.polyfit(np.arange(names.size), np.bincount(month, revenue), 1)
    return {
        "months": int(names.size),
        "perMonth": round(float(slope), 2),
        "nextMonth": round(float(start + slope * names.size), 2),
    }


def show(result):
    print(f"{'region':<8}{'orders':>8}{'revenue':>14}{'mean':>10}{'likely mean':>20}{'p90':>10}")
    for region, each in result["regions"].items():
        low, high = each["likely"]
        print(
            f"{region:<8}{each['orders']:>8,}{each['revenue']:>14,.2f}{each['mean']:>10,.2f}"
            f"{f'{low:,.0f} to {high:,.0f}':>20}{each['p90']:>10,.2f}"
        )
    print(f"{'total':<8}{result['orders']:>8,}{result['revenue']:>14,.2f}")
    line = result["trend"]
    print(f"\n{line['perMonth']:+,.2f} a month; next month about {line['nextMonth']:,.2f}")


def main():
    parser = argparse.ArgumentParser(description="a sales report")
    parser.add_argument("--csv", default=Path(__file__).with_name("sales.csv"), help="the sales")
    options = parser.parse_args()

    progress(0, "reading")
    months, regions, revenue = read(options.csv)
    result = {"orders": int(revenue.size), "revenue": round(float(revenue.sum()), 2), "regions": {}}
    rng = np.random.default_rng(1)
    names = np.unique(regions).tolist()
    for done, name in enumerate(names):
        progress(10 + 80 * done / len(names), f"resampling {name}")
        result["regions"][name] = describe(revenue[regions == name], rng)
    progress(90, "fitting the trend")
    result["trend"] = trend(months, revenue)
    leave(result)
    show(result)
    progress(100, "done")


if __name__ == "__main__":
    main()
