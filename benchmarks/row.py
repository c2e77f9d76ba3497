"""What a benchmark gives: rows of times, each beside its floor and within its bounds."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.labhost import LabHost


class NotMeasured(Exception):
    """This machine cannot measure it, and why."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a time is divided by: the least that the same work takes, in seconds (a median)."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Bound:
    """`found` may be at most `limit`; what: the unit of both, in words."""

    what: str
    found: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.found <= self.limit

    def __str__(self) -> str:
        sign = "≤" if self.holds else ">"
        return f"{self.found:.2f} {sign} {self.limit:.2f} {self.what}"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured: seconds of each run; note: what else it says (memory, speed)."""

    what: str
    seconds: tuple[float, ...]
    floor: Floor | None = None
    bounds: tuple[Bound, ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float | None:
        """How many times the floor it is; None without one."""
        return self.median / self.floor.seconds if self.floor else None

    @property
    def holds(self) -> bool:
        return all(bound.holds for bound in self.bounds)

    def as_floor(self, what: str = "") -> Floor:
        """This row as that of others, under its own name or a shorter one."""
        return Floor(what or self.what, self.median)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One group of rows.

    name     as --only takes it.
    runs     of each way, unless --runs says another number.
    method   how it is measured, and meaning what it says: paragraphs of the page.
    """

    name: str
    title: str
    runs: int
    method: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Local(Benchmark):
    """Runs on this machine; `rows` raises NotMeasured where that is not possible."""

    rows: Callable[[int], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class InLab(Benchmark):
    """Runs in the virtual host."""

    rows: Callable[["LabHost", int], Iterable[Row]]
