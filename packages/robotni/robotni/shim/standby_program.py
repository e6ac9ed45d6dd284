"""`python standby_program.py PPID MODULE…`: imports the modules, then becomes the run whose launch
spec comes by descriptor 3.

The script runs as `python SCRIPT` runs it, by the interpreter's own function. Where that would not
be the same as a cold start (`-m`, a file beside the script that has the name of a loaded module, a
module or the venv changed since), this process becomes a new interpreter by exec. It dies with the
shim as long as it has no run.
"""

import sys

CHANNEL, TAKEN = 3, 4  # descriptors: the launch spec comes by one, the answer goes by the other
PR_SET_PDEATHSIG = 1


def prepare(parent, modules):
    """Waits for the launch spec; what to call to run its script, and the arguments of that."""
    import os

    names, folders = {*sys.modules}, {*sys.path_importer_cache}
    import ctypes

    for name in {*sys.modules} - names:  # it is not the script's
        del sys.modules[name]
    for name in {*sys.path_importer_cache} - folders:
        del sys.path_importer_cache[name]
    libc = ctypes.CDLL(None)
    die_with_parent(libc, os, parent)
    for fd in (CHANNEL, TAKEN):
        os.set_inheritable(fd, False)
    coerced = os.environ.get("LC_CTYPE")
    for name in modules:
        try:
            __import__(name)
        except BaseException:  # the script meets the same error when it imports the module
            pass
    freeze(names)
    top_level = {name.partition(".")[0] for name in {*sys.modules} - names}
    before = stamps(os)
    argv, env, cwd, stdin = receive(os)
    if sys.platform.startswith("linux"):
        libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    enter(os, env, cwd, stdin, coerced)
    file = None
    is_same = not is_shadowed(os, argv[1], top_level) and stamps(os) == before
    if argv[1] != "-m" and is_same and not is_zip_file(argv[1]):
        libc.fopen.restype = ctypes.c_void_p
        file = libc.fopen(os.fsencode(argv[1]), b"rbe")
    if not file:
        os.execve(argv[0], argv, os.environ)
    enter_main(os, argv)
    call = ctypes.pythonapi.PyRun_SimpleFileExFlags
    return call, (ctypes.c_void_p(file), os.fsencode(argv[1]), 1, None)


def die_with_parent(libc, os, parent):
    if sys.platform.startswith("linux"):
        libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    if os.getppid() != parent:  # it died before that was said
        os._exit(0)


def freeze(names):
    """Keeps what is loaded out of collections: to take it apart at the end takes 0.1 to 0.4 s."""
    import gc

    gc.collect()
    gc.freeze()
    if "gc" not in names:
        sys.modules.pop("gc", None)


def receive(os):
    """[argv, environment, folder, path of stdin or None]; the shim closes the pipe behind it, or
    without sending anything to let this process go."""
    import marshal

    data = b""
    while True:
        part = os.read(CHANNEL, 1 << 20)
        if not part:
            break
        data += part
    if not data:
        os._exit(0)
    os.write(TAKEN, b"!")
    for fd in (CHANNEL, TAKEN):
        os.close(fd)
    return marshal.loads(data)


def enter(os, env, cwd, stdin, coerced):
    """Takes on the environment, folder and stdin of the run."""
    import time

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if coerced is not None:  # the interpreter sets it at its start in the C locale
        os.environ.setdefault("LC_CTYPE", coerced)
    time.tzset()
    if stdin is not None:
        opened = os.open(stdin, os.O_RDONLY)
        os.dup2(opened, 0)
        os.close(opened)


def is_shadowed(os, script, top_level):
    """Whether a file beside the script has the name of a module that is loaded already."""
    try:
        beside = os.listdir(os.path.dirname(os.path.realpath(script)))
    except OSError:
        return True
    return bool({name.partition(".")[0] for name in beside} & top_level)


def is_zip_file(path):
    import zipimport  # the interpreter has it

    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


def stamps(os):
    """What changes when a module outside the standard library, or the venv, changes."""
    library = os.path.dirname(os.__file__) + os.sep
    paths = {sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")}
    paths.update(path for path in sys.path if path.startswith(sys.prefix))
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str) and (not path.startswith(library) or "-packages" in path):
            paths.add(path)
    found = {}
    for path in paths:
        try:
            status = os.stat(path)
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            pass
    return found


def enter_main(os, argv):
    """A fresh `__main__`, arguments and path, as `python SCRIPT` has them."""
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = list(argv)
    sys.argv = argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.realpath(argv[1])))
    sys.path_importer_cache[argv[1]] = None
    module = type(sys)("__main__")
    module.__builtins__ = __builtins__
    module.__loader__ = __loader__
    if "__annotations__" in globals():
        module.__annotations__ = {}
    old = sys.modules["__main__"]
    for name, loaded in list(sys.modules.items()):
        if loaded is old:  # also `__mp_main__` of multiprocessing
            sys.modules[name] = module


if __name__ == "__main__":
    for path in (sys.path.pop(0), __file__):
        sys.path_importer_cache.pop(path, None)
    call, arguments = prepare(int(sys.argv[1]), sys.argv[2:])
    if call(*arguments):
        sys.excepthook = lambda *error: None  # the traceback is printed already
        raise KeyboardInterrupt if sys.last_type is KeyboardInterrupt else SystemExit(1)
