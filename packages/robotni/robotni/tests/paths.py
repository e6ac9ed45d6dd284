"""Folders of the repository."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ENTRIES = PACKAGE.parent / "robotni_huey"
ROOT = PACKAGE.parents[2]
EXAMPLES = ROOT / "examples"
