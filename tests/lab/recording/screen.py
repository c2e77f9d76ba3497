"""What a terminal shows in the course of a cast; the terminal is pyte's."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import pyte

from .cast import Cast, Event

_LINES = 400
"""Of the emulated screen: a chapter never scrolls; the picture shows its end."""
_FLICKER = 0.04
"""Seconds; what is drawn and drawn over within them nobody sees."""
_WORDS = re.compile(r"\S+(?: \S+)*")
"""Words parted by single spaces: wider gaps are columns, which stay where they are."""


@dataclass(frozen=True, slots=True)
class Style:
    """colour: pyte's name of it, or six hexadecimal digits."""

    colour: str = "default"
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of one style, from a column on."""

    column: int
    text: str
    style: Style


Row = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the screen shows from a moment on; at: in seconds since the chapter began."""

    at: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the session on a screen of its own; seconds: what it really took."""

    title: str
    frames: tuple[Frame, ...]
    seconds: float


def chapters(cast: Cast) -> tuple[Chapter, ...]:
    """Play the cast."""
    return tuple(_chapter(title, events, cast.width) for title, events in cast.chapters() if events)


def text(frame: Frame) -> str:
    """The characters of a frame, without their styles."""
    return "".join(row_text(row).rstrip() + "\n" for row in frame.rows)


def row_text(row: Row) -> str:
    """The characters of a row."""
    line = ""
    for run in row:
        line = line.ljust(run.column) + run.text
    return line


def meaning(frame: Frame) -> tuple[str, ...]:
    """What stays the same while a clock, a percentage or a bar runs: the letters."""
    return tuple(re.sub(r"[^A-Za-z]+", " ", row_text(row)).strip() for row in frame.rows)


def _chapter(title: str, events: tuple[Event, ...], width: int) -> Chapter:
    begin, end = events[0].at, events[-1].at
    return Chapter(title, tuple(_settled(_frames(events, begin, width))), end - begin)


def _frames(events: Iterable[Event], begin: float, width: int) -> Iterator[Frame]:
    screen = pyte.Screen(width, _LINES)
    stream = pyte.Stream(screen)
    rows: dict[int, Row] = {}
    for event in events:
        stream.feed(event.text)
        rows |= {y: _row(screen, y) for y in screen.dirty}
        screen.dirty.clear()
        last = max((y for y, row in rows.items() if row), default=-1)
        yield Frame(event.at - begin, tuple(rows[y] for y in range(last + 1)))


def _settled(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Without those that are drawn over at once, and those that change nothing."""
    before: Frame | None = None
    shown: tuple[Row, ...] | None = None
    for frame in frames:
        if before is not None and frame.at - before.at > _FLICKER and before.rows != shown:
            yield before
            shown = before.rows
        before = frame
    if before is not None and before.rows != shown:
        yield before


def _row(screen: pyte.Screen, y: int) -> Row:
    line = screen.buffer[y]
    end = max((x for x, cell in line.items() if cell.data.strip()), default=-1)
    cells = [(x, line[x]) for x in range(end + 1)]
    runs: list[Run] = []
    for style, group in groupby(cells, key=lambda cell: Style(cell[1].fg, cell[1].bold)):
        part = list(group)
        characters = "".join(cell.data for _, cell in part)
        runs += (
            Run(part[0][0] + found.start(), found.group(), style)
            for found in _WORDS.finditer(characters)
        )
    return tuple(runs)
