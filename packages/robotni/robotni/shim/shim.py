"""The program of a shim: `python shim.py FD`.

Run by path, it finds the modules beside it as a package under a name of its own, and takes their
folder off the path, so that they never stand in for modules of the standard library.
"""

import sys

if __name__ == "__main__":
    package = type(sys)("robotni_shim")
    package.__path__ = [sys.path.pop(0)]
    sys.modules[package.__name__] = package
    __import__(f"{package.__name__}.loop", fromlist=["main"]).main(int(sys.argv[1]))
