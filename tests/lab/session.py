"""One run of lab tests: which host is up, what it cost, and what is done after a lab fault."""

import fcntl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TextIO, TypeVar

from .faults import LabFault
from .machine import LabError, Say

Test = TypeVar("Test")

MOST_REPETITIONS = 3
"""Of a group of tests: a guest's boot met a fault in about one of ten, and one that runs NVIDIA's
module in more, so that a single repetition failed a run whose tests were sound."""


class Emulator(Protocol):
    """What `machine` does, and a unit test imitates."""

    def start(self, name: str, say: Say) -> None:
        """Boot the host of a topology."""

    def stop(self) -> None:
        """Stop the host, whatever state it is in."""

    def running(self) -> bool:
        """Tell whether a host runs, whoever started it."""

    def signs(self) -> tuple[str, ...]:
        """Return why the emulator is at fault; nothing where it is sound."""


@dataclass(slots=True)
class Lab:
    """Keeps the host of one topology running until another is asked for."""

    emulator: Emulator
    build: Callable[[Say], None]
    say: Say
    lock_file: Path
    times: list[tuple[str, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """What tests have counted, for the summary: by their names."""
    _lock: TextIO | None = None
    _up: str | None = None

    def bring_up(self, topology: str) -> None:
        """See that the host of a topology runs and is sound; else LabFault."""
        if self._up == topology:
            if reason := self.fault():
                raise LabFault(reason)
            return
        self._prepare()
        self.stop()
        started = time.monotonic()
        self.emulator.start(topology, self.say)
        self._up = topology
        self.add_time(f"boot of {topology}", started)

    def fault(self) -> str | None:
        """Return why the emulator is at fault, if it is and if a host should run."""
        return "; ".join(self.emulator.signs()) or None if self._up else None

    def stop(self) -> None:
        """Stop what this session may have started, so that the next boot is a fresh one."""
        if self._lock:
            self.emulator.stop()
        self._up = None

    def close(self) -> None:
        """Stop the host and let others have the lab."""
        self.stop()
        if self._lock:
            self._lock.close()
            self._lock = None

    def add_time(self, what: str, since: float) -> None:
        """Remember for the summary where the time since `since` (monotonic) went."""
        self.times.append((what, time.monotonic() - since))

    def _prepare(self) -> None:
        if self._lock:
            return
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = self.lock_file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LabError(
                f"another session of lab tests runs on this machine (it holds {self.lock_file}): "
                "wait for its end, or set VFIO_KIT_CACHE to another folder"
            ) from None
        if self.emulator.running():
            lock.close()
            raise LabError(
                "a host runs that this session has not started: python -m tests.lab down"
            )
        started = time.monotonic()
        self.build(self.say)
        self.add_time("images", started)
        self._lock = lock


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of one test.  `show` reports it; `fault` says why the lab is to blame."""

    failed: bool
    fault: str | None
    show: Callable[[], None]


@dataclass(slots=True)
class Repeater(Generic[Test]):
    """Runs tests; after a lab fault those of the same group again from the first, `most` times.

    The tests of a group (a class) build on each other, and the host that they built on is gone.
    """

    run: Callable[[Test], Attempt]
    recover: Callable[[Test, str], None]
    most: int = MOST_REPETITIONS
    _repeated: Counter[Test] = field(default_factory=Counter)

    def perform(self, test: Test, earlier: Sequence[Test]) -> None:
        """Run a test.  `earlier`: the tests of its group that ran before it, in order."""
        attempt = self.run(test)
        first = earlier[0] if earlier else test
        if attempt.fault:
            self.recover(test, attempt.fault)
        while attempt.fault and self._repeated[first] < self.most:
            self._repeated[first] += 1
            last = self._repeated[first] == self.most
            attempt = self._again(test, earlier, attempt, last=last)
        attempt.show()

    def _again(
        self, test: Test, earlier: Sequence[Test], faulty: Attempt, *, last: bool
    ) -> Attempt:
        for one in (*earlier, test):
            attempt = self.run(one)
            if attempt.fault:
                self.recover(one, attempt.fault)
            if one is test:
                return attempt
            if attempt.failed and (last or not attempt.fault):
                attempt.show()  # that it passed was shown the first time
            if attempt.fault:
                break
        return faulty
