"""`python -m robotni.tests.chaos` in small, one kind of kill each; and that the audit finds faults.

The long one is `make chaos`.
"""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from robotni.jobs.request import JobRequest
from robotni.storage.run_files import EXIT_FACTS
from robotni.tests.ahead import ahead
from robotni.tests.chaos import process_list as census
from robotni.tests.chaos import witness
from robotni.tests.chaos.audit import audit
from robotni.tests.conftest import House
from robotni.tests.paths import ROOT
from robotni.tests.processes import clean_environ, eventually

SECONDS = 15
KILLS = 30


@pytest.fixture(scope="module")
def storms(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Dict[str, Future[Any]]]":
    """(exit code, report, what is left) of each kind."""

    def rage(kind: str) -> Tuple[int, Any, List[Path]]:
        folder = tmp_path_factory.mktemp(kind)
        seed = str(random.randrange(1 << 32))
        options = ["--seconds", str(SECONDS), "--kills", str(KILLS), "--seed", seed, "--only", kind]
        run = subprocess.run(
            [sys.executable, "-m", "robotni.tests.chaos", "--json", *options],
            cwd=folder,
            env={**clean_environ(), "TMPDIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode, json.loads(run.stdout), list(folder.iterdir())

    yield from ahead(request, "kind", rage)


@pytest.mark.parametrize("kind", ["web", "worker", "shim", "point", "all", "script"])
def test_a_storm_loses_nothing_and_leaves_nothing(
    kind: str, storms: "Dict[str, Future[Any]]"
) -> None:
    if kind == "point" and not census.can_trace():
        pytest.skip("to kill at a named point takes strace (apt install strace)")
    code, report, left = storms[kind].result()
    print(report)
    assert code == 0, report
    assert set(report["counts"].values()) == {0}
    assert report["kills"][kind] > 0
    assert report["jobs"] > 0
    assert left == []


@pytest.mark.parametrize("kind", ["script"])
def test_what_is_counted_is_the_table_of_the_docs(
    kind: str, storms: "Dict[str, Future[Any]]"
) -> None:
    _, report, _ = storms[kind].result()
    text = (ROOT / "docs" / "reliability.md").read_text()
    table = text[text.index("| what must not happen |") :].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    assert rows == [[name, "0"] for name in report["counts"]]


def test_a_storm_prints_its_table_with_n_and_the_bound(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robotni.tests.chaos", "--seconds", "10", "--kills", "5"]
    options = ["--only", "script", "--seed", "7"]
    env = {**clean_environ(), "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [*command, *options], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    first, kills, jobs, _, *rows, _, bound = run.stdout.splitlines()
    assert first.startswith("seed 7, in ")
    assert re.match(r"5 kills in [\d.]+ s: 5 script\Z", kills)
    assert re.match(r"\d+ jobs acknowledged, \d+ starts\Z", jobs)
    assert len(rows) == 12
    assert {row.split("\t")[1] for row in rows} == {"0"}
    happens = "0 in n = 5 kills: with 95 % confidence each happens in under 3/n = 60 % of kills"
    assert bound == happens


# That the audit would see it


def counts(house: House, *lines: str, also: str = "") -> Dict[str, int]:
    """What differs from 0 when the scripts wrote `lines`."""
    (house.project / "lines").write_text("".join(f"{line}\n" for line in lines))
    listed = house.store._db.sql("SELECT job_id FROM job").fetchall()
    acknowledged = [job_id for (job_id,) in listed] + ([also] if also else [])
    testimony = witness.read(house.project)
    found = audit(house.datadir.path, testimony, acknowledged, house.settings.workers)
    return {name: count for name, count in found.items() if count}


def completed(house: House) -> str:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.executor.run(job.job_id)
    return str(job.job_id)


def test_the_audit_finds_nothing_where_nothing_is_wrong(house: House) -> None:
    job_id = completed(house)
    assert counts(house, f"S {job_id} 1 0", f"E {job_id} 1") == {}


def test_the_audit_finds_what_the_scripts_saw(house: House) -> None:
    job_id = completed(house)
    assert counts(house, f"S {job_id} 1 0") == {"completed without its end": 1}
    twice = [f"S {job_id} 1 0", f"E {job_id} 1"] * 2
    both = {"started twice in one attempt": 1, "ended twice in one attempt": 1}
    assert counts(house, *twice) == both
    over = house.settings.workers
    found = counts(house, f"S {job_id} 1 {over}", f"E {job_id} 1")
    assert found == {"scripts over WORKERS at once": 1}


def test_the_audit_finds_what_the_data_directory_lacks_or_has_too_much(house: House) -> None:
    job_id = completed(house)
    told = f"S {job_id} 1 0", f"E {job_id} 1"
    missing = counts(house, *told, also="0" * 32)
    assert missing == {"acknowledged jobs missing": 1}
    (house.datadir.path / "lock-4711").touch()
    assert counts(house, *told) == {"files that piled up": 1}
    (house.datadir.path / "lock-4711").unlink()


def test_the_audit_finds_a_job_called_lost_that_had_ended(house: House) -> None:
    job = house.engine.submit(JobRequest(script="hello.py", venv=".venv")).job
    house.claim(job.job_id)
    folder = house.datadir.jobs / job.job_id / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "started").write_text('{"mark": null}')
    house.executor.recovery.sweep()
    assert counts(house) == {}
    (folder / "exit.json").write_text(json.dumps(dict.fromkeys(sorted(EXIT_FACTS))))
    assert counts(house) == {"called lost though it had ended": 1}


def test_a_place_says_how_many_lived_at_once(tmp_path: Path) -> None:
    (tmp_path / "witness.py").write_text(witness.SCRIPT)
    command = [sys.executable, "witness.py", str(tmp_path), "1.5", "nothing"]
    running = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={"ROBOTNI_JOB_ID": f"j{number}", "ROBOTNI_ATTEMPT": "1"},
            stdout=subprocess.DEVNULL,
        )
        for number in range(3)
    ]
    for script in running:
        script.wait()
    testimony = witness.read(tmp_path)
    assert sorted(testimony.places) == [0, 1, 2]
    assert testimony.ends == Counter({(f"j{number}", 1): 1 for number in range(3)})


def test_the_census_names_each_process_by_its_role(server: Any) -> None:
    job_id = server.submit("import time; time.sleep(60)")
    server.wait_for(job_id, "running")
    roles = {"web": 1, "worker": 1, "shim": 1, "script": 1}
    eventually(lambda: Counter(map(census.role_of, census.processes_of(server.data))) == roles)
