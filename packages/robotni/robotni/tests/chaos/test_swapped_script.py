"""A script swapped for a link out of the roots between the POST and the launch: it does not run."""

import shutil
from pathlib import Path
from typing import Callable, Dict

import pytest

from robotni.jobs.request import JobRequest
from robotni.tests.conftest import House


def swap_the_script(folder: Path, outside: Path) -> None:
    (folder / "script.py").unlink()
    (folder / "script.py").symlink_to(outside / "script.py")


def swap_its_folder(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(outside)


def swap_it_for_a_link_to_a_link(folder: Path, outside: Path) -> None:
    (folder / "script.py").unlink()
    (folder / "way").symlink_to(outside)
    (folder / "script.py").symlink_to("way/script.py")


def move_another_over_it(folder: Path, outside: Path) -> None:
    (folder / "link").symlink_to(outside / "script.py")
    (folder / "link").replace(folder / "script.py")


ROUNDS = 250  # of each of four kinds
SWAPS: Dict[str, Callable[[Path, Path], None]] = {
    "the script": swap_the_script,
    "its folder": swap_its_folder,
    "a link to a link": swap_it_for_a_link_to_a_link,
    "in one move": move_another_over_it,
}


@pytest.mark.parametrize("swapped", SWAPS)
def test_of_all_scripts_swapped_between_post_and_launch_none_runs(
    house: House, tmp_path_factory: pytest.TempPathFactory, swapped: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "script.py").write_text(f"open({str(outside / 'ran')!r}, 'w')")
    folder = house.project / "folder"
    request = JobRequest(script="folder/script.py", venv=".venv")
    for _ in range(ROUNDS):
        folder.mkdir()
        (folder / "script.py").write_text("pass")
        job = house.engine.submit(request).job
        SWAPS[swapped](folder, outside)
        house.executor.run(job.job_id)
        ended = house.engine.get(job.job_id)
        assert ended.error is not None
        assert ended.error.code == "spawn_failed"
        assert "outside the folders scripts may run from" in ended.error.message
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    assert not (outside / "ran").exists()
