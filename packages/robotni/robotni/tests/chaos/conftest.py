"""What the torture needs of a machine."""

import shutil
import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def heavy() -> None:
    if sys.version_info < (3, 9):
        pytest.skip("the torture takes minutes; it runs on the default Python only")


@pytest.fixture
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("to kill at a named point takes strace (apt install strace)")
    return found
