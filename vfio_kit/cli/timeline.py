"""The steps of a command as bars on one time axis, for people."""

from collections.abc import Sequence
from dataclasses import dataclass

_LABEL = 40
_LEAST_BAR = 10
_NUMBER = 9
"""Columns of ` 1234.5 s`."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step that was done; begin: in seconds since the command began."""

    what: str
    begin: float
    seconds: float


def timeline(steps: Sequence[StepTime], width: int) -> list[str]:
    """A line for each step, in the order of their beginning; none of it is wider than `width`."""
    end = max((step.begin + step.seconds for step in steps), default=0.0)
    if end <= 0:
        return []
    label = min(_LABEL, max(len(step.what) for step in steps))
    room = max(_LEAST_BAR, width - label - _NUMBER - 4)
    lines = []
    for step in sorted(steps, key=lambda step: step.begin):
        at = min(room - 1, int(step.begin / end * room))
        long = min(room - at, max(1, round(step.seconds / end * room)))
        bar = " " * at + "█" * long
        lines.append(
            f"  {_short(step.what, label)}  {bar:<{room}}{step.seconds:{_NUMBER - 2}.1f} s"
        )
    return lines


def _short(text: str, length: int) -> str:
    return text.ljust(length) if len(text) <= length else f"{text[: length - 1]}…"
