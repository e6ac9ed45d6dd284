"""Starts a program in a session of its own."""

import os
import signal
import subprocess

RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them; a program that it starts should not


def spawn(argv, env, cwd, fds):
    """The pid of a new process; `fds` says which descriptors it has as 0, 1, 2, …."""
    os.chdir(cwd)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
        return os.posix_spawn(
            argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=RESET
        )
    except NotImplementedError:  # a C library that cannot start sessions; fork is slower
        return fork(argv, env, fds)
    finally:
        try:
            os.chdir("/")
        except OSError:  # no reason to say that nothing was started
            pass


def fork(argv, env, fds):
    child = subprocess.Popen(
        argv, env=env, stdin=fds[0], stdout=fds[1], stderr=fds[2], start_new_session=True
    )
    child.returncode = 0  # the shim collects all children itself
    return child.pid
