"""The errors of robotni: one tree, and for each class a `code` that never changes.

    RobotniError            internal_error
    ├── InvalidRequest      invalid_request    the request is wrong; `errors` names each field
    ├── NotFound            not_found          there is no such job, output or page
    ├── Conflict            conflict           the state of the job forbids the call
    ├── QueueFull           queue_full         MAX_PENDING jobs are waiting already
    ├── StorageFull         storage_full       the disk is full
    ├── DatabaseReplaced    database_replaced  robotni.db was removed or replaced while it is open
    ├── MachineFault        machine_fault      the machine lacks descriptors, memory or a device
    ├── SettingsError       settings_error     a setting is wrong; one line for each
    ├── DataDirError        data_dir_error     the data directory cannot be used
    ├── Refused             refused            the server forbids the call (raised by clients)
    ├── TokenRequired       token_required     the token is missing or wrong (raised by clients)
    └── Unreachable         unreachable        the server does not answer (raised by clients)
        └── AnswerLost      answer_lost        the call was sent, its answer lost (by clients)

`web/problems.py` maps each code to an HTTP status; `client/transport.py` maps the code of an answer
back to its class. The message of an error says what is wrong and what to do about it.
"""

from typing import List, NamedTuple, Sequence


class FieldError(NamedTuple):
    """One wrong field. `pointer` is a JSON pointer into the request, `detail` a sentence."""

    pointer: str
    detail: str


class RobotniError(Exception):
    """Base class of all; `str(error)` is a sentence for a person."""

    code = "internal_error"


class InvalidRequest(RobotniError):
    """`errors` has an entry for each wrong field; it is empty when no single field is to blame."""

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


class DatabaseReplaced(RobotniError):
    code = "database_replaced"


class MachineFault(RobotniError):
    """Nothing is wrong with the request; the same one may succeed later."""

    code = "machine_fault"


class SettingsError(RobotniError):
    """`lines` has one sentence for each wrong setting."""

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
    """The server may or may not have done what was asked."""

    code = "answer_lost"
