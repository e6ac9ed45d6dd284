"""A job's ticket as Huey's consumer reads it, written without Huey, which the web process so need
not import.

It carries a job id and nothing else, as JSON (pickle in a file is a door for code).
"""

import json
from datetime import datetime, timedelta
from typing import Optional

from robotni.storage.queue_table import Tickets

RUN_JOB = "robotni.run_job"
EXPIRES = 3600
FIELDS = frozenset(
    ("id", "name", "args", "kwargs", "eta", "retries", "retry_delay", "retry_backoff", "priority",
     "on_complete", "on_error", "expires", "expires_resolved", "timeout", "chord_config")
)  # fmt: skip


# Text, since all but two of its parts are always the same; both are hex digits and the like.
_TICKET = (
    f'{{{{"id": "{{0}}", "name": "{RUN_JOB}", "args": ["{{0}}"], "kwargs": {{{{}}}}, "retries": 0, '
    f'"retry_delay": 0, "expires": {EXPIRES}, "expires_resolved": "{{1}}"}}}}'
)


class JobTickets(Tickets):
    """Tickets for the task `run_job`."""

    def encode(self, job_id: str) -> bytes:
        until = datetime.now() + timedelta(seconds=EXPIRES)
        return _TICKET.format(job_id, until.isoformat()).encode()

    def decode(self, data: bytes) -> Optional[str]:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):  # no JSON, or nested without end
            return None
        if not isinstance(fields, dict) or not set(fields) <= FIELDS:
            return None
        args = fields.get("args")
        if fields.get("name") != RUN_JOB or not isinstance(args, list) or not args:
            return None
        return args[0] if isinstance(args[0], str) else None
