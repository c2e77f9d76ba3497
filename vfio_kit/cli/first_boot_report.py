"""What `up` and `bake` say of a guest's first boot: its stages and steps, and the one that runs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli import console
from vfio_kit.cli.report import Report

if TYPE_CHECKING:
    from vfio_kit.analysis.guest.culprits import Diagnosis
    from vfio_kit.analysis.guest.first_boot import Activity, FirstBoot

_LOOK = 1.0
"""Seconds between two looks at a console's log."""


class ConsoleTail:
    """What a guest's console said last, beside what is waited for; see live_line.Shown."""

    def __init__(self, log: str) -> None:
        self._log = Path(log)
        self._looked, self._line = 0.0, ""

    def words(self) -> str:
        from vfio_kit.analysis.guest.printable import printable
        from vfio_kit.apply.console_log import last_line

        if time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            self._line = printable(click.unstyle(last_line(self._log)))
        return f"· {self._line}" if self._line else ""

    def part(self) -> float | None:
        return None


class FirstBootReport(Report):
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
            self.running(str(activity), self._since)

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
        self.idle()

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
    console.step(f"{diagnosis.log} in the guest:")
    for line in diagnosis.lines:
        console.step(f"  | {line}")
