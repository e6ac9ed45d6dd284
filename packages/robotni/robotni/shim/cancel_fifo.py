"""The FIFO that wakes a shim when its run is to be cancelled: one for all of its runs."""

import os


class Ring:
    """A FIFO with a name in the folder of each run: a link, which costs a thirtieth of a new one.

    Whoever rings for an earlier run wakes the shim for nothing, which does no harm.
    """

    def __init__(self):
        self.fd = self.path = None

    def hang(self, path):
        """Gives it one name more, at `path`."""
        try:
            self.name(path)
        except FileExistsError:  # of a start that failed
            os.unlink(path)
            self.name(path)
        self.path = path

    def name(self, path):
        if self.fd is not None:
            try:
                os.link(self.path, path)
                return
            except FileExistsError:
                raise
            except OSError:  # the last name is gone, or there are too many: begin anew
                os.close(self.fd)
                self.fd = None
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def swallow(fd):
    """Forgets who rang, or what signals came."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
