"""What the output of a program says, as text: which exception ended it, and its last line.

Pure functions over the end of the output. They know the tracebacks of CPython and of `rich`; of
anything else the last line is quoted.
"""

import re
from typing import List, Optional

MAX_QUOTE = 300  # characters
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_GROUP = "  + Exception Group Traceback (most recent call last):"
_RICH = r"\u256d\u2500+ Traceback \(most recent call last\) \u2500+\u256e"  # the top of a box
_HEADER = re.compile(rf"Traceback \(most recent call last\):\Z|{re.escape(_GROUP)}\Z|{_RICH}\Z")
# A syntax error in the program itself has no header, only the place.
_PLACE = re.compile(r"  File \"[^\"]*\", line \d+\Z")
_IN_FRAME = (" ", "\t", "\u2502", "\u256d", "\u2570")  # the beginnings of the lines of frames
_EXCEPTION = re.compile(r"[^\W\d][\w.<>]*(:( .*)?)?\Z")
_MEMBER = re.compile(r" {4,}\| ([^\W\d][\w.<>]*(: .*)?)\Z")
_SUB_EXCEPTIONS = re.compile(r"\(\d+ sub-exceptions?\)\Z")
# The line before a traceback whose exception does not end the program.
_HARMLESS = re.compile(
    r"Exception ignored |Exception in thread |Error in atexit|Process [\w.-]+:\Z|future: <"
    r"|--- Logging error ---"
)


def quote(text: str, is_cut: bool = False) -> Optional[str]:
    """What to quote of output that ends with `text`: the exception of the last traceback, else the
    last line that is not blank; "" where all is blank. None where that line is not there as a
    whole: `is_cut` says that something precedes `text`."""
    lines = re.split(r"\r?\n", _ANSI.sub("", text))
    cut = lines.pop(0) if is_cut else ""
    found = exception_in(lines)
    if found is not None:
        return _as_quote(found)
    quotes = (_as_quote(line) for line in reversed(lines))
    last = next((line for line in quotes if line), "")
    return None if not last and cut else last


def _as_quote(line: str) -> str:
    return "".join(c for c in line.strip() if c.isprintable())[:MAX_QUOTE]


def exception_in(lines: List[str]) -> Optional[str]:
    """`ValueError: its text`, of the last traceback in the output; None where there is none.
    Exceptions that Python ignored, or that ended a thread, do not count."""
    found: Optional[str] = None
    is_harmless = False
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        if _HEADER.match(line):
            is_chained = number > 1 and lines[number - 2].startswith(_CHAINED)
            if not is_chained:
                is_harmless = _HARMLESS.match(before) is not None
        elif _PLACE.match(line) and not before.startswith(" "):
            is_harmless = False
        else:
            continue
        if not is_harmless:
            found = _exception_after(number, lines) or found
    return found


def _exception_after(header: int, lines: List[str]) -> Optional[str]:
    """The exception that stands below the frames of a traceback; None where it is missing."""
    prefix = "  | " if lines[header] == _GROUP else ""
    for number in range(header + 1, len(lines)):
        line = lines[number]
        if _HEADER.match(line):
            return None
        line = line[len(prefix) :] if line.startswith(prefix) else ""
        if line.startswith(_IN_FRAME) or not _EXCEPTION.match(line):
            continue
        rest = lines[number + 1 :]
        if prefix:
            return line + _first_member(rest)
        if line.rstrip().endswith(":"):  # its text begins with an empty line
            line = line.rstrip() + " " + next((text.strip() for text in rest if text.strip()), "")
        return line
    return None


def _first_member(lines: List[str]) -> str:
    """What to add to the name of an exception group: the first exception in it."""
    for line in lines:
        match = _MEMBER.match(line)
        if match and not _SUB_EXCEPTIONS.search(match[1]):
            return f", the first: {match[1]}"
    return ""


def left_out(count: int) -> bytes:
    """The line that stands in an output for `count` bytes that were not kept."""
    return b"\n[robotni: %d bytes of output are left out here]\n" % count
