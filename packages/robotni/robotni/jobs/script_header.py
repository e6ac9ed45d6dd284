"""The header of a script: its PEP 723 block, and in it the table `[tool.robotni]`.

It is read from the text of the script; nothing is run. A worker type must have the table. A script
of a user may have it, to ask for warm runs: `warm = true` and `preload = ["numpy"]`.
"""

import sys
from typing import Any, Dict, List, NamedTuple, Optional

from robotni.errors import FieldError, InvalidRequest
from robotni.jobs.request import MAX_PRELOAD, is_module_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_HEADER = 1 << 16  # bytes at the start of a script in which a header is looked for
MAX_BLOCK = 1 << 13  # characters; TOML of more can take seconds to parse
_START, _END = "# /// script", "# ///"


class WarmOptions(NamedTuple):
    """Whether a run uses a standby interpreter, and the modules which that imports ahead."""

    warm: bool
    preload: List[str]


def parse_block(text: str) -> Optional[Dict[str, Any]]:
    """The PEP 723 block of a script; None when it has none. Raises ValueError for wrong TOML."""
    toml = find_block(text)
    return None if toml is None else tomllib.loads(toml)


def find_block(text: str) -> Optional[str]:
    """The TOML between the first start line and the end line that belongs to it."""
    lines: Optional[List[str]] = None
    for line in text.split("\n") if _START in text else ():
        if lines is None:
            lines = [] if line == _START else None
        elif lines and line == _END:
            return "\n".join(lines)
        elif line == "#" or line.startswith("# "):
            lines.append(line[2:])
        else:
            lines = None
    return None


def parse_warm_options(text: str) -> WarmOptions:
    """The warm options in the header of a script. A header that is not valid TOML, or does not
    concern robotni, has none; a wrong value in `[tool.robotni]` raises InvalidRequest."""
    toml = find_block(text.replace("\r\n", "\n"))
    if toml is None or "robotni" not in toml:
        return WarmOptions(False, [])
    if len(toml) > MAX_BLOCK:
        if "[tool.robotni]" not in toml:
            return WarmOptions(False, [])
        detail = f"the script's header has over {MAX_BLOCK} characters; shorten it"
        raise InvalidRequest([FieldError("/script", detail)])
    try:
        table = tomllib.loads(toml)["tool"]["robotni"]
    except (KeyError, TypeError, ValueError, RecursionError):  # other tools report wrong TOML
        return WarmOptions(False, [])
    if not isinstance(table, dict):
        return WarmOptions(False, [])
    warm, preload = table.get("warm", False), table.get("preload", [])
    if not isinstance(warm, bool):
        raise _wrong_value("warm", "true or false")
    if not isinstance(preload, list) or len(preload) > MAX_PRELOAD:
        raise _wrong_value("preload", f"a list of at most {MAX_PRELOAD} module names")
    if not all(isinstance(name, str) and is_module_name(name) for name in preload):
        raise _wrong_value("preload", 'a list of module names, like ["numpy"]')
    return WarmOptions(warm, preload)


def _wrong_value(name: str, expected: str) -> InvalidRequest:
    detail = f"{name} in the script's header [tool.robotni] must be {expected}; correct it there"
    return InvalidRequest([FieldError("/script", detail)])
