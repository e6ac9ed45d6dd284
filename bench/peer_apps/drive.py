"""The client of a peer, in the peer's own venv: `python drive.py with_rq`.

One order a line on stdin, its answer a line on stdout, JSON both ways. Times are taken here, in the
one process that submits, so the pipe to the benchmark costs the peer nothing.
"""

import importlib
import json
import os
import sys
import time


def main() -> None:
    app = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        answer = {"run": run, "start": start}[order.pop("do")](app, **order)
        print(json.dumps(answer), flush=True)


def run(app, argv, count):
    """Seconds from the first submit until the last result is in."""
    began = time.monotonic()
    app.wait([app.submit(argv) for _ in range(count)])
    return time.monotonic() - began


def start(app, argv, out, count, pause):
    """Milliseconds from each submit to the first line of its script, the worker idle before."""
    found = []
    for _ in range(count):
        time.sleep(pause)
        began = time.monotonic()
        handle = app.submit([*argv, out])
        found.append(1000 * (stamp(out) - began))
        app.wait([handle])
    return found


def stamp(out):
    """The monotonic time that a script wrote to file `out`, as soon as it is there."""
    give_up = time.monotonic() + 60
    while not os.path.exists(out):
        if time.monotonic() > give_up:
            raise SystemExit(f"no script wrote {out} within a minute")
        time.sleep(0.001)
    with open(out) as file:
        found = float(file.read())
    os.unlink(out)
    return found


if __name__ == "__main__":
    main()
