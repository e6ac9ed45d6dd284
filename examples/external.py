"""Runs another program: `external.py PROGRAM [ARGS …]`.

It shares our output, so each line is seen as it comes. Its exit code becomes ours, as in a shell:
128 + n where signal n ended it, 127 where there is no such program, 126 where it may not run.
"""

import subprocess
import sys


def run(command):
    try:
        code = subprocess.call(command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    command = sys.argv[1:] or [sys.executable, "--version"]
    sys.exit(run(command))
