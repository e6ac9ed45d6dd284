"""The shim: parent of the scripts of one slot, which it runs one after another.

It promises, also when worker and web server are gone: the script is stopped at its deadline or
when `cancel` appears; its output costs constant memory and at most the cap on disk; whatever it
leaves behind, in sessions of its own too, is ended; and `started` and `exit.json` tell, durably,
what happened. It knows nothing of jobs, queues or HTTP: standard library only, any CPython from
3.8, and it is run by path: `python shim.py FD`. With `python shim.py FD FOLDER MODULE…`, by the
interpreter of a venv, it is warm: it forks scripts instead of spawning them (see `warm.py`).

Over FD come runs (length, JSON, and the descriptor of the run's lock), back goes a byte for each
ended run. EOF on FD means the worker is gone: finish the run at hand, then leave.
What a power cut may take is synced before anybody relies on it: output before the byte goes back,
the end itself only where no worker is left to store it. A lost `started` is told by the machine's
new boot (`datadir.py`). Cost of a run: no fsync without output, with output one and three of
folders.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # run by path: nothing beside this file may shadow the standard library
    LOADED = frozenset(sys.modules)  # what a new interpreter has
    MAIN = {name: value for name, value in globals().items() if name.startswith("__")}

import array
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import time

HEADER = struct.Struct("!I")
EXIT_ROOM = 2048  # bytes set aside for exit.json while there is room on the disk
DRAIN = 1 << 16
QUIET_GRACE = 1.0  # seconds what a script leaves behind has, after it ended by itself
GIVE_UP = 30.0  # seconds until what not even SIGKILL ends is left alone
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FULL = (errno.ENOSPC, errno.EDQUOT)
ENDED, NOT_BEGUN = b"!", b"?"


def controller():
    """`control(option, value)` sets what only Linux knows of a process."""
    if not sys.platform.startswith("linux"):
        return lambda option, value: None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda option, value: prctl(option, value, 0, 0, 0)


def mark():
    """Marks what is spawned from now on with a random soft RLIMIT_RTTIME; returns the mark.

    The limit (microseconds of real-time scheduling) concerns no ordinary process, survives exec,
    setsid and a cleaned environment, and can be read from outside in /proc/PID/limits.
    """
    limit = getattr(resource, "RLIMIT_RTTIME", None)
    if limit is None:
        return None
    value = (1 << 61) | (int.from_bytes(os.urandom(7), "big") << 4)
    try:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    except (OSError, ValueError):  # a hard limit below: no mark then
        return None
    return value


def receive(sock):
    """The next run as (dict, lock descriptor); None at EOF, also in the middle of a message."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(HEADER.size, socket.CMSG_SPACE(fds.itemsize), flags)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    data += read_exactly(sock, HEADER.size - len(data)) if data else b""
    if len(data) < HEADER.size or not fds:
        return None
    os.set_inheritable(fds[0], False)
    (size,) = HEADER.unpack(data)
    body = read_exactly(sock, size)
    return (json.loads(body), fds[0]) if len(body) == size else None


def read_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_file(path, data, flags=os.O_CREAT | os.O_EXCL):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def set_aside(path, size):
    """Takes room on the disk now, for what must be written when it may be full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b" " * size)
    finally:
        os.close(fd)


def sync(path):
    """Makes a file's contents, or a folder's names, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def oom_kills():
    """Processes the kernel ended so far for want of memory; 0 where it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:  # as text it would import modules, on 3.8
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def descendants():
    """Pids of every process below this one. Without /proc: none."""
    parents = {}
    try:
        entries = os.listdir("/proc")
    except OSError:
        return []
    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    stat = file.read()
            except OSError:  # gone since the listing
                continue
            parents.setdefault(int(stat[stat.rindex(b")") + 2 :].split()[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def spawner():
    """`start` of a cold shim: a new interpreter for each script."""
    import subprocess  # not at the top: a warm shim does without

    def spawn(order, stdin, output):
        child = subprocess.Popen(
            order["argv"],
            cwd=order["cwd"],
            env=order["env"],
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        child.returncode = 0  # reaped by the run, with all others: Popen need not wait for it
        return child.pid

    return spawn


class Forked(BaseException):
    """This process is the script's; what the shim has open is closed on the way up."""


