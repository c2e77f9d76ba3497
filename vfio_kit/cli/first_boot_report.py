"""What `up` and `bake` say while they work: steps with their seconds, and the one that runs."""

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli.common import step, terminal_width, without_control
from vfio_kit.cli.timeline import StepTime, timeline

if TYPE_CHECKING:
    from vfio_kit.analysis.guest.culprits import Diagnosis
    from vfio_kit.analysis.guest.first_boot import Activity, FirstBoot


class StepReport:
    """What was done, with its times: said line by line on stderr, and kept for `--json`."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._line = _RunningLine()
        self.steps: list[StepTime] = []

    def progress(self, what: str, seconds: float, ago: float = 0) -> None:
        """Something is done, since so many seconds."""
        begin = max(0.0, self.total() - ago - seconds)
        self.steps.append(StepTime(what, begin, seconds))
        self._line.clear()
        step(what, seconds)

    def note(self, what: str) -> None:
        """A line without seconds, which is no step."""
        self._line.clear()
        step(what)

    def running(self, what: str, since: float) -> None:
        """Something is going on, since then on the monotonic clock: for terminals alone."""
        self._line.draw(what, since)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """A step that is done when this is left without an exception."""
        begin = time.monotonic()
        self._line.draw(what, begin)
        try:
            yield
        finally:
            self._line.clear()
        self.progress(what, time.monotonic() - begin)

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def steps_json(self) -> list[dict[str, Any]]:
        """In the order in which they ended; seconds, `begin` since the command's beginning."""
        return [
            {"what": s.what, "begin": round(s.begin, 1), "seconds": round(s.seconds, 1)}
            for s in self.steps
        ]

    def draw_timeline(self) -> None:
        """All steps as bars, on stderr; for terminals alone."""
        if not sys.stderr.isatty() or len(self.steps) < 2:
            return
        shown = [StepTime(without_control(s.what), s.begin, s.seconds) for s in self.steps]
        with contextlib.suppress(OSError):
            for line in timeline(shown, terminal_width()):
                click.echo(line, err=True)


class FirstBootReport(StepReport):
    """Adds what a guest does in its first boot."""

    def __init__(self) -> None:
        super().__init__()
        self._activity: Activity | None = None
        self._since = 0.0
        self._stages: set[tuple[int, str]] = set()

    def show(self, boot: "FirstBoot") -> None:
        """Tells what has changed, and keeps the line with the running step in motion."""
        from vfio_kit.analysis.guest.first_boot import Ending

        activity = boot.activity
        if activity != self._activity:
            failed = boot.ending is not None and boot.ending is not Ending.DONE
            self._end_activity("failed: " if failed else "")
            self._activity, self._since = activity, time.monotonic()
        self._tell_stages(boot)
        if activity is not None:
            self._line.draw(str(activity), self._since)

    def _tell_stages(self, boot: "FirstBoot") -> None:
        """Those that have ended since the last look: one after the other, the last of them now."""
        ended = []
        for stage in boot.cloud_init.stages if boot.cloud_init else ():
            key = (len(boot.boots), stage.name)
            if stage.seconds is not None and key not in self._stages:
                self._stages.add(key)
                ended.append((f"cloud-init: {stage.name}", stage.seconds))
        left = sum(seconds for _, seconds in ended)
        for what, seconds in ended:
            left -= seconds
            self.progress(what, seconds, ago=left)

    def end(self) -> None:
        """Nothing is watched any more."""
        self._activity = None
        self._line.clear()

    @property
    def activity(self) -> str:
        """What the guest does, in words; empty where that is not known."""
        return str(self._activity or "")

    def _end_activity(self, prefix: str) -> None:
        # Stages are told by their own clocks: they were at work before anybody could look.
        if self._activity is not None and not self._activity.stage:
            self.progress(f"{prefix}{self._activity}", time.monotonic() - self._since)


def print_culprit(diagnosis: "Diagnosis") -> None:
    """The last lines of the log that says why, indented, on stderr."""
    if not diagnosis.lines:
        return
    with contextlib.suppress(OSError):
        click.echo(f"          {diagnosis.log} in the guest:", err=True)
        for line in diagnosis.lines:
            click.echo(f"            | {line}", err=True)


class _RunningLine:
    """The line on a terminal that says what runs, and for how long; elsewhere there is none."""

    def __init__(self) -> None:
        self._drawn = False

    def draw(self, what: str, since: float) -> None:
        if not sys.stderr.isatty():
            return
        line = f"{time.monotonic() - since:6.1f} s  {what} …"[: terminal_width() - 1]
        with contextlib.suppress(OSError):
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            with contextlib.suppress(OSError):
                click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False
