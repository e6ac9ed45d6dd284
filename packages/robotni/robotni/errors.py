"""Everything robotni refuses or fails at, each with a code that never changes.

    RobotniError
    ├── InvalidRequest      the request itself is wrong; names each wrong field
    ├── NotFound            no such job, output or page
    ├── Conflict            the job is in a state that forbids this
    ├── QueueFull           MAX_PENDING jobs wait already
    ├── StorageFull         the disk has no room for another job
    ├── SettingsError       a wrong setting; one line for each
    ├── DataDirError        the data directory cannot be used
    ├── Refused             the guard does not serve this Host or Origin  (seen by clients)
    ├── TokenRequired       the token is missing or wrong                 (seen by clients)
    └── Unreachable         nobody answers at the URL                     (seen by clients)
        └── AnswerLost      it was asked, but its answer did not arrive   (seen by clients)

`api.py` maps codes to HTTP and `client.py` maps them back. A message says how to mend it.
"""

from typing import List, NamedTuple, Sequence


class FieldError(NamedTuple):
    """One wrong field: a JSON pointer into the request and a sentence."""

    pointer: str
    detail: str


class RobotniError(Exception):
    """Base of all; `str(error)` is a sentence a person can act on."""

    code = "internal_error"


class InvalidRequest(RobotniError):
    """The request is wrong; `errors` names every field that is."""

    code = "invalid_request"

    def __init__(self, errors: Sequence[FieldError], detail: str = "") -> None:
        self.errors: List[FieldError] = list(errors)
        super().__init__(detail or "; ".join(e.detail for e in self.errors))


class NotFound(RobotniError):
    code = "not_found"


class Conflict(RobotniError):
    code = "conflict"


class QueueFull(RobotniError):
    code = "queue_full"


class StorageFull(RobotniError):
    code = "storage_full"


class SettingsError(RobotniError):
    """Wrong settings; `lines` holds one sentence for each."""

    code = "settings_error"

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines: List[str] = list(lines)
        super().__init__("\n".join(self.lines))


class DataDirError(RobotniError):
    code = "data_dir_error"


class Refused(RobotniError):
    code = "refused"


class TokenRequired(RobotniError):
    code = "token_required"


class Unreachable(RobotniError):
    code = "unreachable"


class AnswerLost(Unreachable):
    """What was asked may have been done."""

    code = "answer_lost"
