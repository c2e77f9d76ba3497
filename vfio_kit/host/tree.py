"""A directory tree that stands for a machine: `/`, or the root of a snapshot.

Every access notes what it could not read, so that a broken attribute is named and never fatal.
"""

import errno
import re
from pathlib import Path

from vfio_kit.model import ReadProblem

_LIMIT = 64 * 1024
"""Bytes; sysfs attributes are at most a page, procfs extracts that are read here are small."""

_NUMBERS = {
    10: re.compile(r"-?[0-9]{1,10}"),
    16: re.compile(r"(0x)?[0-9a-fA-F]{1,10}"),
}


class Tree:
    """Reads below `root`; absent files are None, unreadable ones are noted in `problems`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.problems: list[ReadProblem] = []

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def note(self, name: str, reason: str) -> None:
        self.problems.append(ReadProblem("/" + name.lstrip("/"), reason))

    def text(self, name: str) -> str | None:
        """The file's text without surrounding white space; None where there is no such file."""
        try:
            with self.path(name).open("rb") as stream:
                data = stream.read(_LIMIT + 1)
        except OSError as error:
            # ENODEV and EINVAL: attributes that exist and answer only for some devices.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EINVAL):
                self.note(name, error.strerror or type(error).__name__)
            return None
        if len(data) > _LIMIT:
            self.note(name, f"longer than {_LIMIT} bytes")
            return None
        try:
            return data.decode("utf-8").strip()
        except UnicodeDecodeError:
            self.note(name, "not text")
            return None

    def number(self, name: str, *, base: int = 16, most: int = 0xFFFF) -> int | None:
        """The file's number; None, and a note, where it holds none, or one above `most`."""
        text = self.text(name)
        if text is None:
            return None
        if _NUMBERS[base].fullmatch(text) is None:
            self.note(name, f"holds {text[:40]!r}, not a number")
            return None
        value = int(text, base)
        if value > most:
            self.note(name, f"holds {text[:40]!r}, more than {most:#x}")
            return None
        return value

    def names(self, name: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""
        try:
            return sorted(entry.name for entry in self.path(name).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            self.note(name, error.strerror or type(error).__name__)
            return []

    def link(self, name: str) -> str | None:
        """The last component of what a symbolic link points to; None where there is no link."""
        try:
            return self.path(name).readlink().name
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # EINVAL: it is there and is no link.
            self.note(name, error.strerror or type(error).__name__)
            return None
