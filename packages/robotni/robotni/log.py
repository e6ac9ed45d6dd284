"""Every log line of robotni: one function for each event, and the two formats, text and JSON.

An event is one line on stderr: `event job=<id> facts`; in JSON each fact is a field. A line holds
ids, numbers and names that robotni chose; never an environment, a token, an argument or a path of a
request, which could forge a second line. A line of another library (uvicorn, Huey, warnings) has
one fact, its message. A traceback is indented in text and one field in JSON.

Only a process that robotni has to itself calls `set_up`; an app that mounts robotni keeps its own
logging.
"""

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import Any, Dict, Optional

TEXT, JSON = "text", "json"
# Loggers that may have handlers of their own before robotni sets up its logging.
_SERVER_LOGGERS = ("uvicorn", "uvicorn.access", "huey")
_logger = logging.getLogger("robotni")


def submitted(job_id: str, job_type: str, status: str) -> None:
    _log(logging.INFO, "submitted", job=job_id, type=job_type, status=status)


def started(job_id: str, run: int, attempt: int) -> None:
    _log(logging.INFO, "started", job=job_id, run=run, attempt=attempt)


def ended(job_id: str, run: int, transition: str, error_code: Optional[str]) -> None:
    _log(logging.INFO, "ended", job=job_id, run=run, by=transition, error=error_code or "none")


def end_ignored(job_id: str, run: int) -> None:
    _log(logging.INFO, "end ignored", "the run had ended already", job=job_id, run=run)


def adopted(job_id: str, run: int) -> None:
    _log(logging.INFO, "adopted", "its shim is alive", job=job_id, run=run)


def released(job_id: str, run: int, reason: str) -> None:
    _log(logging.WARNING, "released", f"it never started: {reason}", job=job_id, run=run)


def processes_left(job_id: str, run: int) -> None:
    note = "some of its processes could not be killed"
    _log(logging.ERROR, "processes left", note, job=job_id, run=run)


def cancel_requested(job_id: str, status: str) -> None:
    _log(logging.INFO, "cancel", job=job_id, status=status)


def flushed(pending: int, scheduled: int) -> None:
    _log(logging.INFO, "flushed", pending=pending, scheduled=scheduled)


def recovered(runs: int) -> None:
    if runs:
        _log(logging.INFO, "recovered", runs=runs)


def expired(jobs: int) -> None:
    if jobs:
        _log(logging.INFO, "expired", jobs=jobs)


def cleaned(jobs: int, day: str) -> None:
    _log(logging.INFO, "cleaned", jobs=jobs, day=day)


def message_dropped() -> None:
    _log(logging.WARNING, "message dropped", "a row of Huey's table that Huey did not write")


def fifo_replaced(name: str) -> None:
    note = "it had been removed or replaced while this process listened to it; made again"
    _log(logging.WARNING, "fifo replaced", note, name=name)


def failed(what: str, job_id: str = "none") -> None:
    """An unexpected error, with the traceback of the exception that is being handled."""
    _log(logging.ERROR, f"failed {what}", traceback=True, job=job_id)


def serving(url: str, project_folder: str, data_dir: str) -> None:
    _log(logging.INFO, "serving", url=url, project_folder=project_folder, data_dir=data_dir)


def stopped(running: int) -> None:
    _log(logging.INFO, "stopped", running=running)


def worker(event: str, pid: int) -> None:
    _log(logging.INFO, f"worker {event}", pid=pid)


def worker_died(exit_code: int, pause: float) -> None:
    note = "next try after the pause, in seconds; see worker.log"
    _log(logging.ERROR, "worker died at start", note, exit_code=exit_code, pause=pause)


def _log(level: int, event: str, note: str = "", traceback: bool = False, **facts: Any) -> None:
    words = [event, *(f"{name}={value}" for name, value in facts.items()), note]
    if note:
        facts["note"] = note
    extra = {"event": event, "facts": facts}
    _logger.log(level, "%s", " ".join(filter(None, words)), exc_info=traceback, extra=extra)


class TextFormatter(logging.Formatter):
    """`time LEVEL event job=<id> facts`; the lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """`{"ts", "level", "event", …}`; lines of other libraries have the event `log`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: Dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
        }
        other_library = {"logger": record.name, "message": record.getMessage()}
        line.update(getattr(record, "facts", other_library))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(log_format: str) -> None:
    """Sends the log lines of this process to stderr; those of other libraries from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == JSON else TextFormatter())
    logging.getLogger().handlers = [handler]
    _logger.setLevel(logging.INFO)
    logging.captureWarnings(log_format == JSON)
    logging.getLogger("uvicorn.access").addFilter(_without_query)
    for name in _SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = not logger.handlers  # or each line would be written twice
        for own_handler in logger.handlers if log_format == JSON else ():
            own_handler.setFormatter(handler.formatter)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _without_query(record: logging.LogRecord) -> bool:
    """A logging filter that cuts the query off the path of an access line: it may hold a token."""
    if isinstance(record.args, tuple):
        record.args = tuple(a.split("?")[0] if isinstance(a, str) else a for a in record.args)
    return True


def _log_uncaught(*exception: Any) -> None:
    logging.getLogger().critical("an exception ended the process", exc_info=exception)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    exception = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    logging.getLogger().error("an exception ended a thread", exc_info=exception)
