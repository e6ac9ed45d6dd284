"""The warm side of a shim: modules are imported once, then each script is a fork.

A script shall not notice. In its own process it finds the `__main__`, the arguments, environment,
folder, streams, signals and random numbers that a new interpreter would have given it, and it ends
as one does. What needs a new interpreter all the same (a script that does not
compile, a zip file) gets one by exec. `DIFFERENCES` in `interpreters.py` says what stays apart.
"""

import _signal as signal  # what `signal` is made of, without making enums of all in a mask
import gc
import os
import select
import sys
import time

from .codes import Codes, stamp
from .ending import Ending
from .inside import close_all, descriptors, has_threads
from .rehearsal import Pages, Rehearsal
from .renewal import add_to_environ, new_streams, renew_environ, renew_randomness
from .standby import Fork, Standby
from .tree import mark

SETTLED = 0.03  # seconds without an order, after which a fork is made ahead
STREAMS = ("stdin", "stdout", "stderr")


class Warm:
    """An interpreter with its modules. `space` is its `__main__`, before a script runs."""

    def __init__(self, space):
        self.main = {name: value for name, value in space.items() if name.startswith("__")}
        self.codes = Codes()
        self.found = self.last = self.standby = self.pages = None
        self.opened = self.handlers = {}
        self.ending = Ending()
        self.coerced = os.environ.get("LC_CTYPE")

    # the shim's side

    def preload(self, modules):
        """Imports them; a sentence when no script may be forked from what came of it."""
        if sys.implementation.name != "cpython" or sys.version_info < (3, 8):
            return "the venv's Python is no CPython from 3.8"
        if has_threads():
            return "the venv's Python starts a thread, which a fork would lose"
        before = descriptors()
        for name in modules:
            try:
                __import__(name)
            except BaseException as error:  # whatever a module may raise
                return f"importing {name} failed ({type(error).__name__}: {error})"[:500]
            if has_threads():
                return f"importing {name} starts a thread, which a fork would lose"
        self.opened = {fd: of for fd, of in descriptors().items() if fd not in before}
        self.top = max(descriptors())
        streams = list(zip(STREAMS, new_streams()))
        self.streams = {**dict(streams), **{f"__{name}__": stream for name, stream in streams}}
        self.ending.spare(*map(sys.__dict__.get, STREAMS))
        self.ending.is_of(sys.modules.items(), self.streams)
        self.environ = list(os.environ.items())
        gc.collect()
        gc.freeze()  # so that a collection in a script copies no page of these
        return None

    def files(self):
        """What the modules came from, less the standard library: path and stamp."""
        library = os.path.dirname(os.__file__) + os.sep
        found = {}
        for module in list(sys.modules.values()):
            path = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(path, str) and (not path.startswith(library) or "-packages" in path):
                try:
                    found[path] = stamp(os.stat(path))
                except OSError:  # in a zip file, say
                    pass
        return found

    def stand_by(self, worker):
        """Makes a fork ahead, unless there is one, or an order on its way. In the fork: its order,
        once that has come."""
        if self.standby is not None or select.select([worker], [], [], SETTLED)[0]:
            return None
        if self.last is not None:
            self.compiled(self.last)  # what ran last may run next
        try:
            return self.rehearse() if self.pages is None else self.make_standby()
        except OSError:  # no more processes; the next run may find one
            return None

    def rehearse(self):
        rehearsal = Rehearsal()
        if rehearsal.pid:
            self.pages = Pages(rehearsal.pages())
            return self.make_standby()
        self.ending.rehearse(rehearsal.tell)
        self.prepare()
        self.found = None, None
        return {"argv": [sys.executable, os.devnull], "env": {**dict(self.environ), "X": ""}}

    def make_standby(self):
        self.standby = Standby()
        if self.standby.pid:
            return None
        self.prepare()
        self.pages.copy()
        order = self.standby.wait()
        self.found = self.compiled(order["argv"])
        self.standby.unblock()
        return order

    def mark(self):
        """What the next script carries."""
        return mark() if self.standby is None else self.standby.mark

    def start(self, order, stdin, output):
        """Has a fork become the script: its pid, and 0 in one that is made for it."""
        self.last = order["argv"]
        pid = None
        os.chdir(order["cwd"])
        try:
            standby, self.standby = self.standby, None
            if standby is not None and standby.hand(order, stdin, output):
                pid = standby.pid
            else:
                pid = self.fork(stdin, output)
        finally:
            if pid != 0:
                os.chdir("/")
        return pid

    def fork(self, stdin, output):
        self.found = self.compiled(self.last)
        fork = Fork()
        if fork.pid == 0:
            fork.take(stdin, output)
            self.prepare()
            fork.unblock()
        return fork.pid

    def compiled(self, argv):
        """The code of the script and its folder, as far as they are known."""
        return (None, None) if argv[1] == "-m" else self.codes.get(argv[1])

    def close(self):
        if self.standby is not None:
            self.standby.dismiss()

    # the script's side

    def prepare(self):
        """Makes this process what a new interpreter would be, as far as all scripts have it so."""
        close_all(self.opened, self.top)
        signal.set_wakeup_fd(-1)
        for number, handler in self.handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        sys.__dict__.update(self.streams)
        renew_randomness()
        if "threading" in sys.modules:
            sys.modules["threading"].main_thread()._set_native_id()

    def script(self, order):
        """And as far as this one has it so; [what to call, its arguments]."""
        gc.freeze()  # what the shim has made since it is none of the script's, or its collections'
        argv = order["argv"]
        self.renew_environ(order["env"])
        if self.coerced is not None:  # by the interpreter, at its start in the C locale
            os.environ.setdefault("LC_CTYPE", self.coerced)
        time.tzset()
        call = self.module(argv) if argv[1] == "-m" else self.file(argv)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = list(argv)
        self.codes.clear()
        return call

    def renew_environ(self, env):
        """Most runs have the interpreter's own variables, and then some."""
        begin = len(self.environ)
        variables = list(env.items())
        if variables[:begin] == self.environ:
            add_to_environ(variables[begin:])
        else:
            renew_environ(variables)

    def module(self, argv):
        import runpy

        self.renew_main(None)
        sys.argv = ["-m", *argv[3:]]
        sys.path.insert(0, os.getcwd())
        return [runpy._run_module_as_main, (argv[2],)]

    def file(self, argv):
        path = argv[1]
        code, folder = self.found
        code = code or self.compile_or_exec(argv)
        self.found = None
        sys.argv = argv[1:]
        sys.path.insert(0, folder or os.path.dirname(os.path.realpath(path)))
        sys.path_importer_cache[path] = None
        return [exec, (code, self.renew_main(path))]

    def compile_or_exec(self, argv):
        try:
            with open(argv[1], "rb") as file:
                return compile(file.read(), argv[1], "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError, MemoryError, RecursionError):
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as a new process has them
                signal.signal(number, signal.SIG_DFL)
            os.execve(argv[0], argv, os.environ)

    def renew_main(self, path):
        """A fresh `__main__`; gives its dictionary."""
        main = type(sys)("__main__")
        space = main.__dict__
        space.update(self.main)
        space.update(__doc__=None, __file__=path)
        space["__loader__"] = type(space["__loader__"])("__main__", path)
        if "__annotations__" in space:
            space["__annotations__"] = {}
        if path is None:
            del space["__file__"]
        sys.modules["__main__"] = main
        return space
