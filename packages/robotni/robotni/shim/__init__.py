"""The shim: parent of the scripts of one slot, which it runs one after another.

It promises, also when worker and web server are gone: the script is stopped at its deadline or
when `cancel` appears; its output costs constant memory and at most the cap on disk; whatever it
leaves behind, in sessions of its own too, is ended; and `started` and `exit.json` tell, durably,
what happened. It knows nothing of jobs, queues or HTTP: standard library only, any CPython from
3.8, and it is run by path: `python shim/shim.py FD`. With `python shim/shim.py FD FOLDER MODULE…`,
by the interpreter of a venv, it is warm: it forks scripts instead of spawning them.

Over FD come runs (length, JSON, and the descriptor of the run's lock), back goes a byte for each
ended run, and what its evidence says. EOF on FD means the worker is gone: finish the run at hand,
then leave.
What a power cut may take is synced before anybody relies on it: output before the byte goes back,
the end itself only where no worker is left to store it. A lost `started` is told by the machine's
new boot (`datadir.py`). Cost of a run: no fsync without output, with output one and three of
folders.

These modules import each other relatively, since in a shim their package has another name.
"""
