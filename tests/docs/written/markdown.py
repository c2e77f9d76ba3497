"""Small parts of Markdown that written pages share."""

import inspect
import re
from collections.abc import Iterable, Iterator

NOTE = "<!-- Written by scripts/docs --write, from {}. -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table; nothing where it has no rows."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    columns = list(head)
    if lines:
        yield f"| {' | '.join(columns)} |"
        yield f"|{'---|' * len(columns)}"
        yield from lines
        yield ""


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plain(text: str) -> str:
    """Words of a help text: what Markdown would read as more than words is kept from it."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def paragraphs(help_text: str) -> Iterator[str]:
    """A help text of click as Markdown: what stands below a \\b is kept as it is."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b").strip("\n"), "```", "")
        else:
            yield from (plain(" ".join(paragraph.split())), "")
