"""The benchmark runs, whatever it finds: a small form of it, without peers and without goals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robotni.tests.paths import ROOT

RUN = ROOT / "bench" / "run.py"
ROWS = {"throughput", "preload", "start", "cancel", "api", "history", "idle", "cost"}


@pytest.mark.skipif(
    sys.version_info[:2] < (3, 9) or sys.platform != "linux",
    reason="the benchmark watches processes by pidfd and /proc: Python 3.9 and Linux",
)
def test_each_row_of_the_benchmark_measures_something(tmp_path: Path) -> None:
    report, quoted = tmp_path / "report.json", tmp_path / "report.md"
    files = ["--folder", tmp_path, "--json", report, "--markdown", quoted]
    run = subprocess.run(
        [sys.executable, RUN, "--quick", *files], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(report.read_text())
    assert {figure["row"] for figure in found["figures"]} == ROWS
    for figure in found["figures"]:
        assert figure["values"] or figure["note"], figure
        assert figure["met"] is None
        assert figure["what"] in run.stdout
        assert figure["what"] in quoted.read_text()
    assert found["machine"]["cores"] in run.stdout
