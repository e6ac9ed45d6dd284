"""How the process of a warm script ends: as an interpreter does, whose modules stay as they are."""

import atexit
import ctypes
import sys

from .inside import tasks

UNFLUSHED = 120  # how an interpreter ends that cannot write its last output


class Last:
    """What `sys` loses last, when nothing of a script is left: the process ends then.

    As after the end of an interpreter, by `exit` of the C library; but the interpreter, which is
    in the shim still, is not taken apart.
    """

    exit = ctypes.PyDLL(None).exit  # what a library does then may still need the interpreter

    def __init__(self, code, output, last_word):
        self.code = code
        self.output = output
        self.last_word = last_word

    def __del__(self):
        for stream in self.output:
            flushed(stream)
        if self.last_word is not None:
            self.last_word()
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


class Ending:
    """The end of a script; `end` is called by the interpreter, after what the script has asked for
    its exit."""

    def __init__(self):
        self.spared = []
        self.spared.append(self.spared)  # a circle that, once frozen, nothing frees
        self.exit_code = self.last_word = None
        atexit.register(self.end)  # the first to be registered is the last to be called

    def is_of(self, modules, streams):
        """Those of the shim, and those that a script begins with."""
        self.loaded = frozenset(filter(is_plain, modules))
        self.streams = streams

    def rehearse(self, last_word):
        """Nothing that a module has asked for its exit: that is for scripts."""
        atexit._clear()
        atexit.register(self.end)
        self.last_word = last_word

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
            code = self.exit_code if all_flushed else UNFLUSHED
            sys.last = Last(code, output, self.last_word)
