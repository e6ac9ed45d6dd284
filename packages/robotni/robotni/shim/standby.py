"""The standby interpreter of a shim: started ahead, it becomes one run.

It is a child of the shim, runs `standby_program.py` in the Python of a venv, imports the modules to
preload, and waits at a pipe for one launch spec. Its output goes to a pipe of its own, which then
is the run's. Where it has ended, or does not fit, the run starts cold.
"""

import marshal
import os
import signal
import time

from .evidence import close
from .processes import descendants, mark_others
from .spawn import spawn

PROGRAM = os.path.join(os.path.dirname(__file__), "standby_program.py")
PIPE_SIZE = 1 << 16  # bytes that fit into an empty pipe; with a longer launch spec a run is cold


class Standby:
    """At most one standby interpreter at a time."""

    def __init__(self):
        self.child = self.output = self.writer = self.channel = self.taken = self.stdin = None

    def prepare(self, recipe):
        """Starts one; nobody waits until it is ready. Where it cannot be started there is none."""
        self.dismiss()
        argv = [recipe["python"], PROGRAM, str(os.getpid()), *recipe["preload"]]
        theirs = []
        try:
            theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            self.output, self.writer = os.pipe()
            reader, self.channel = os.pipe()
            theirs.append(reader)
            self.taken, taken_writer = os.pipe()
            theirs.append(taken_writer)
            for fd in (self.output, self.channel, self.taken):
                os.set_blocking(fd, False)
            nothing, *channel = theirs  # the channel is 3 and 4 there
            fds = (nothing, self.writer, self.writer, *channel)
            self.child = spawn(argv, recipe["env"], recipe["cwd"], fds)
        except OSError:  # the venv or the folder is gone: the next run says so; or the machine's
            self.dismiss()
        finally:
            for fd in theirs:
                close(fd)

    def become(self, spec, stdin):
        """Hands the spec to the interpreter: (its pid, both ends of the pipe of its output). None
        when there is none that could take it; OSError when the folder of the run is gone."""
        if self.child is None:
            return None
        has_stdin = spec.get("stdin") is not None
        try:
            os.chdir(spec["cwd"])
            os.chdir("/")
        except OSError:
            self.dismiss()
            raise
        if has_stdin:
            self.stdin = os.dup(stdin)  # stays open, since the interpreter opens it by its path
        path = f"/proc/{os.getpid()}/fd/{self.stdin}" if has_stdin else None
        message = marshal.dumps([spec["argv"], spec["env"], spec["cwd"], path], 2)
        has_ended = os.waitpid(self.child, os.WNOHANG)[0] != 0  # by a module that exits, say
        if has_ended or len(message) > PIPE_SIZE or (has_stdin and not os.path.exists(path)):
            self.dismiss(has_ended)
            return None
        mark_others(descendants())
        if not self.send(message):
            self.dismiss()
            return None
        found = self.child, self.output, self.writer
        self.child = self.output = self.writer = None
        return found

    def send(self, message):
        """Whether the whole message is in the pipe; nobody waits for the interpreter to read it."""
        try:
            is_sent = os.write(self.channel, message) == len(message)
        except BrokenPipeError:  # it has just ended, which `was_used` will tell
            is_sent = True
        except BlockingIOError:
            is_sent = False
        close(self.channel)
        self.channel = None
        return is_sent

    def was_used(self):
        """Whether the interpreter that `become` handed the spec took it; asked when it ended."""
        try:
            return bool(os.read(self.taken, 1))
        except BlockingIOError:  # a process that a module started holds the pipe
            return False

    def dismiss(self, has_ended=False):
        """Ends an interpreter that waits, or imports still, with what its modules started."""
        for fd in (self.output, self.writer, self.channel, self.taken, self.stdin):
            if fd is not None:
                close(fd)
        deadline = time.monotonic() + 1
        while self.child is not None and time.monotonic() < deadline:
            for pid in descendants() or ([] if has_ended else [self.child]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:  # it has ended
                    pass
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:  # nothing is left
                break
            time.sleep(0.001)
        self.child = self.output = self.writer = self.channel = self.taken = self.stdin = None
