"""How many examples hypothesis draws: few on every change, many where everything is run."""

import os

FACTOR = int(os.environ.get("VFIO_KIT_EXAMPLES", "1"))
"""`scripts/test --all` has 10."""


def few(number: int) -> int:
    """For `max_examples`: as many on every change, that many times as many with the factor."""
    return number * FACTOR
