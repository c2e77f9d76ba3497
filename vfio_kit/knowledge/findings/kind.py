"""What a row of the table of findings holds, and how its long texts are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from vfio_kit.model import Level

CHAPTERS: Mapping[str, str] = {
    "VK1": "isolation",
    "VK2": "the IOMMU, and whether the host is ready",
    "VK3": "the device",
    "VK4": "what the host would lose",
    "VK5": "what could not be read",
}
"""The hundreds that codes are counted in."""

LEVELS: Mapping[Level, str] = {
    Level.BLOCK: "the GPU does not go to a guest while this holds",
    Level.WARN: "the GPU can go; look at this first",
    Level.INFO: "good to know; by itself it keeps nothing from going",
}
_LIFTED = ", unless you accept it: --accept-loss ADDR"
_KEPT = "$ "


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A row of the table; `title` fits behind the code in a list.

    Long texts are written as they fit the source: lines are joined to paragraphs, which blank lines
    part, and a line that begins with `$ ` is kept as it is: a command, a line of a file. `blocks`
    reads them, where they are shown: a scan imports them and pays no more than their bytes.
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


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a line that is copied as it is."""

    text: str
    verbatim: bool = False


def blocks(text: str) -> Iterator[Block]:
    """The paragraphs of a story or a step, and the lines between them that are kept."""
    for kind, lines in groupby(map(str.strip, text.splitlines()), _kind_of_line):
        if kind == "kept":
            yield from (Block(line.removeprefix(_KEPT), verbatim=True) for line in lines)
        elif kind == "prose":
            yield Block(" ".join(lines))


def _kind_of_line(line: str) -> str:
    if not line:
        return "blank"
    return "kept" if line.startswith(_KEPT) else "prose"
