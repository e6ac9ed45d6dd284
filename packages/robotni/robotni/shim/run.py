"""One run: from the evidence of its start to the evidence of its end."""

import errno
import json
import os
import select
import signal
import time

from .cancel_fifo import drain
from .evidence import FULL, create, exit_of, oom_kills, remove, sync, write_padded
from .output import Output
from .processes import descendants, mark
from .spawn import spawn

# The machine, not the program, is at fault: the run is tried again.
MACHINE_ERRORS = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
PIPE_READ = 1 << 16  # bytes of output that are read at once
EXIT_GRACE = 1.0  # seconds that processes have which the program leaves behind when it ends
GIVE_UP_AFTER = 30.0  # seconds until processes that SIGKILL does not end are left alone


class Run:
    """One run of a launch spec `spec`. `wakeup` is readable after a signal."""

    def __init__(self, spec, wakeup, cancel_fifo, vmstat, standby):
        self.spec = spec
        self.folder = spec["folder"]
        self.wakeup = wakeup
        self.cancel_fifo = cancel_fifo
        self.vmstat = vmstat
        self.standby = standby
        self.child = self.status = None
        self.stopped_by = self.spawn_error = None
        self.has_survivors = self.is_alone = self.is_standby = False
        self.pipe = self.pipe_writer = self.stdin = self.output = self.evidence = None
        self.exit_json = b""

    def path(self, name):
        return f"{self.folder}/{name}"

    def start(self):
        """Leaves evidence of the start, then starts the program; False when the machine cannot (a
        full disk, no more processes or descriptors): then nothing has happened.

        From the evidence on the run counts as started, whatever happens to this process.
        """
        self.started_at = time.time()
        try:
            self.oom_kills_before = oom_kills(self.vmstat)
            self.prepare_files()
            self.start_program()
        except OSError:
            remove(self.path("started"))
            self.close()
            return False
        return True

    def prepare_files(self):
        self.cancel_fifo.link(self.path("cancel.fifo"))
        self.output = Output(self.folder, self.spec["maxOutput"])
        self.stdin = self.open_stdin()
        self.pipe, self.pipe_writer = os.pipe()
        evidence = {"startedAt": self.started_at, "shim": os.getpid()}
        evidence["mark"] = mark(self.spec["mark"])
        self.evidence = create(self.path("started"))
        write_padded(self.evidence, json.dumps(evidence).encode())

    def start_program(self):
        """Starts the program, unless the run is cancelled already."""
        if self.is_cancelled():
            self.stopped_by = "cancel"
            return
        drain(self.wakeup)  # signals of the run before
        try:
            standby = self.standby.become(self.spec, self.stdin)
            if standby is None:
                self.spawn()
            else:
                os.close(self.pipe)
                os.close(self.pipe_writer)
                self.child, self.pipe, self.pipe_writer = standby
                self.is_standby = True
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in MACHINE_ERRORS:
                raise
            self.spawn_error = self.describe(error)
        os.set_blocking(self.pipe, False)

    def spawn(self):
        fds = (self.stdin, self.pipe_writer, self.pipe_writer)
        self.child = spawn(self.spec["argv"], self.spec["env"], self.spec["cwd"], fds)

    def describe(self, error):
        reason = getattr(error, "strerror", None) or str(error)
        what, where = self.spec["argv"][0], self.spec["cwd"]
        return f"{what} could not be started in {where}: {reason}."[:1000]

    def start_cold(self):
        """After a standby interpreter that ended before it took its launch spec."""
        self.child = self.status = None
        self.is_standby = self.is_alone = False
        try:
            self.spawn()
        except (OSError, ValueError) as error:
            self.spawn_error = self.describe(error)

    def end(self):
        """Supervises the program to its end, and leaves evidence of that."""
        if self.child is not None:
            self.supervise()
            self.kill_descendants()
            self.drain_pipe()
        self.finish()
        self.close()

    def close(self):
        for fd in (self.pipe, self.pipe_writer, self.stdin, self.evidence):
            if fd is not None:
                os.close(fd)
        if self.output is not None:
            self.output.close()

    def open_stdin(self):
        text = self.spec.get("stdin")
        if text is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        fd = os.open(self.path("stdin"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.unlink(self.path("stdin"))  # the program keeps it open
        data = memoryview(text.encode("utf-8", "surrogatepass"))
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    # supervise

    def is_cancelled(self):
        return os.path.exists(self.path("cancel"))

    def supervise(self):
        """Reads output until the program has ended, by itself or because it was stopped."""
        deadline = time.monotonic() + self.spec["timeout"]
        kill_at = None
        while self.child is not None and self.status is None:
            self.wait((deadline if kill_at is None else kill_at) - time.monotonic())
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                if self.is_standby and self.stopped_by is None and not self.standby.was_used():
                    self.start_cold()
                    continue
                break
            if self.stopped_by is None and (self.is_cancelled() or now >= deadline):
                self.stopped_by = "cancel" if self.is_cancelled() else "timeout"
                self.send(signal.SIGTERM)
                kill_at = now + self.spec["grace"]
            elif kill_at is not None and now >= kill_at:
                self.send(signal.SIGKILL)
                kill_at = now + 0.05

    def kill_descendants(self):
        """Ends what the program left behind: SIGTERM, a moment, then SIGKILL until none is left."""
        if not self.reap():
            return
        self.send(signal.SIGTERM)
        grace_ends = time.monotonic() + min(self.spec["grace"], EXIT_GRACE)
        while self.reap() and time.monotonic() < grace_ends:
            self.wait(min(0.02, max(0.0, grace_ends - time.monotonic())))
        deadline = time.monotonic() + GIVE_UP_AFTER
        while self.reap():
            if time.monotonic() > deadline:
                self.has_survivors = True
                return
            self.send(signal.SIGKILL)
            self.wait(0.002)

    def send(self, number):
        """Signals every process below this one; where they cannot be listed, the group."""
        pids = descendants()
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # it ended, or is of another user
                pass
        if not pids:
            try:
                os.killpg(self.child, number)
            except (ProcessLookupError, PermissionError):  # it ended, or all in it are zombies
                pass

    def reap(self):
        """Collects children that have ended; whether any process is left below this one."""
        while not self.is_alone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True  # no process can come back to this one any more
                break
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status
        return False

    def wait(self, seconds):
        """Sleeps until there is output, a signal or a cancel, at most `seconds`; reads the
        output."""
        fds = [fd for fd in (self.pipe, self.wakeup, self.cancel_fifo.fd) if fd is not None]
        ready, _, _ = select.select(fds, [], [], max(0.0, min(seconds, 3600)))
        for fd in ready:
            if fd == self.pipe:
                self.read_pipe()
            else:
                drain(fd)

    # output

    def read_pipe(self):
        """One read of the pipe; False when there is nothing more to be read now."""
        try:
            data = os.read(self.pipe, PIPE_READ)
        except BlockingIOError:
            return False
        if not data:
            os.close(self.pipe)
            self.pipe = None
            return False
        self.output.keep(data)
        return True

    def drain_pipe(self):
        """Reads what is still in the pipe; does not wait for others that hold it open."""
        limit = self.output.written + (1 << 20)
        while self.pipe is not None and self.output.written < limit and self.read_pipe():
            pass

    # finish

    def exit_facts(self):
        code, number = exit_of(self.status)
        was_killed = number == signal.SIGKILL and self.stopped_by is None
        return {
            "startedAt": self.started_at,
            "finishedAt": time.time(),
            "exitCode": code,
            "signal": number,
            "stoppedBy": self.stopped_by,
            "spawnError": self.spawn_error,
            "outOfMemory": was_killed and oom_kills(self.vmstat) > self.oom_kills_before,
            "outputBytes": self.output.written,
            "outputTruncated": self.output.written > self.output.kept,
        }

    def finish(self):
        """Turns the evidence of the start into that of the end. On a full disk it waits for room:
        to lose the end would be worse."""
        self.exit_json = json.dumps(self.exit_facts()).encode()
        while True:
            try:
                if self.output.kept:
                    self.output.sync()
                    sync(*self.folders())
                write_padded(self.evidence, self.exit_json)
                os.rename(self.path("started"), self.path("exit.json"))
                return
            except OSError as error:
                if error.errno not in FULL:
                    return  # the script removed its folder; the answer to the worker says the rest
                time.sleep(1)

    def folders(self):
        return self.folder, os.path.dirname(self.folder), self.spec["jobs"]

    def sync_end(self):
        """Makes the evidence of the end durable: perhaps no worker has stored the end."""
        sync(self.path("exit.json"), *self.folders())
