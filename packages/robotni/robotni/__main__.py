"""`python -m robotni`, and the program of workers that the web process starts by path."""

import sys

if not __package__:
    del sys.path[0]  # run by path: the package's own folder is no place to import from

from robotni.cli.main import main

if __name__ == "__main__":
    main()
