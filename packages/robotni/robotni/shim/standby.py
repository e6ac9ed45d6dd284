"""Forks of a warm shim: one that is its script at once, and one that stands by for the next.

That one is made while no run is there. All that is the same for every script is done in it by then;
its descriptor 0 is a socket to the shim until its order comes, and it leaves when the shim does.
"""

import _signal as signal  # what `signal` is made of, without making enums of all in a mask
import json
import os
import socket

from .tree import mark
from .wire import receive, send

ALL = signal.valid_signals()
FOLDER_ONLY = getattr(os, "O_PATH", os.O_RDONLY)
ROOM = 1 << 15  # bytes of an order that a socket takes at once, also when nobody reads
encode = json.JSONEncoder().encode


class Fork:
    """A fork of this process, below it: `pid`, which is 0 in the fork itself. There signals wait,
    as one that comes before it has its own handlers must not be swallowed."""

    def __init__(self):
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        try:
            self.pid = os.fork()
        except OSError:  # no more processes
            self.unblock()
            raise
        if self.pid == 0:
            os.setsid()
        else:
            self.unblock()

    def unblock(self):
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def take(self, stdin, output):
        for fd, number in ((stdin, 0), (output, 1), (output, 2)):
            os.dup2(fd, number)


class Standby(Fork):
    """One that waits for its order; `mark` is what it and its children carry."""

    def __init__(self):
        self.mark = mark()
        self.channel, theirs = socket.socketpair()
        with theirs:
            try:
                super().__init__()
            except OSError:
                self.channel.close()
                raise
            if self.pid == 0:
                os.dup2(theirs.fileno(), 0)
                self.channel.close()

    # the shim's side

    def hand(self, order, stdin, output):
        """Whether it becomes the script of this order, in the folder where this process is: its end
        is for the run to see then. If not, it is gone."""
        message = encode({"argv": order["argv"], "env": order["env"]}).encode()
        if len(message) <= ROOM and self.tell(message, stdin, output):
            return True
        self.dismiss()
        return False

    def tell(self, message, stdin, output):
        folder = os.open(".", FOLDER_ONLY | os.O_CLOEXEC)
        try:
            send(self.channel, message, folder, stdin, output)
            return True
        except OSError:  # something has killed it
            return False
        finally:
            os.close(folder)
            self.channel.close()

    def dismiss(self):
        self.channel.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    # its own side

    def wait(self):
        """Its order. Folder and streams are the script's then."""
        with socket.socket(fileno=0) as channel:
            message = receive(channel)
            channel.detach()
        if message is None:
            os._exit(0)
        order, (folder, stdin, output) = message
        forget_strays()
        os.fchdir(folder)
        self.take(stdin, output)
        for fd in (folder, stdin, output):
            os.close(fd)
        return order


def forget_strays():
    """Drops the signals that came for no script: not from the shim, before there was an order."""
    shim, meant = os.getppid(), []
    while hasattr(signal, "sigtimedwait"):
        found = signal.sigtimedwait(ALL, 0)
        if found is None:
            break
        if found.si_pid == shim:
            meant.append(found.si_signo)
    for number in meant:
        os.kill(os.getpid(), number)
