"""What a long command did, with its times: said while it works, summed up at its end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vfio_kit.cli import console

if TYPE_CHECKING:
    from vfio_kit.cli.live_line import Running, Shown

_LONGEST = 3
"""Steps that are named at the end."""
_WORTH = 0.05
"""Part of the whole from which a step is worth a word."""
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


class _Pages:
    """So many pages of so many; see live_line.Shown."""

    def __init__(self, look: Callable[[], tuple[int, int]]) -> None:
        self._look = look

    def words(self) -> str:
        return "{} of {} pages".format(*self._look())

    def part(self) -> float | None:
        have, total = self._look()
        return have / total if total else None


class Report:
    """The steps of one command. What runs is drawn on a terminal; see live_line."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._running: Running | None = None
        self.steps: list[StepTime] = []

    def progress(self, what: str, seconds: float, ago: float = 0) -> None:
        """Something is done, since so many seconds."""
        begin = max(0.0, self.total() - ago - seconds)
        self.steps.append(StepTime(what, begin, seconds))
        self.idle()
        console.step(what, seconds)

    def note(self, what: str) -> None:
        """A line without seconds, which is no step."""
        console.step(what)

    def failed(self, what: str) -> None:
        """A line; what ran does so no longer."""
        self.idle()
        self.note(what)

    def begins(self, what: str, look: Callable[[], tuple[int, int]] | None = None) -> None:
        """This runs from now on; look tells how many pages there are of how many."""
        self.running(what, time.monotonic(), look and _Pages(look))

    def running(self, what: str, since: float, shown: "Shown | None" = None) -> None:
        """This runs, since then on the monotonic clock; `shown` is asked when it is drawn."""
        from vfio_kit.cli.live_line import LIVE, Running

        known = self._running
        if known is None or (known.what, known.since) != (what, since):
            known = self._running = Running(what, since, shown)
        LIVE.run(known)

    def meter(self, have: int, total: int | None) -> None:
        """How many bytes there are of what runs."""
        from vfio_kit.cli.live_line import LIVE, Bytes, Running

        known = self._running or Running("working", time.monotonic())
        meter = known.shown if isinstance(known.shown, Bytes) else Bytes()
        meter.set(have, total)
        self._running = Running(known.what, known.since, meter)
        LIVE.run(self._running)

    def idle(self) -> None:
        """Nothing runs any more."""
        if self._running is not None:
            from vfio_kit.cli.live_line import LIVE

            LIVE.end()
            self._running = None

    @contextmanager
    def timed(self, what: str, doing: str = "") -> Iterator[None]:
        """A step that is done when this is left without an exception; doing: until then."""
        begin = time.monotonic()
        self.running(doing or what, begin)
        try:
            yield
        finally:
            self.idle()
        self.progress(what, time.monotonic() - begin)

    @contextmanager
    def silently(self, doing: str) -> Iterator[None]:
        """A step that is drawn as long as it lasts, and of whose end nothing is said."""
        begin = time.monotonic()
        self.running(doing, begin)
        try:
            yield
        finally:
            self.idle()
            seconds = time.monotonic() - begin
            self.steps.append(StepTime(doing, self.total() - seconds, seconds))

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def times_json(self) -> dict[str, Any]:
        """`seconds` in all, and `steps` in the order in which they ended."""
        return {
            "seconds": round(self.total(), 1),
            "steps": [
                {"what": s.what, "begin": round(s.begin, 1), "seconds": round(s.seconds, 1)}
                for s in self.steps
            ],
        }

    def finish(self, what: str, *, bars: bool = False) -> None:
        """It is done: how long it took, and what took longest; bars: of all steps, for people."""
        self.idle()
        shown = bars and len(self.steps) > 1 and console.is_live()
        for line in timeline(self.steps, console.terminal_width()) if shown else ():
            console.say(console.without_control(line))
        console.step(what, self.total())
        words = "" if shown else longest(self.steps, self.total())
        if words:
            console.step(f"longest: {words}")


def longest(steps: Sequence[StepTime], total: float) -> str:
    """`install the driver 48.0 s (52 %), …`; empty where there is nothing to choose between."""
    worth = [s for s in steps if s.seconds >= 0.1 and s.seconds >= _WORTH * total]
    if len(steps) < 2 or not worth:
        return ""
    worth.sort(key=lambda s: -s.seconds)
    return ", ".join(
        f"{s.what} {s.seconds:.1f} s ({100 * s.seconds / total:.0f} %)" for s in worth[:_LONGEST]
    )


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
