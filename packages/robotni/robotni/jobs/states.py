"""The six states of a job and the one table of transitions between them.

A transition has a verb, the states it may start from, and the state it leads to. The storage
applies it as one guarded UPDATE, so that one of several competing transitions wins. A terminal
state never changes. A state says where a job is; why it failed is its error code, and those are
here, too. No other module spells out a state or a code.
"""

from typing import Dict, FrozenSet, Tuple

SCHEDULED, PENDING, RUNNING = "scheduled", "pending", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
STATES = (SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)
TERMINAL: FrozenSet[str] = frozenset((COMPLETED, FAILED, CANCELLED))
WAITING: FrozenSet[str] = frozenset((SCHEDULED, PENDING))

# verb -> (states it may start from, state it leads to)
TRANSITIONS: Dict[str, Tuple[FrozenSet[str], str]] = {
    "due": (frozenset((SCHEDULED,)), PENDING),
    "claim": (frozenset((PENDING,)), RUNNING),
    "release": (frozenset((RUNNING,)), PENDING),  # the run has certainly not started
    "requeue": (frozenset((RUNNING,)), PENDING),  # another attempt, now
    "postpone": (frozenset((RUNNING,)), SCHEDULED),  # another attempt, later
    "complete": (frozenset((RUNNING,)), COMPLETED),
    "fail": (frozenset((RUNNING,)), FAILED),
    "abort": (frozenset((RUNNING,)), CANCELLED),  # a cancelled run has ended
    "request_cancel": (frozenset((RUNNING,)), RUNNING),
    "cancel": (WAITING, CANCELLED),
    "expire": (frozenset((PENDING,)), FAILED),
}

EXIT_NONZERO, SIGNALLED, TIMEOUT = "exit_nonzero", "signalled", "timeout"
OUT_OF_MEMORY, SPAWN_FAILED, LOST, EXPIRED = "out_of_memory", "spawn_failed", "lost", "expired"
RESULT_INVALID = "result_invalid"
