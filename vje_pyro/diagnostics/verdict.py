"""What a check says, in words."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """What a check says.

    Args:
        flagged: Whether it found a fault, at the level that the check states.
        text: What was found; of a fault, what it means and what to do.
    """

    flagged: bool
    text: str
