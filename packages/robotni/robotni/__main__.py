"""`python -m robotni`. The web process starts a worker by the path of this file."""

import sys

if not __package__:
    del sys.path[0]  # started by path: nothing in the package's own folder may hide a module

from robotni.cli.main import main

if __name__ == "__main__":
    main()
