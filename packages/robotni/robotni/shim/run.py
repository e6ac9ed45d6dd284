"""One run, from the evidence of its start to that of its end."""

import errno
import json
import os
import select
import signal
import time

from .cancel_fifo import swallow
from .evidence import (
    EXIT_ROOM,
    FULL,
    create,
    exit_of,
    is_at,
    oom_kills,
    open_up,
    remove,
    sync,
    write_padded,
)
from .processes import descendants, mark
from .slices import SHORT_RUN, shorten

DRAIN = 1 << 16
encode = json.JSONEncoder().encode
QUIET_GRACE = 1.0  # seconds what a script leaves behind has, after it ended by itself
GIVE_UP = 30.0  # seconds until what not even SIGKILL ends is left alone


class Run:
    """One run, from evidence to evidence. `start(order, stdin, output)` gives the script's pid."""

    def __init__(self, order, wake, ring, vmstat, start):
        self.order = order
        self.folder = order["folder"]
        self.wake = wake
        self.ring = ring
        self.vmstat = vmstat
        self.start = start
        self.child = None
        self.status = None
        self.total = self.kept = 0
        self.stopped_by = None
        self.spawn_error = None
        self.survived = self.is_alone = False
        self.pipe = self.log = self.evidence = None
        self.word = b""  # what the evidence of the end says, for workers that know of it

    @property
    def is_fork(self):
        """Whether this process is to become the script."""
        return self.child == 0

    def path(self, name):
        return f"{self.folder}/{name}"

    def begin(self):
        """Whether the run counts as started, whatever happens to us; if not (a full disk), nothing
        has happened."""
        self.started_at = time.time()
        self.ooms = oom_kills(self.vmstat)
        try:
            self.leave_word()
        except OSError:
            self.forget()
            self.close()
            return False
        return True

    def leave_word(self):
        self.ring.hang(self.path("ring"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.log = os.open(self.path("output"), flags, 0o600)
        self.keep(self.order.get("note", "").encode("utf-8", "replace"))
        evidence = {"startedAt": self.started_at, "shim": os.getpid()}
        evidence["mark"] = mark(self.order.get("mark"))  # an older worker names none
        self.evidence = create(self.path("started"))
        write_padded(self.evidence, encode(evidence).encode())

    def forget(self):
        remove(self.path("started"))

    def is_cancelled(self):
        return os.path.exists(self.path("cancel"))

    def spawn(self):
        """Starts the script, unless it is cancelled already. A warm shim comes back twice."""
        if self.is_cancelled():
            self.stopped_by = "cancel"
            return
        swallow(self.wake)  # of the run before
        self.pipe, write_end = os.pipe()
        os.set_blocking(self.pipe, False)
        stdin = self.open_stdin()
        try:
            self.child = self.start(self.order, stdin, write_end)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            what, where = self.order["argv"][0], self.order["cwd"]
            self.spawn_error = f"{what} could not be started in {where}: {reason}."
        if not self.is_fork:  # that closes all
            os.close(write_end)
            os.close(stdin)

    def end(self):
        """From the start of the script, if there was one, to the evidence of its end."""
        if self.child is not None:
            self.watch()
            self.clear()
            self.drain()
        self.finish(encode(self.facts()).encode())
        self.close()

    def close(self):
        for fd in (self.pipe, self.log, self.evidence):
            if fd is not None:
                os.close(fd)

    def open_stdin(self):
        text = self.order.get("stdin")
        if text is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        fd = os.open(self.path("stdin"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.unlink(self.path("stdin"))  # the script alone keeps it
        data = memoryview(text.encode("utf-8", "surrogatepass"))
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def watch(self):
        """Pumps output until the script has ended, by itself or because it was told to."""
        deadline = time.monotonic() + self.order["timeout"]
        kill_at, long_at = None, time.monotonic() + SHORT_RUN
        while self.status is None:
            until = deadline if kill_at is None else kill_at
            self.wait(min(until, long_at) - time.monotonic())
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                break
            if now >= long_at:
                shorten()
                long_at = float("inf")
            if self.stopped_by is None and (self.is_cancelled() or now >= deadline):
                self.stopped_by = "cancel" if self.is_cancelled() else "timeout"
                self.send(signal.SIGTERM)
                kill_at = now + self.order["grace"]
            elif kill_at is not None and now >= kill_at:
                self.send(signal.SIGKILL)
                kill_at = now + 0.05

    def clear(self):
        """Ends what the script left behind: SIGTERM, a moment, SIGKILL until nothing is left."""
        self.grant_grace()
        give_up = time.monotonic() + GIVE_UP
        while self.reap():
            if time.monotonic() > give_up:
                self.survived = True
                return
            self.send(signal.SIGKILL)
            self.wait(0.002)

    def grant_grace(self):
        if not self.reap():
            return
        self.send(signal.SIGTERM)
        grace = min(self.order["grace"], QUIET_GRACE)
        patience = time.monotonic() + grace
        while self.reap() and time.monotonic() < patience:
            self.wait(min(0.02, max(0.0, patience - time.monotonic())))

    def send(self, number):
        """Signals everything below this process; where that cannot be seen, the group."""
        pids = descendants()
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # gone, or of another user
                pass
        if not pids:
            try:
                os.killpg(self.child, number)
            except (ProcessLookupError, PermissionError):  # gone, or nothing but zombies
                pass

    def reap(self):
        """Collects the dead; whether any process is left below this one. Once there is none, none
        can come back to it."""
        while not self.is_alone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True
                break
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status
        return False

    def wait(self, seconds):
        """Sleeps until there is output, a signal or a ring, at most `seconds`; takes it in."""
        fds = [fd for fd in (self.pipe, self.wake, self.ring.fd) if fd is not None]
        ready, _, _ = select.select(fds, [], [], max(0.0, min(seconds, 3600)))
        for fd in ready:
            if fd == self.pipe:
                self.pump()
            else:
                swallow(fd)

    def pump(self):
        """One read of the pipe; False when there is nothing more to be had now."""
        try:
            data = os.read(self.pipe, DRAIN)
        except BlockingIOError:
            return False
        if not data:
            os.close(self.pipe)
            self.pipe = None
            return False
        self.keep(data)
        return True

    def keep(self, data):
        """Counts output, and writes to the log what the cap and the disk allow."""
        self.total += len(data)
        keep = data[: max(0, self.order["maxOutput"] - self.kept)]
        while keep:
            try:
                written = os.write(self.log, keep)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                break  # count on, keep nothing
            self.kept += written
            keep = keep[written:]

    def drain(self):
        """What is still in the pipe; whoever else holds it is not waited for."""
        limit = self.total + (1 << 20)
        while self.pipe is not None and self.total < limit and self.pump():
            pass

    def facts(self):
        code, number = exit_of(self.status)
        killed = number == signal.SIGKILL and self.stopped_by is None
        return {
            "startedAt": self.started_at,
            "finishedAt": time.time(),
            "exitCode": code,
            "signal": number,
            "stoppedBy": self.stopped_by,
            "spawnError": self.spawn_error and self.spawn_error[:1000],
            "outOfMemory": killed and oom_kills(self.vmstat) > self.ooms,
            "outputBytes": self.total,
            "outputTruncated": self.total > self.kept,
        }

    def finish(self, text):
        """Leaves word of the end. On a full disk it waits for room: losing it is worse."""
        is_open = False
        while True:
            try:
                if self.kept:
                    os.fsync(self.log)
                    sync(*self.folders())
                write_padded(self.evidence, text)
                os.ftruncate(self.evidence, max(len(text), EXIT_ROOM))  # a script may write there
                self.publish(text)
                self.word = text if self.order.get("tellEnd") else b""
                return
            except OSError as error:
                if error.errno in FULL:
                    time.sleep(1)
                elif error.errno == errno.EACCES and not is_open:
                    is_open = True
                    self.open_up()
                else:
                    return  # the script's doing; the worker is told that it has begun

    def open_up(self):
        try:
            open_up(os.path.dirname(self.folder), self.folder)
        except OSError:  # not ours: the next try says so
            pass

    def publish(self, text):
        """Gives the evidence of the end its name, also where the script has put something else in
        its place, or nothing."""
        if not is_at(self.evidence, self.path("started")):
            os.makedirs(self.folder, 0o700, exist_ok=True)
            remove(self.path("started"))
            anew = create(self.path("started"))
            os.close(self.evidence)
            self.evidence = anew
            write_padded(self.evidence, text)
        os.rename(self.path("started"), self.path("exit.json"))

    def folders(self):
        return self.folder, os.path.dirname(self.folder), self.order["jobs"]

    def sync_end(self):
        """Perhaps nobody has stored the end: it must survive a power cut by itself. Where it has
        been stored, and cleaned up since, there is nothing to sync."""
        try:
            sync(self.path("exit.json"), *self.folders())
        except PermissionError:  # closed by the script
            self.open_up()
            sync(*self.folders())
