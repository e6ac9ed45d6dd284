"""Refreshes what robotni ships of others: swagger-ui-dist, by `npm pack`, files as they are.

`python3 tools/vendor.py` puts the pinned version into `web/swagger-ui/`; to take a newer one,
change VERSION, run it, look at /docs and run test_page.py. Needs npm; nothing else does.
"""

import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "swagger-ui-dist"
VERSION = "5.35.0"
FILES = (
    "LICENSE",
    "NOTICE",
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
)
TARGET = Path(__file__).parents[1] / "packages/robotni/robotni/web/swagger-ui"


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pack = ["npm", "pack", "--silent", "--pack-destination", folder, f"{PACKAGE}@{VERSION}"]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as tar:
            for name in FILES:
                file = tar.extractfile(f"package/{name}")
                assert file is not None, name
                (TARGET / name).write_bytes(file.read())
    (TARGET / "VERSION").write_text(f"{PACKAGE} {VERSION}\n")


if __name__ == "__main__":
    main()
