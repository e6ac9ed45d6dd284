"""How often the torture is repeated: a few rounds for each change, 50 in the long mode.

`make chaos` sets ROUNDS=50.
"""

import os


def rounds(few: int) -> int:
    """`few`, or what the environment's ROUNDS says."""
    return int(os.environ.get("ROUNDS", few))