class Run:
    """One run, from evidence to evidence. `start(order, stdin, output)` gives the script's pid."""

    def __init__(self, order, wake, start):
        self.order = order
        self.folder = order["folder"]
        self.wake = wake
        self.start = start
        self.child = None
        self.status = None
        self.total = self.kept = 0
        self.stopped_by = None
        self.spawn_error = None
        self.survived = False
        self.pipe = self.log = self.ring = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def execute(self):
        """Whether the run was begun; if not (a full disk), nothing has happened."""
        started_at = time.time()
        ooms = oom_kills()
        try:
            try:
                self.begin(started_at)
            except OSError:
                self.forget()
                return False
            if self.is_cancelled():
                self.stopped_by = "cancel"
            else:
                self.spawn()
            if self.child is not None:
                self.watch()
                self.clear()
                self.drain()
            self.finish(self.facts(started_at, ooms))
            return True
        finally:
            for fd in (self.pipe, self.log, self.ring):
                if fd is not None:
                    os.close(fd)

    def begin(self, now):
        """After this the run counts as started, whatever happens to us."""
        try:
            os.mkfifo(self.path("ring"), 0o600)
        except FileExistsError:
            pass
        self.ring = os.open(self.path("ring"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.log = os.open(self.path("output"), flags, 0o600)
        self.keep(self.order.get("note", "").encode("utf-8", "replace"))
        set_aside(self.path("exit.tmp"), EXIT_ROOM)
        evidence = {"startedAt": now, "shim": os.getpid(), "mark": mark()}
        write_file(self.path("started"), json.dumps(evidence).encode())

    def forget(self):
        try:
            os.unlink(self.path("started"))
        except FileNotFoundError:
            pass

    def is_cancelled(self):
        return os.path.exists(self.path("cancel"))

    def spawn(self):
        self.pipe, write_end = os.pipe()
        os.set_blocking(self.pipe, False)
        stdin = self.open_stdin()
        try:
            self.child = self.start(self.order, stdin, write_end)
            if self.child == 0:
                raise Forked(self.order)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            what, where = self.order["argv"][0], self.order["cwd"]
            self.spawn_error = f"{what} could not be started in {where}: {reason}."
        finally:
            os.close(write_end)
            os.close(stdin)

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
        kill_at = None
        while self.status is None:
            until = deadline if kill_at is None else kill_at
            self.wait(until - time.monotonic())
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                break
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
        """Collects the dead; whether any process is left below this one."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.status = status

    def wait(self, seconds):
        """Sleeps until there is output, a signal or a ring, at most `seconds`; takes it in."""
        fds = [fd for fd in (self.pipe, self.wake, self.ring) if fd is not None]
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

    def facts(self, started_at, ooms):
        code, number = exit_of(self.status)
        killed = number == signal.SIGKILL and self.stopped_by is None
        return {
            "startedAt": started_at,
            "finishedAt": time.time(),
            "exitCode": code,
            "signal": number,
            "stoppedBy": self.stopped_by,
            "spawnError": self.spawn_error and self.spawn_error[:1000],
            "outOfMemory": killed and oom_kills() > ooms,
            "outputBytes": self.total,
            "outputTruncated": self.total > self.kept,
        }

    def finish(self, facts):
        """Leaves word of the end. On a full disk it waits for room: losing it is worse."""
        text = json.dumps(facts).encode().ljust(EXIT_ROOM)
        while True:
            try:
                if self.kept:
                    os.fsync(self.log)
                    self.sync_folders()
                write_file(self.path("exit.tmp"), text, os.O_CREAT)
                os.rename(self.path("exit.tmp"), self.path("exit.json"))
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                time.sleep(1)

    def sync_folders(self):
        for folder in (self.folder, os.path.dirname(self.folder), self.order["jobs"]):
            sync(folder)

    def sync_end(self):
        """Nobody is there to store the end: it must survive a power cut by itself."""
        sync(self.path("exit.json"))
        self.sync_folders()


def exit_of(status):
    """(exit code, signal number) of a wait status; None, None when nothing ran."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def swallow(fd):
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def warm_up(worker, modules, control):
    """Imports the modules; the worker is told of it, or why not (then None is returned)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "warm.py")
    space = {"__name__": "warm", "__file__": path}
    with open(path, "rb") as file:  # by path: an import would look in the venv
        exec(compile(file.read(), path, "exec"), space)
    for name in set(sys.modules) - LOADED:
        del sys.modules[name]  # ours; a script shall find what a new interpreter has
    warm = space["Warm"](MAIN)
    control(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for an import then, however long
    if select.select([worker], [], [], 0)[0]:
        os._exit(0)  # the worker was quicker
    refused = warm.preload(modules)
    control(PR_SET_PDEATHSIG, 0)
    if refused is None and descendants():
        refused = "the preloaded modules start a process"
    if refused is not None:
        for pid in descendants():
            os.kill(pid, signal.SIGKILL)
    answer = json.dumps({"refused": refused, "files": warm.files()})
    try:
        worker.sendall(answer.encode() + b"\n")
    except OSError:  # the worker is gone
        os._exit(0)
    return warm if refused is None else None


def listen():
    """The descriptor to wake up by; what the handlers of signals were before."""
    wake, wake_writer = os.pipe()
    for fd in (wake, wake_writer):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    numbers = (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    # Only EOF and SIGKILL end a shim.
    return wake, {n: signal.signal(n, lambda number, frame: None) for n in numbers}


def serve(worker, wake, start):
    while True:
        message = receive(worker)
        if message is None:
            return
        order, lock = message
        run = Run(order, wake, start)
        begun = run.execute()
        os.close(lock)
        try:
            worker.send(ENDED if begun else NOT_BEGUN)
        except OSError:  # the worker is gone; the evidence is there
            if begun:
                run.sync_end()
            return
        if run.survived:
            return  # something not even SIGKILL ends: the next run gets a fresh shim


def main():
    """Runs until the worker is gone. In a fork of a warm shim: how to run the script."""
    control = controller()
    control(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the script come to this process, not to init
    worker = socket.socket(fileno=int(sys.argv[1]))
    worker.set_inheritable(False)
    if len(sys.argv) == 2:
        serve(worker, listen()[0], spawner())
        return None
    warm = warm_up(worker, sys.argv[3:], control)
    if warm is None:
        os._exit(0)
    wake, handlers = listen()
    try:
        serve(worker, wake, warm.fork)
    except Forked as forked:
        order = forked.args[0]
    else:
        os._exit(0)  # what the modules do at exit is for scripts
    worker.detach()
    return [warm.ended, *warm.script(order, handlers)]


def show_script_only():
    """The traceback of an uncaught exception shall begin with the script, as in a cold run."""
    hook = sys.excepthook

    def show(kind, value, trace):
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        hook(kind, value.with_traceback(trace), trace)

    sys.excepthook = show


if __name__ == "__main__":
    script = main()
    if script is not None:
        ended, run = script[:2]
        try:
            run(*script.pop())  # nobody else keeps what is the script's
            ended(None)
        except BaseException as error:  # the script's own; the interpreter treats it as any
            ended(error)
            show_script_only()
            raise
