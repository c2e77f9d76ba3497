"""What a row of the table of findings holds."""

from dataclasses import dataclass

from vfio_kit.model import Level


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A row of the table; `title` fits behind the code in a list."""

    code: str
    level: Level
    title: str
    acceptable: bool = False
    """Whether `--accept-loss` with the finding's device lifts the block."""
