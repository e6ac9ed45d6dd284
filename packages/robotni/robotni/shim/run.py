"""One run: from the evidence of its start to the evidence of its end."""

import errno
import json
import os
import select
import signal
import time

from .cancel_fifo import drain
from .evidence import FULL, close, create, exit_of, oom_kills, remove, sync, write_padded
from .output import Output
from .processes import descendants, mark
from .spawn import spawn

# The machine, not the program, is at fault: the run is tried again.
MACHINE_ERRORS = (
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EINTR),
    *FULL,
)
PIPE_READ = 1 << 16  # bytes of output that are read at once
EXIT_GRACE = 1.0  # seconds that processes have which the program leaves behind when it ends
LOOK_EVERY = 5.0  # seconds; a signal or a cancel whose wake-up failed is seen then
RETRY_AFTER = 0.01  # seconds after a system call that failed by the machine
TRIES = 3  # of a write that fails for another reason than a full disk
GIVE_UP_AFTER = 30.0  # seconds until processes that SIGKILL does not end are left alone
PROCESSES_LEFT = (
    b"robotni: some processes of this run did not end after SIGKILL, as they wait in the kernel, "
    b"say for a network file system; they hold no slot any more; make that answer, or restart the "
    b"machine\n"
)


def is_machine_error(error):
    return getattr(error, "errno", None) in MACHINE_ERRORS


