"""The line that says what runs, for how long, and how much of it is done.

On a terminal it is drawn anew four times a second, by a thread, since most of what takes long does
not come back before it is done. Elsewhere it is a whole line now and then, of what takes long.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from vfio_kit.cli import console

_REDRAW = 0.25
_PLAIN_EVERY = 30.0
_LEAST_BAR, _MOST_BAR = 8, 24
_LEAST_WORDS = 12
_SOON = 0.2
"""Seconds after which what runs is drawn: what is done at once does not flicker."""
_WINDOW, _SAMPLE = 10.0, 0.2
"""Seconds over which a speed is taken, and between two looks."""
_MIB = 1 << 20


class Shown(Protocol):
    """What is shown beside what runs; asked by another thread, so it must not raise."""

    def words(self) -> str: ...

    def part(self) -> float | None:
        """Between 0 and 1, for a bar; None where nobody knows."""


class Bytes:
    """How many bytes there are of how many, with their speed and the time that is left."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._have = 0
        self._total: int | None = None

    def set(self, have: int, total: int | None) -> None:
        samples, now = self._samples, time.monotonic()
        if have < self._have:
            samples.clear()  # from the start again
        if not samples or now - samples[-1][0] >= _SAMPLE:
            samples.append((now, have))
        while now - samples[0][0] > _WINDOW and len(samples) > 2:
            samples.popleft()
        self._have, self._total = have, total

    def words(self) -> str:
        return describe(self._have, self._total, self._speed())

    def part(self) -> float | None:
        return min(1.0, self._have / self._total) if self._total else None

    def _speed(self) -> float:
        """Bytes a second."""
        samples = self._samples.copy()
        if not samples:
            return 0
        (first, before), (last, now) = samples[0], samples[-1]
        return (now - before) / (last - first) if last > first else 0


def describe(have: int, total: int | None, speed: float) -> str:
    """`41 of 612 MiB (6 %), 10.3 MiB/s, 0:55 left`, as far as it is known; speed in bytes/s."""
    rate = f", {speed / _MIB:.1f} MiB/s" if speed else ""
    if total is None:
        return f"{have // _MIB} MiB{rate}"
    percent = 100 * have // total if total else 100
    left = ""
    if speed and have < total:
        minutes, seconds = divmod(round((total - have) / speed), 60)
        left = f", {minutes}:{seconds:02} left"
    return f"{have // _MIB} of {total // _MIB} MiB ({percent} %){rate}{left}"


@dataclass(frozen=True, slots=True)
class Running:
    """What runs since then on the monotonic clock."""

    what: str
    since: float
    shown: Shown | None = None

    def detail(self) -> str:
        return self.shown.words() if self.shown else ""


def line_of(running: Running, columns: int) -> str:
    """`  12.3 s  what …  ━━━━────  detail`, as stderr's encoding has it, within the columns."""
    what = console.fitting(f"{console.without_control(running.what)} …")
    detail = console.fitting(console.without_control(running.detail()))
    time_ = f"{time.monotonic() - running.since:6.1f} s  "
    room = columns - len(time_)
    part = running.shown.part() if running.shown else None
    if part is not None:  # the words give way before the numbers do
        what = clipped(what, max(_LEAST_WORDS, room - cells(detail) - 2))
    line = f"{time_}{what}"
    free = columns - cells(line) - cells(detail) - 4
    if part is not None and free >= _LEAST_BAR:
        line = f"{line}  {bar(part, min(free, _MOST_BAR))}"
    return clipped(f"{line}  {detail}" if detail else line, columns)


def bar(part: float, width: int) -> str:
    done = int(part * width)
    return console.fitting("━" * done + "─" * (width - done))


def cells(text: str) -> int:
    """Columns that a terminal gives to it."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def clipped(text: str, columns: int) -> str:
    """No wider than that; what is cut off leaves an ellipsis."""
    if cells(text) <= columns:
        return text
    end = console.fitting("…")
    kept = text[: max(0, columns - len(end))]
    while kept and cells(kept) > columns - len(end):
        kept = kept[:-1]
    return (kept.rstrip() + end)[:columns]


class LiveLine:
    """What runs now, if anything does; there is one for the process, as there is one stderr.

    Seconds: `redraw` between two drawings, `plain_every` between two lines without a terminal.
    """

    def __init__(self, redraw: float = _REDRAW, plain_every: float = _PLAIN_EVERY) -> None:
        self._redraw, self._plain_every = redraw, plain_every
        # A signal's handler may speak while this thread draws: the same thread gets it again.
        self._lock = threading.RLock()
        self._running: Running | None = None
        self._drawn = False
        self._next = 0.0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self, running: Running) -> None:
        """This runs from now on; on a terminal it is seen at once."""
        with self._lock:
            new = self._running is None or self._running.since != running.since
            self._running = running
            if new:
                self._next = running.since + (_SOON if console.is_live() else self._plain_every)
            self._draw()
        self._start()

    def end(self) -> None:
        """Nothing runs."""
        with self._lock:
            self._running = None
            self.clear()
        self._wake.clear()

    def clear(self) -> None:
        """Takes the line away until the next drawing."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                console.write("\r\x1b[K")
            self._next = max(self._next, time.monotonic() + self._redraw / 5)

    def _start(self) -> None:
        self._wake.set()
        if self._thread is None:
            # No signal is delivered to it: it would reach who has shut it out (apply/bounded).
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._thread = threading.Thread(target=self._tick, daemon=True)
                self._thread.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _tick(self) -> None:
        while self._wake.wait():
            time.sleep(self._redraw)
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        running, now = self._running, time.monotonic()
        if running is None or now < self._next:
            return
        if console.is_live():
            self._next = now + self._redraw * 0.8
            self._drawn = True
            console.write(f"\r\x1b[K{line_of(running, _columns() - 1)}")
        else:
            self._next = now + self._plain_every
            detail = running.detail()
            said = f"{running.what} …{f'  {detail}' if detail else ''}"
            console.step(said, now - running.since)


def _columns() -> int:
    """Of the terminal as it is now; of one at the other end of --connect, as it was."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        words = os.environ.get("COLUMNS", "")
        return max(int(words), 20) if words.isdecimal() else 80


LIVE = LiveLine()
console.set_live(LIVE)
