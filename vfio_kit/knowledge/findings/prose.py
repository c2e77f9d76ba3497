"""The long texts of the table taken apart: paragraphs, and lines that are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

_KEPT = "$ "


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
