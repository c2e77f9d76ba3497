"""What a row of the table of findings holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vfio_kit.model import Level

CHAPTERS: Mapping[str, str] = {
    "VK1": "isolation",
    "VK2": "the IOMMU, and whether the host is ready",
    "VK3": "the device",
    "VK4": "what the host would lose",
    "VK5": "what could not be read",
    "VK6": "the guest's software",
    "VK7": "the guest's place on the host",
}
"""The hundreds that codes are counted in."""

LEVELS: Mapping[Level, str] = {
    Level.BLOCK: "the GPU does not go to a guest while this holds",
    Level.WARN: "the GPU can go; look at this first",
    Level.INFO: "good to know; by itself it keeps nothing from going",
}
_LIFTED = ", unless you accept it: --accept-loss ADDR"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A row of the table; `title` fits behind the code in a list.

    Long texts are written as they fit the source: lines are joined to paragraphs, which blank lines
    part, and a line that begins with `$ ` is kept as it is: a command, a line of a file. They are
    taken apart where they are shown (prose.py): a scan imports them and pays for their bytes alone.
    """

    code: str
    level: Level
    title: str
    acceptable: bool = False
    """Whether `--accept-loss` with the finding's device lifts the block."""
    story: str = field(kw_only=True, repr=False)
    """What was seen and where, why it matters, what becomes of it if it is ignored."""
    remedy: tuple[str, ...] = field(kw_only=True, repr=False)
    """What to do, a step each. ADDR stands for the address of the device, as in 0000:01:00.0."""
    sources: tuple[str, ...] = field(kw_only=True, repr=False)
    """Public pages that say the same; URLs."""

    @property
    def weight(self) -> str:
        """What the level means, in half a sentence."""
        return LEVELS[self.level] + (_LIFTED if self.acceptable else "")
