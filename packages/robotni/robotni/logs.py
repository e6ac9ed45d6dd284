"""How log lines look: text or JSON, one event a line, on stderr.

Nothing here parses a line: `events.py` hands its facts over beside the text, and what others log
(uvicorn, Huey, a warning) is one fact, their message. A traceback is indented in text, so that
only an event begins at the start of a line, and one field in JSON. Only a process of robotni's own
is set up here; an app that robotni is mounted in keeps its logging.
"""

import json
import logging
import sys
import threading
import time
from datetime import datetime, timezone
from typing import Any, Optional

TEXT, JSON = "text", "json"
# Of servers that set up their own logging before ours: uvicorn by hand, huey_consumer.
_FOREIGN = ("uvicorn", "uvicorn.access", "huey")


class TextFormatter(logging.Formatter):
    """`time LEVEL event job=<id> facts`; what follows a line is indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(super().format(record).splitlines())

    def formatTime(self, record: logging.LogRecord, datefmt: Optional[str] = None) -> str:
        """As ever, but what lines of one second have in common is made once."""
        second, text = self._second
        if second != int(record.created):
            second = int(record.created)
            text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = (second, text)
        return f"{text},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """`{"ts", "level", "event", …}`; of others `event` is `log`, with `logger` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
        }
        line.update(getattr(record, "facts", None) or _said_by_others(record))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _said_by_others(record: logging.LogRecord) -> Any:
    return {"logger": record.name, "message": record.getMessage()}


def _without_query(record: logging.LogRecord) -> bool:
    """A token in the URL is refused; it shall not stay in a log either."""
    if isinstance(record.args, tuple):
        record.args = tuple(a.split("?")[0] if isinstance(a, str) else a for a in record.args)
    return True


def set_up(form: str) -> None:
    """Sends what this process logs to stderr in `form`; from others warnings and worse."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == JSON else TextFormatter())
    logging.getLogger().handlers = [handler]
    logging.getLogger("robotni").setLevel(logging.INFO)
    # What a line does not show, it needs not find out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(form == JSON)
    logging.getLogger("uvicorn.access").addFilter(_without_query)
    for name in _FOREIGN:
        log = logging.getLogger(name)
        log.propagate = not log.handlers  # else its lines come twice
        for theirs in log.handlers if form == JSON else ():
            theirs.setFormatter(handler.formatter)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread


def _log_uncaught(*exception: Any) -> None:
    logging.getLogger().critical("ended by an exception", exc_info=exception)


def _log_uncaught_of_thread(args: threading.ExceptHookArgs) -> None:
    exception = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    logging.getLogger().error("a thread ended by an exception", exc_info=exception)
