"""A recorded terminal session: asciinema's asciicast, version 2, which `asciinema play` replays.

Source of the format: https://docs.asciinema.org/manual/asciicast/v2/
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

OUTPUT = "o"
MARKER = "m"
_VERSION = 2
_ORIGIN = "vfio_kit"
"""A key of ours in the header; players pass over what they do not know."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; at: in seconds since the beginning.

    kind  OUTPUT: text was written to the terminal; MARKER: a chapter begins, text is its title.
    """

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Cast:
    """A session; width, height: of the terminal, in characters.

    made     when, in whole seconds since 1970.
    commit   of the checkout that was recorded, in short.
    machine  what it was recorded on, for people.
    """

    width: int
    height: int
    made: int
    commit: str
    machine: str
    events: tuple[Event, ...]

    def origin(self) -> str:
        """When, where and of what it was made."""
        date = datetime.fromtimestamp(self.made, UTC).strftime("%Y-%m-%d")
        return f"{date}, commit {self.commit}, {self.machine}"

    def chapters(self) -> Iterator[tuple[str, tuple[Event, ...]]]:
        """The titles with the output up to the next one; what is before the first is left out."""
        starts = [index for index, event in enumerate(self.events) if event.kind == MARKER]
        for start, end in zip(starts, [*starts[1:], len(self.events)], strict=True):
            yield self.events[start].text, self.events[start + 1 : end]


def write(cast: Cast, path: Path) -> None:
    """Write the header and a line for each event."""
    header = {
        "version": _VERSION,
        "width": cast.width,
        "height": cast.height,
        "timestamp": cast.made,
        "title": "vfio-kit in the virtual host",
        _ORIGIN: {"commit": cast.commit, "machine": cast.machine},
    }
    rows: list[object] = [header]
    rows += [[round(event.at, 3), event.kind, event.text] for event in cast.events]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def read(path: Path) -> Cast:
    """Read what `write` wrote."""
    header, *rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    if header["version"] != _VERSION:
        raise ValueError(f"{path}: not an asciicast of version {_VERSION}")
    return Cast(
        header["width"],
        header["height"],
        header["timestamp"],
        header[_ORIGIN]["commit"],
        header[_ORIGIN]["machine"],
        tuple(Event(at, kind, text) for at, kind, text in rows),
    )
