"""Runs come from the worker, one after another, until it is gone.

Budget: 0.6 ms of CPU for a run, which takes a process, a pipe and two new files; no wait for the
disk before the script starts.
"""

import _signal as signal
import json
import os
import select
import socket
import sys

from .cancel_fifo import Ring
from .evidence import open_vmstat
from .processes import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, controller, descendants
from .protocol import answer, receive
from .run import Run

HANDLED = (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM)  # SIGKILL ends a shim


def main(known, space):
    """Runs until the worker is gone. In a fork of a warm shim: how to run the script.

    A new interpreter has of `space` in its `__main__` what begins with two underscores, and has
    `known` modules and folders of such.
    """
    control = controller()
    control(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the script come to this process, not to init
    worker = socket.socket(fileno=int(sys.argv[1]))
    worker.set_inheritable(False)
    if len(sys.argv) == 2:
        from .spawn import spawn

        serve(worker, listen()[0], spawn)
        return None
    from .warm import Warm

    heed_signals()
    warm = Warm(space)
    hide(known)
    if not is_ready(worker, warm, control):
        os._exit(0)
    wake, handlers = listen()
    served = serve(worker, wake, warm.fork)
    if served is None:
        os._exit(0)  # what the modules do at exit is for scripts
    warm.spare(known, space, worker, *served)
    return [warm.ended, *warm.script(served[0].order, handlers)]


def hide(known):
    """Leaves what a new interpreter knows: what the shim has imported is its own."""
    for table in (sys.modules, sys.path_importer_cache):
        for name in set(table) - known:
            del table[name]


def is_ready(worker, warm, control):
    """Imports the modules and tells the worker of it, or why no run may be forked from them."""
    control(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for an import then, however long
    if select.select([worker], [], [], 0)[0]:
        return False  # the worker was quicker
    refused = warm.preload(sys.argv[3:])
    control(PR_SET_PDEATHSIG, 0)
    started = descendants()
    if refused is None and started:
        refused = "the preloaded modules start a process"
    if refused is not None:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
    answer = json.dumps({"refused": refused, "files": warm.files()})
    try:
        worker.sendall(answer.encode() + b"\n")
    except OSError:  # the worker is gone
        return False
    return refused is None


def heed_signals():
    """As a new interpreter below a shim does, also where robotni was started by nohup."""
    for number in HANDLED:
        if signal.getsignal(number) == signal.SIG_IGN:
            is_int = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)


def listen():
    """The descriptor to wake up by; what the handlers of signals were before."""
    wake, wake_writer = os.pipe()
    for fd in (wake, wake_writer):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    return wake, {n: signal.signal(n, lambda number, frame: None) for n in HANDLED}


def serve(worker, wake, start):
    """Runs one after another. In a fork it comes back, with the run that the process is to become,
    and what else it has."""
    ring, vmstat = Ring(), open_vmstat()
    last = None
    while True:
        try:
            message = receive(worker)
        except ConnectionResetError:  # the worker has left, our last answer unread
            message = None
        if message is None:
            break
        order, lock = message
        run = Run(order, wake, ring, vmstat, start)
        begun = run.begin()
        if begun:
            run.spawn()
            if run.is_fork:
                return run, last, ring
            run.end()
        last = run if begun else None
        os.close(lock)
        try:
            worker.send(answer(begun, run.word))
        except OSError:  # the worker is gone; the evidence is there
            break
        if run.survived:
            return None  # something not even SIGKILL ends: the next run gets a fresh shim
    if last is not None:
        last.sync_end()
    return None
