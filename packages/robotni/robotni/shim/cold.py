"""The cold side of a shim: a new interpreter for each script."""

import subprocess


def spawn(order, stdin, output):
    """Starts a script; its pid."""
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
