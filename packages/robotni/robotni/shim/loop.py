"""The loop of a shim: launch specs come from the worker, one after another, until it is gone."""

import os
import signal
import socket

from .cancel_fifo import CancelFifo
from .evidence import close, open_vmstat
from .processes import PR_SET_CHILD_SUBREAPER, conditions, prctl
from .protocol import answer, receive
from .run import Run
from .spawn import RESET
from .standby import Standby

HANDLED = (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM)  # SIGKILL ends a shim
KEPT = (signal.SIGKILL, signal.SIGSTOP, *RESET)


def main(fd):
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of a script come to this process, not to init
    worker = socket.socket(fileno=fd)
    worker.set_inheritable(False)
    wakeup = wake_up_on_signals()
    fifo, vmstat, standby = CancelFifo(), open_vmstat(), Standby()
    last, at_start = None, conditions()
    while True:
        message, lock = receive(worker)
        if message is None:
            break
        if "standby" in message:
            standby.prepare(message["standby"])
            continue
        run = Run(message, wakeup, fifo, vmstat, standby)
        # Without the lock, for which there was no descriptor, nobody would see that the run lives.
        has_started = lock is not None and run.start() and run.end()
        last = run if has_started else None
        if lock is not None:
            close(lock)
        # The next run gets another shim where not even SIGKILL ended the processes of this one, and
        # where a script has changed what the next one would inherit.
        leaves = run.has_survivors or conditions() != at_start
        try:
            worker.send(answer(has_started, leaves, run.exit_json))
        except OSError:  # the worker is gone; the evidence is there
            break
        if leaves:
            return
    standby.dismiss()
    if last is not None:
        last.sync_end()


def wake_up_on_signals():
    """A descriptor that is readable after a signal; the signals do nothing else.

    No signal stays ignored or blocked here because the server was started so (by `&` in a script,
    by nohup): programs inherit that.
    """
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, lambda number, frame: None)
    for number in signal.valid_signals() - {*KEPT}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader
