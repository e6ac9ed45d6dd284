"""The benchmark runs: a small form of it, without peers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robotni.tests.paths import ROOT

RUN = ROOT / "bench" / "run.py"
ROWS = {"machine", "throughput", "start", "cost", "memory", "api", "history", "idle"}


@pytest.mark.skipif(
    sys.version_info[:2] < (3, 9) or sys.platform != "linux",
    reason="the benchmark watches processes by pidfd and /proc: Python 3.9 and Linux",
)
def test_each_row_of_the_benchmark_measures_something(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, RUN, "--quick", "--folder", tmp_path, "--json", report]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(report.read_text())
    assert {figure["row"] for figure in found["figures"]} - {"preload"} == ROWS  # that needs numpy
    for figure in found["figures"]:
        assert figure["values"], figure
        assert figure["what"] in run.stdout
    assert found["machine"]["cores"] in run.stdout
