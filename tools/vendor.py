"""Refreshes what robotni ships of others, by `npm pack`.

`python3 tools/vendor.py` puts the pinned versions where they belong; to take a newer one, change
its version here, run it, look at the page and run its tests. Needs npm; nothing else does. Files
are as they are but for one thing: modules that import each other by package name get a relative
path instead, since a page with a strict policy has no place for an import map.
"""

import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

PACKAGE = Path(__file__).parents[1] / "packages/robotni/robotni"


class Pinned(NamedTuple):
    """`files` maps paths in the package to names in `folder`."""

    name: str
    version: str
    folder: str
    files: Dict[str, str]
    replaced: Tuple[Tuple[bytes, bytes], ...] = ()


ALL = (
    Pinned(
        "swagger-ui-dist",
        "5.35.0",
        "web/swagger-ui",
        {
            "LICENSE": "LICENSE",
            "NOTICE": "NOTICE",
            "swagger-ui-bundle.js": "swagger-ui-bundle.js",
            "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
            "swagger-ui.css": "swagger-ui.css",
        },
    ),
    Pinned(
        "preact",
        "10.29.8",
        "web/preact",
        {
            "LICENSE": "LICENSE",
            "dist/preact.module.js": "preact.js",
            "hooks/dist/hooks.module.js": "hooks.js",
        },
        ((b'from"preact"', b'from"./preact.js"'),),
    ),
    Pinned("htm", "3.1.1", "web/htm", {"LICENSE": "LICENSE", "dist/htm.module.js": "htm.js"}),
    Pinned(
        "uplot",
        "1.6.32",
        "web/uplot",
        {
            "LICENSE": "LICENSE",
            "dist/uPlot.iife.min.js": "uplot.js",
            "dist/uPlot.min.css": "uplot.css",
        },
    ),
    Pinned(
        "axe-core",
        "4.14.1",
        "tests/axe",
        {
            "LICENSE": "LICENSE",
            "LICENSE-3RD-PARTY.txt": "LICENSE-3RD-PARTY.txt",
            "axe.min.js": "axe.min.js",
        },
    ),
)


def main() -> None:
    for pinned in ALL:
        refresh(pinned)


def refresh(pinned: Pinned) -> None:
    target = PACKAGE / pinned.folder
    target.mkdir(exist_ok=True)
    what = f"{pinned.name}@{pinned.version}"
    with tempfile.TemporaryDirectory() as folder:
        pack = ["npm", "pack", "--silent", "--pack-destination", folder, what]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as tar:
            for path, name in pinned.files.items():
                file = tar.extractfile(f"package/{path}")
                assert file is not None, path
                content = file.read()
                for theirs, ours in pinned.replaced:
                    content = content.replace(theirs, ours)
                (target / name).write_bytes(content)
    (target / "VERSION").write_text(f"{pinned.name} {pinned.version}\n")


if __name__ == "__main__":
    main()
