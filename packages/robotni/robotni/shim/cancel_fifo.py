"""The FIFO that wakes a shim when its run is to be cancelled: one for all of its runs."""

import os


class CancelFifo:
    """A FIFO that has a name in the folder of each run: a link costs a thirtieth of a new FIFO.

    A wake-up that was meant for an earlier run makes the shim look once for nothing.
    """

    def __init__(self):
        self.fd = self.path = None

    def link(self, path):
        """Gives the FIFO one name more."""
        try:
            self.link_or_make(path)
        except FileExistsError:  # left by a start that failed
            os.unlink(path)
            self.link_or_make(path)
        self.path = path

    def link_or_make(self, path):
        if self.fd is not None:
            try:
                os.link(self.path, path)
                return
            except FileExistsError:
                raise
            except OSError:  # its last name is gone, or it has too many: make a new one
                os.close(self.fd)
                self.fd = None
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def drain(fd):
    """Throws away what woke the shim."""
    try:
        while os.read(fd, 4096):
            pass
    except OSError:  # it is empty; after another error the next look throws it away
        pass
