"""How long a picture shows what a recording took: waits are shortened, pages stay to be read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from .screen import Chapter, Frame, meaning

_REAL = 0.5
"""A wait up to this many seconds is shown as it was; a longer one grows with its logarithm."""
_PER_DOUBLING = 0.25
_LONGEST = 1.8
_TICK = 0.3
"""Seconds for which a reading of a running clock is shown."""
_READ_ROW = 0.28
_READ_LEAST = 4.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame, and for how many seconds of the picture it is seen."""

    frame: Frame
    seconds: float


def shorten(real: float) -> float:
    """Return for how many seconds a wait of so many real ones is shown."""
    if real <= _REAL:
        return real
    return min(_LONGEST, _REAL + _PER_DOUBLING * math.log2(real / _REAL))


def pace(chapter: Chapter) -> tuple[Shown, ...]:
    """The frames that are shown; of a running clock a few readings, of the end all of it."""
    shown: list[Shown] = []
    groups = [list(group) for _, group in groupby(chapter.frames, key=meaning)]
    ends = [group[0].at for group in groups[1:]] + [chapter.seconds]
    for group, end in zip(groups, ends, strict=True):
        seconds = shorten(end - group[0].at)
        readings = list(_readings(group, seconds))
        shown += (Shown(frame, seconds / len(readings)) for frame in readings)
    last = shown.pop()
    rows = len(last.frame.rows)
    return (*shown, Shown(last.frame, last.seconds + max(_READ_LEAST, _READ_ROW * rows)))


def _readings(group: list[Frame], seconds: float) -> Iterator[Frame]:
    """Some frames of a group, evenly parted; the first and the last of them always."""
    count = min(len(group), max(1, round(seconds / _TICK)))
    if count == 1:
        yield group[-1]
        return
    for number in range(count):
        yield group[round(number * (len(group) - 1) / (count - 1))]
