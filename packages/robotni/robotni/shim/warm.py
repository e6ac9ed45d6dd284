"""The warm side of a shim: modules are imported once, then each script is a fork.

A script shall not notice. In its own process it finds the `__main__`, the arguments, environment,
folder, streams, signals and random numbers that a new interpreter would have given it, and it ends
as one does. What needs a new interpreter all the same (a script that does not
compile, a zip file) gets one by exec. `DIFFERENCES` in `interpreters.py` says what stays apart.
"""

import _signal as signal  # what `signal` is made of, without making enums of all in a mask
import atexit
import ctypes
import gc
import os
import sys
import time

from .codes import Codes, stamp
from .inside import close_all, descriptors, has_threads, tasks
from .renewal import add_to_environ, new_streams, renew_environ, renew_randomness

ALL = signal.valid_signals()
UNFLUSHED = 120  # how an interpreter ends that cannot write its last output
STREAMS = ("stdin", "stdout", "stderr")


class Last:
    """What `sys` loses last, when nothing of a script is left: the process ends then.

    As after the end of an interpreter, by `exit` of the C library; but the interpreter, which is
    in the shim still, is not taken apart.
    """

    exit = ctypes.PyDLL(None).exit  # what a library does then may still need the interpreter

    def __init__(self, code, output):
        self.code = code
        self.output = output

    def __del__(self):
        for stream in self.output:
            flushed(stream)
        self.exit(self.code)


def flushed(stream):
    """Whether what was written is on its way; of what is closed it is, of what is detached not."""
    try:
        if stream.closed:
            return True
    except ValueError:  # it is detached
        pass
    try:
        stream.flush()
    except Exception:  # whatever a buffer of the script's may raise
        return False
    return True


def is_plain(pair):
    """Whether this entry of `sys.modules` can be set aside at the end of a script."""
    name, module = pair
    return type(module) is type(sys) and name not in ("__main__", "builtins", "sys")


class Warm:
    """An interpreter with its modules. `space` is its `__main__`, before a script runs."""

    def __init__(self, space):
        self.main = {name: value for name, value in space.items() if name.startswith("__")}
        self.codes = Codes()
        self.code = None
        self.opened = {}
        self.spared = []
        self.spared.append(self.spared)  # a circle that, once frozen, nothing frees
        atexit.register(self.end)  # the first to be registered is the last to be called
        self.exit_code = None
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
        self.loaded = frozenset(filter(is_plain, sys.modules.items()))
        self.spare(*map(sys.__dict__.get, STREAMS))
        streams = list(zip(STREAMS, new_streams()))
        self.streams = {**dict(streams), **{f"__{name}__": stream for name, stream in streams}}
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

    def fork(self, order, stdin, output):
        """Starts a script: its pid, and 0 in the process that is to become it."""
        path = order["argv"][1]
        self.code, self.folder = (None, None) if path == "-m" else self.codes.get(path)
        os.chdir(order["cwd"])
        # A signal that comes before the child has its own handlers must wait, not be swallowed.
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        try:
            child = os.fork()
        except OSError:  # no more processes
            self.unblock()
            os.chdir("/")
            raise
        if child == 0:
            os.setsid()
            for fd, number in ((stdin, 0), (output, 1), (output, 2)):
                os.dup2(fd, number)
            return 0
        self.unblock()
        os.chdir("/")
        return child

    def ended(self, error):
        """Takes note how the script ended: None, or what it raised."""
        if error is None or (isinstance(error, SystemExit) and error.code is None):
            self.exit_code = 0
        elif isinstance(error, SystemExit):
            plain = isinstance(error.code, int) and 0 <= error.code < 256
            self.exit_code = int(error.code) if plain else None
        elif not isinstance(error, KeyboardInterrupt):  # that ends by a signal
            own_hook = sys.excepthook is not sys.__excepthook__  # it may leave with another code
            self.exit_code = None if own_hook else 1

    def spare(self, *things):
        """Keeps them from being taken apart, which copies their pages."""
        self.spared += things

    def end(self):
        """Keeps preloaded modules and interpreter from being taken apart at the end of a script.

        That would copy most of their pages, and cost more than most scripts. What the script has
        made is taken apart as ever. In odd cases the interpreter goes the whole way.
        Names and modules are moved in pairs: whoever touches one of them copies a page.
        """
        modules, own = sys.modules, []
        while modules:
            pair = modules.popitem()
            try:
                (self.spared if pair in self.loaded else own).append(pair)
            except TypeError:  # something without a hash
                own.append(pair)
        modules.update(reversed(own))
        streams = self.streams
        plain = sys.stdout is streams["stdout"] and sys.stderr is streams["stderr"]
        if self.exit_code is not None and plain and tasks() == 1:
            output = (sys.stdout, sys.stderr)
            all_flushed = [flushed(stream) for stream in output] == [True, True]
            sys.last = Last(self.exit_code if all_flushed else UNFLUSHED, output)

    def unblock(self):
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    # the script's side

    def script(self, order, handlers):
        """Makes this process what a new interpreter would be; [what to call, its arguments]."""
        gc.freeze()  # what the shim has made since it is none of the script's, or its collections'
        argv = order["argv"]
        close_all(self.opened, self.top)
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        self.unblock()
        self.renew_environ(order["env"])
        if self.coerced is not None:  # by the interpreter, at its start in the C locale
            os.environ.setdefault("LC_CTYPE", self.coerced)
        time.tzset()
        sys.__dict__.update(self.streams)
        renew_randomness()
        if "threading" in sys.modules:
            sys.modules["threading"].main_thread()._set_native_id()
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
        code = self.code or self.compile_or_exec(argv)
        self.code = None
        sys.argv = argv[1:]
        sys.path.insert(0, self.folder or os.path.dirname(os.path.realpath(path)))
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