class Run:
    """One run of a launch spec `spec`. `wakeup` is readable after a signal."""

    def __init__(self, spec, wakeup, cancel_fifo, vmstat, standby):
        self.spec = spec
        self.folder = spec["folder"]
        self.wakeup = wakeup
        self.cancel_fifo = cancel_fifo
        self.vmstat = vmstat
        self.standby = standby
        self.child = self.status = self.kill_at = None
        self.terminated = set()  # pids that have had SIGTERM
        self.stopped_by = self.spawn_error = None
        self.was_started = True
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
            self.take_back()
            return False
        return True

    def take_back(self):
        """Removes the evidence of a start that did not come to be."""
        self.persist(lambda: remove(self.path("started")))
        self.close()

    def prepare_files(self):
        self.cancel_fifo.link(self.path("cancel.fifo"))
        self.output = Output(self.folder, self.spec["maxOutput"])
        self.open_stdin()
        self.pipe, self.pipe_writer = os.pipe()
        os.set_blocking(self.pipe, False)
        evidence = {"startedAt": self.started_at, "shim": os.getpid()}
        evidence["mark"] = mark(self.spec["mark"])
        self.evidence = create(self.path("started"))
        write_padded(self.evidence, json.dumps(evidence).encode())

    def start_program(self):
        """Starts the program, unless the run is cancelled already. OSError says that the machine is
        at fault and nothing was started."""
        if self.is_cancelled():
            self.stopped_by = "cancel"
            return
        drain(self.wakeup)  # signals of the run before
        try:
            standby = self.standby.become(self.spec, self.stdin)
            if standby is None:
                self.spawn()
            else:
                close(self.pipe)
                close(self.pipe_writer)
                self.child, self.pipe, self.pipe_writer = standby
                self.is_standby = True
        except (OSError, ValueError) as error:
            if is_machine_error(error):
                raise
            self.spawn_error = self.describe(error)

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
            if is_machine_error(error):
                self.was_started = False
            else:
                self.spawn_error = self.describe(error)

    def end(self):
        """Supervises the program to its end, and leaves evidence of that; False when the machine
        could not start it after all."""
        if self.child is not None:
            self.supervise()
            self.end_tree()
            self.drain_pipe()
            if self.has_survivors:
                self.output.keep(PROCESSES_LEFT)
        if not self.was_started:
            self.take_back()
            return False
        self.finish()
        self.close()
        return True

    def close(self):
        for fd in (self.pipe, self.pipe_writer, self.stdin, self.evidence):
            if fd is not None:
                close(fd)
        if self.output is not None:
            self.output.close()

    def open_stdin(self):
        text = self.spec.get("stdin")
        if text is None:
            self.stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self.stdin = os.open(self.path("stdin"), flags, 0o600)
        os.unlink(self.path("stdin"))  # the program keeps it open
        data = memoryview(text.encode("utf-8", "surrogatepass"))
        while data:
            data = data[os.write(self.stdin, data) :]
        os.lseek(self.stdin, 0, os.SEEK_SET)

    # supervise

    def is_cancelled(self):
        return os.path.exists(self.path("cancel"))

    def supervise(self):
        """Reads output until the program has ended, by itself or because it was stopped, or until
        the grace of a stopped one is over."""
        deadline = time.monotonic() + self.spec["timeout"]
        while self.child is not None and self.status is None:
            until = deadline if self.kill_at is None else self.kill_at
            self.wait(until - time.monotonic())
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                if self.is_standby and self.stopped_by is None and not self.standby.was_used():
                    self.start_cold()
            elif self.stopped_by is None and (self.is_cancelled() or now >= deadline):
                self.stopped_by = "cancel" if self.is_cancelled() else "timeout"
                self.kill_at = now + self.spec["grace"]
                self.terminate()
            elif self.kill_at is not None and now >= self.kill_at:
                return

    def end_tree(self):
        """Ends what is left: SIGTERM for those that have not had it, what remains of the grace,
        then SIGKILL until none is left."""
        if not self.reap():
            return
        if self.kill_at is None:
            self.kill_at = time.monotonic() + min(self.spec["grace"], EXIT_GRACE)
        self.terminate()
        while self.reap() and time.monotonic() < self.kill_at:
            self.wait(self.kill_at - time.monotonic())
        deadline = time.monotonic() + GIVE_UP_AFTER
        while self.reap():
            if time.monotonic() > deadline:
                self.has_survivors = True
                return
            self.send(signal.SIGKILL)
            self.wait(0.002)

    def terminate(self):
        """Sends SIGTERM, once to each process of the tree."""
        self.terminated.update(self.send(signal.SIGTERM, self.terminated))

    def send(self, number, skip=()):
        """Signals every process below this one but those in `skip`; where they cannot be listed,
        the group. Returns their pids."""
        pids = descendants()
        for pid in pids:
            if pid not in skip:
                try:
                    os.kill(pid, number)
                except (ProcessLookupError, PermissionError):  # it ended, or is of another user
                    pass
        if not pids and self.child not in (None, *skip):
            try:
                os.killpg(self.child, number)
            except (ProcessLookupError, PermissionError):  # it ended, or all in it are zombies
                pass
        return pids or [self.child]

    def reap(self):
        """Collects children that have ended; whether any process is left below this one."""
        while not self.is_alone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True  # no process can come back to this one any more
                break
            except OSError:
                time.sleep(RETRY_AFTER)
                continue
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status
        return False

    def wait(self, seconds):
        """Sleeps until there is output, a signal or a cancel, at most `seconds`; reads the
        output."""
        fds = [fd for fd in (self.pipe, self.wakeup, self.cancel_fifo.fd) if fd is not None]
        try:
            ready, _, _ = select.select(fds, [], [], max(0.0, min(seconds, LOOK_EVERY)))
        except OSError:
            time.sleep(RETRY_AFTER)
            return
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
        except OSError:
            time.sleep(RETRY_AFTER)
            return False
        if not data:
            close(self.pipe)
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
            "processesLeft": self.has_survivors,
        }

    def finish(self):
        """Turns the evidence of the start into that of the end."""
        self.exit_json = json.dumps(self.exit_facts()).encode()
        if self.output.kept:
            self.persist(self.sync_output)
        self.persist(self.write_end)

    def sync_output(self):
        self.output.sync()
        sync(*self.folders())

    def write_end(self):
        write_padded(self.evidence, self.exit_json)
        os.rename(self.path("started"), self.path("exit.json"))

    def persist(self, write):
        """On a full disk it waits for room: to lose the end would be worse. After other errors it
        tries again, TRIES in all; then the script has removed its folder, or the disk is broken,
        and the answer to the worker has to do."""
        tries = TRIES
        while tries:
            try:
                write()
                return
            except OSError as error:
                is_full = error.errno in FULL
            tries -= not is_full
            time.sleep(1 if is_full else RETRY_AFTER)

    def folders(self):
        return self.folder, os.path.dirname(self.folder), self.spec["jobs"]

    def sync_end(self):
        """Makes the evidence of the end durable: perhaps no worker has stored the end."""
        self.persist(lambda: sync(self.path("exit.json"), *self.folders()))
