"""The shim: supervises the programs of one slot, one after another.

It promises, also when worker and web process are gone: a program is stopped at its deadline or when
the file `cancel` appears; its output costs constant memory and at most the cap on disk; whatever it
leaves behind is killed, in sessions of its own too; and `started` and `exit.json` tell durably what
happened. It knows nothing of jobs, queues or HTTP. Standard library only, any CPython from 3.8, run
by path: `python shim.py FD`.

Over the socket FD come launch specs, each with the descriptor of its run's lock; back goes an
answer for each run that ended. End of file means that the worker is gone: finish the run, then end.
What a power cut may take is synced before anybody relies on it: output before the answer, the
evidence of the end only where no worker is left to store it. These modules import each other
relatively, since in a shim their package has another name.
"""
