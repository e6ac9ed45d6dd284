"""Which exception a text of output names, and which line is quoted from it."""

import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from robotni.jobs.output import MAX_QUOTE, left_out, quote

TRACEBACK = "Traceback (most recent call last):\n"
FRAMES = '  File "/srv/a.py", line 1, in <module>\n    f()\n    ~^^\n'
FAILS = f"{TRACEBACK}{FRAMES}ValueError: cause\n"
HANDLED = "During handling of the above exception, another exception occurred:"
CAUSED = "The above exception was the direct cause of the following exception:"
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/a.py", line 1, in <module>
  |     asyncio.run(main())
  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/a.py", line 3, in bad
    |     raise KeyError("x")
    | KeyError: 'x'
    +---------------- 2 ----------------
    | RuntimeError: second
    +------------------------------------
"""
NESTED = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/a.py", line 1, in <module>
  | ExceptionGroup: outer (1 sub-exception)
  +-+---------------- 1 ----------------
    | ExceptionGroup: inner (1 sub-exception)
    +-+---------------- 1 ----------------
      | TypeError: 2
      +------------------------------------
"""
NO_HEADER = (
    """  File "/srv/a.py", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed\n"""
)
RICH = (
    "\u256d\u2500\u2500\u2500 Traceback (most recent call last) \u2500\u2500\u2500\u256e\n"
    "\u2502 /srv/a.py:1 in <module>              \u2502\n"
    "\u2570\u2500\u2500\u2500\u2500\u2500\u2500\u2500\u256f\nValueError: boxed\n"
)


@pytest.mark.parametrize(
    "text, quoted",
    [
        # the exception, whatever comes after it or before
        (FAILS, "ValueError: cause"),
        (f"{FAILS}bye\n", "ValueError: cause"),
        (f"96\n{FAILS}{'97' * 999}\n\n", "ValueError: cause"),
        (f"{TRACEBACK}{FRAMES}KeyError: 'first'\nretrying\n{FAILS}", "ValueError: cause"),
        (FAILS.replace("\n", "\r\n"), "ValueError: cause"),
        (FAILS.replace("ValueError", "\x1b[1;35mValueError\x1b[0m"), "ValueError: cause"),
        # kinds of exceptions
        (f"{TRACEBACK}{FRAMES}ValueError\nbye\n", "ValueError"),
        (f"{TRACEBACK}{FRAMES}a.b_c.Größe: ä\nbye\n", "a.b_c.Größe: ä"),
        (f"{TRACEBACK}{FRAMES}f.<locals>.E: hm\nbye\n", "f.<locals>.E: hm"),
        (f"{TRACEBACK}{FRAMES}ValueError: {'x' * 999}\n", f"ValueError: {'x' * 288}"),
        (f"{TRACEBACK}{FRAMES}ValueError: one\ntwo\n  three\n", "ValueError: one"),
        (f"{TRACEBACK}{FRAMES}ValueError: \n\n  two\nthree\n", "ValueError: two"),
        (f"{TRACEBACK}{FRAMES}ValueError:", "ValueError:"),
        (f"{TRACEBACK}{FRAMES}  [Previous line repeated 9 more times]\nE: deep\nbye", "E: deep"),
        # chains
        (f"{TRACEBACK}{FRAMES}KeyError: 1\n\n{HANDLED}\n\n{FAILS}bye\n", "ValueError: cause"),
        (f"{TRACEBACK}{FRAMES}KeyError: 1\n\n{CAUSED}\n\n{FAILS}bye\n", "ValueError: cause"),
        (f"RemoteTraceback: \n\"\"\"\n{FAILS}\"\"\"\n\n{CAUSED}\n\n{FAILS}", "ValueError: cause"),
        # syntax errors
        (f"{NO_HEADER}bye\n", "SyntaxError: '(' was never closed"),
        (f"{TRACEBACK}{FRAMES}{NO_HEADER}bye\n", "SyntaxError: '(' was never closed"),
        # groups
        (
            f"{GROUP}bye\n",
            "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions), "
            "the first: KeyError: 'x'",
        ),
        (NESTED, "ExceptionGroup: outer (1 sub-exception), the first: TypeError: 2"),
        (f"{FAILS}\n{CAUSED}\n\n{NESTED}{FAILS}", "ValueError: cause"),
        # what does not end a program
        (f"{FAILS}Exception ignored in: <f>\n{TRACEBACK}{FRAMES}OSError: 9\n", "ValueError: cause"),
        (f"{FAILS}Error in atexit._run_exitfuncs:\n{TRACEBACK}{FRAMES}OSError\n",
         "ValueError: cause"),
        (f"{FAILS}Exception in thread Thread-1 (f):\n{TRACEBACK}{FRAMES}OSError\n\n{HANDLED}\n\n"
         f"{TRACEBACK}{FRAMES}IndexError\n", "ValueError: cause"),
        (f"{FAILS}Process Pool-1:\n{TRACEBACK}{FRAMES}OSError\n", "ValueError: cause"),
        (f"Exception in thread T:\n{TRACEBACK}{FRAMES}OSError\nno config\n", "no config"),
        # other programs, and what is no traceback
        ("", ""),
        ("\n \n", ""),
        ("a\nerror: b is missing\n\n", "error: b is missing"),
        ("no newline", "no newline"),
        ("x" * 9000, "x" * MAX_QUOTE),
        (f"{RICH}bye\n", "ValueError: boxed"),
        ("he said: Traceback (most recent call last):\nKeyError: 1\nbye\n", "bye"),
        (f"{TRACEBACK}{FRAMES}", "~^^"),
        ("panicked at src/main.rs:2:5\n  note: run with RUST_BACKTRACE=1\n",
         "note: run with RUST_BACKTRACE=1"),
    ],
)  # fmt: skip
def test_the_exception_is_quoted_else_the_last_line(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    "text, quoted",
    [
        ("rest of a line", None),
        ("rest of a line\n", None),
        ("rest\nwhole\n", "whole"),
        (f"rest\n{FAILS}bye", "ValueError: cause"),
        (f"{TRACEBACK}{FRAMES}KeyError: 1\nbye", "bye"),  # perhaps that line has a beginning
        ("\n\n", ""),
    ],
)
def test_a_line_whose_beginning_is_missing_is_not_quoted(text: str, quoted: Optional[str]) -> None:
    assert quote(text, is_cut=True) == quoted


PROGRAMS = {
    "raise ValueError('cause')": "ValueError: cause",
    "import atexit; atexit.register(print, 'bye'); raise ValueError('cause')": "ValueError: cause",
    "import atexit; atexit.register(lambda: 1 / 0); raise ValueError('cause')": "ValueError: cause",
    "class A:\n def __del__(self): 1 / 0\na = A()\nraise ValueError('cause')": "ValueError: cause",
    "try: {}['k']\nexcept KeyError: raise ValueError('cause')": "ValueError: cause",
    "raise ValueError('cause\\nsecond line')": "ValueError: cause",
    "x = (1,\n  y z)": "SyntaxError: invalid syntax",
    "def f(): f()\nf()": "RecursionError: maximum recursion depth exceeded",
    "import sys; print('out'); sys.exit('no config given')": "no config given",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_this_python_prints_is_understood(tmp_path: Path, program: str) -> None:
    (tmp_path / "program.py").write_text(program)
    ended = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    said = quote(ended.stdout.decode())
    assert said is not None
    assert said.startswith(PROGRAMS[program])


def test_what_is_left_out_is_a_line_of_its_own() -> None:
    assert left_out(12) == b"\n[robotni: 12 bytes of output are left out here]\n"
