"""Works on files: writes a manifest of a folder, as `sha256sum --check` reads it."""

import argparse
import hashlib
import os
import sys
from pathlib import Path


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            total.update(chunk)
    return total.hexdigest()


def manifest(folder, leave_out):
    """One line for each regular file below `folder`, in a stable order; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            if path.is_file() and not path.is_symlink() and path.resolve() != leave_out:
                yield os.fsencode(f"{digest(path)}  {path.relative_to(folder)}\n")


def main():
    parser = argparse.ArgumentParser(description="checksums of a folder")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--out", type=Path, help="the manifest; standard output without it")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")

    lines = list(manifest(options.folder, options.out and options.out.resolve()))
    if options.out:
        options.out.write_bytes(b"".join(lines))
        print(f"{len(lines)} files in {options.out}")
    else:
        sys.stdout.buffer.writelines(lines)


if __name__ == "__main__":
    main()
