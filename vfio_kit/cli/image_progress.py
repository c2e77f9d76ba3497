"""The progress of a download, on stderr: a line that moves on a terminal, else a few lines."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Self

import click

from vfio_kit.cli.common import step

_TERMINAL_EVERY = 0.2
_LOG_EVERY = 30
_WINDOW = 10
"""Seconds over which the speed is taken."""


class ProgressLine:
    """Shows bytes, speed and the time that is left; entered, so that the line is ended."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._samples: list[tuple[float, int]] = []
        self._shown = time.monotonic()
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_line()

    def note(self, text: str) -> None:
        self._end_line()
        step(text)

    def meter(self, have: int, total: int | None) -> None:
        now = time.monotonic()
        if self._samples and have < self._samples[-1][1]:
            self._samples.clear()  # from the start again
        self._samples.append((now, have))
        while now - self._samples[0][0] > _WINDOW and len(self._samples) > 2:
            self._samples.pop(0)
        complete = have == total
        if now - self._shown < (_TERMINAL_EVERY if self._terminal else _LOG_EVERY) and not complete:
            return
        self._shown = now
        text = describe(have, total, self._speed())
        if self._terminal:
            self._open = True
            with contextlib.suppress(OSError):  # a terminal that is gone does not stop the work
                click.echo(f"\r\x1b[K  {text}", err=True, nl=False)
        else:
            step(text)

    def _speed(self) -> float:
        """Bytes a second."""
        (first, before), (last, now) = self._samples[0], self._samples[-1]
        return (now - before) / (last - first) if last > first else 0

    def _end_line(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                click.echo(err=True)


def describe(have: int, total: int | None, speed: float) -> str:
    """`41 of 612 MiB (6 %), 10.3 MiB/s, 0:55 left`, as far as it is known; speed in bytes/s."""
    mib = 1 << 20
    rate = f", {speed / mib:.1f} MiB/s" if speed else ""
    if total is None:
        return f"{have // mib} MiB{rate}"
    percent = 100 * have // total if total else 100
    left = ""
    if speed and have < total:
        minutes, seconds = divmod(round((total - have) / speed), 60)
        left = f", {minutes}:{seconds:02} left"
    return f"{have // mib} of {total // mib} MiB ({percent} %){rate}{left}"
