"""What a script says of itself: the table `[tool.robotni]` of its PEP 723 block.

Read without running anything. A worker type must have one; a script of a user may, to ask for warm
runs: `warm = true` and `preload = ["numpy"]`.
"""

import sys
from typing import Any, Dict, List, NamedTuple, Optional

from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.request import MAX_PRELOAD, is_module

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_HEADER = 1 << 16  # bytes of a script that are looked at
MAX_BLOCK = 1 << 13  # characters; with more, reading TOML can take seconds
_START, _END = "# /// script", "# ///"


class WarmOptions(NamedTuple):
    """Whether a run forks from a warm interpreter, and which modules that has imported."""

    warm: bool
    preload: List[str]


def block(text: str) -> Optional[Dict[str, Any]]:
    """The whole block; None when there is none, ValueError when it is no TOML."""
    found = block_text(text)
    return None if found is None else tomllib.loads(found)


def block_text(text: str) -> Optional[str]:
    """What stands, as comments, between the first start and the end that belongs to it."""
    found: Optional[List[str]] = None
    for line in text.split("\n") if _START in text else ():
        if found is None:
            found = [] if line == _START else None
        elif found and line == _END:
            return "\n".join(found)
        elif line == "#" or line.startswith("# "):
            found.append(line[2:])
        else:
            found = None
    return None


def warm_options(text: str) -> WarmOptions:
    """What the header of a script's source `text` asks for; InvalidRequest when that cannot be."""
    said = block_text(text.replace("\r\n", "\n"))
    if said is None or "robotni" not in said:
        return WarmOptions(False, [])
    if len(said) > MAX_BLOCK:
        if "[tool.robotni]" not in said:
            return WarmOptions(False, [])
        long = f"the script's header is over {MAX_BLOCK} characters; shorten it"
        raise InvalidRequest([FieldError("/script", long)])
    try:
        found = tomllib.loads(said)["tool"]["robotni"]
    except (KeyError, TypeError, ValueError, RecursionError):  # the rest is not ours to judge
        return WarmOptions(False, [])
    if not isinstance(found, dict):
        return WarmOptions(False, [])
    warm, preload = found.get("warm", False), found.get("preload", [])
    if not isinstance(warm, bool):
        raise _fault("warm", "true or false")
    if not isinstance(preload, list) or len(preload) > MAX_PRELOAD:
        raise _fault("preload", f"a list of at most {MAX_PRELOAD} module names")
    if not all(isinstance(name, str) and is_module(name) for name in preload):
        raise _fault("preload", 'module names, like ["numpy"]')
    return WarmOptions(warm, preload)


def _fault(name: str, wanted: str) -> InvalidRequest:
    detail = f"{name} in the script's header [tool.robotni] is something else than {wanted}"
    return InvalidRequest([FieldError("/script", f"{detail}; mend it there")])
