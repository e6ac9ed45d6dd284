"""What a script says of itself: the table `[tool.robotni]` of its PEP 723 block.

Read without running anything. A worker type must have one; a script of a user may, to ask for warm
runs: `warm = true` and `preload = ["numpy"]`.
"""

import re
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from robotni import regular
from robotni.errors import FieldError, InvalidRequest
from robotni.request import MAX_PRELOAD, is_module

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_HEADER = 1 << 16  # bytes of a script that are looked at
_START = "# /// script"
_BLOCK = re.compile(r"(?m)^# /// script$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///$")


class Warmth(NamedTuple):
    """Whether a run forks from a warm interpreter, and which modules that has imported."""

    warm: bool
    preload: List[str]


def block(text: str) -> Optional[Dict[str, Any]]:
    """The whole block; None when there is none, ValueError when it is no TOML."""
    match = _BLOCK.search(text) if _START in text else None
    if match is None:
        return None
    body = "\n".join(line[2:] for line in match["body"].splitlines())
    return tomllib.loads(body)


def warmth(script: str) -> Warmth:
    """What the header of a script asks for; InvalidRequest when that cannot be."""
    try:
        text = (regular.beginning(script, MAX_HEADER) or b"").decode("utf-8", "replace")
        found = (block(text.replace("\r\n", "\n")) or {})["tool"]["robotni"]
    except (KeyError, TypeError, ValueError):  # it asks for nothing; the rest is not ours to judge
        return Warmth(False, [])
    if not isinstance(found, dict):
        return Warmth(False, [])
    warm, preload = found.get("warm", False), found.get("preload", [])
    if not isinstance(warm, bool):
        raise _fault("warm", "true or false")
    if not isinstance(preload, list) or len(preload) > MAX_PRELOAD:
        raise _fault("preload", f"a list of at most {MAX_PRELOAD} module names")
    if not all(isinstance(name, str) and is_module(name) for name in preload):
        raise _fault("preload", 'module names, like ["numpy"]')
    return Warmth(warm, preload)


def _fault(name: str, wanted: str) -> InvalidRequest:
    detail = f"{name} in the script's header [tool.robotni] is something else than {wanted}"
    return InvalidRequest([FieldError("/script", f"{detail}; mend it there")])
