"""The client of a peer's library, in the peer's own environment: `python drive.py with_rq`.

A line of JSON on stdin is a request, a line on stdout its answer. Times are taken here, in the
process that submits, so the pipe to the benchmark costs the peer nothing.
"""

import importlib
import json
import os
import sys
import time


def main():
    peer = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"run": run, "start": start}[request.pop("do")](peer, **request)
        print(json.dumps(answer), flush=True)


def run(peer, argv, count):
    """Seconds from the first submit until the last result is in."""
    began = time.monotonic()
    wait(peer, [peer.submit(argv) for _ in range(count)])
    return time.monotonic() - began


def start(peer, argv, out, count):
    """Milliseconds from each submit to the script's first line, after 50 ms without work."""
    found = []
    for _ in range(count):
        time.sleep(0.05)
        began = time.monotonic()
        handle = peer.submit([*argv, out])
        found.append(1000 * (stamp(out) - began))
        wait(peer, [handle])
    return found


def wait(peer, handles):
    for handle in handles:
        while not peer.is_done(handle):
            time.sleep(0.005)


def stamp(out):
    """The monotonic time that a script wrote to file `out`, as soon as it is there."""
    deadline = time.monotonic() + 60
    while not os.path.exists(out):
        if time.monotonic() > deadline:
            raise SystemExit(f"no script wrote {out} within a minute")
        time.sleep(0.001)
    with open(out) as file:
        found = float(file.read())
    os.unlink(out)
    return found


if __name__ == "__main__":
    main()
