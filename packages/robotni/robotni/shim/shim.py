"""What is run by path: `python shim.py FD` for a cold shim, `… FD FOLDER MODULE…` for a warm one.

Nothing beside this file may shadow the standard library, nor anything of the venv this package: so
its folder is taken off the path, and it gets a name that is found nowhere else. In the fork that
becomes a script the script is called from here, where no other frame is below it.
"""

import sys


def show_script_only():
    """The traceback of an uncaught exception shall begin with the script, as in a cold run."""
    hook = sys.excepthook

    def show(kind, value, trace):
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        hook(kind, value.with_traceback(trace), trace)

    sys.excepthook = show


if __name__ == "__main__":
    known = {*sys.modules, *sys.path_importer_cache} - {__file__}
    package = type(sys)("robotni's shim")
    package.__path__ = [sys.path.pop(0)]
    sys.modules[package.__name__] = package
    script = __import__(f"{package.__name__}.loop", fromlist=["main"]).main(known, globals())
    if script is not None:
        ended, run = script[:2]
        try:
            run(*script.pop())  # nobody else keeps what is the script's
            ended(None)
        except BaseException as error:  # the script's own; the interpreter treats it as any
            ended(error)
            show_script_only()
            raise
