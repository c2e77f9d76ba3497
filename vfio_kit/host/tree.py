"""A directory tree that stands for a machine: `/`, or the root of another machine's tree.

Every access notes what it could not read, so that a broken attribute is named and never fatal. What
is absent and what is broken give the same value, so that a snapshot needs to hold neither.
"""

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from vfio_kit.model import ReadProblem

LIMIT = 64 * 1024
"""Bytes; sysfs attributes are at most a page."""
LONG = 4 * 1024 * 1024
"""Bytes; for the few files that grow with the machine: modules.alias, mountinfo."""

MOST_PROBLEMS = 1000
"""More are not told: nobody reads them, and a stranger may have made them up."""
_LONGEST_LINK = 1024
_PLAIN = bytes((0x09, 0x0A, *range(0x20, 0x7F)))
"""What most files hold nothing but."""

_HARMLESS = (stat.S_IFREG, stat.S_IFDIR)
"""What may be opened in any tree; a folder gives an error of its own."""

_NUMBERS = {
    10: re.compile(r"-?[0-9]{1,10}"),
    16: re.compile(r"(0x)?[0-9a-fA-F]{1,10}"),
}
# ESRCH: of a process that has ended meanwhile.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
# Attributes that exist and answer only for some devices.
_NO_ANSWER = (*_ABSENT, errno.ENODEV, errno.EINVAL, errno.ENXIO, errno.EOPNOTSUPP)


def printable(text: str) -> str:
    """The text in one line, with a question mark for what would do more to a terminal than show.

    Whoever names a device, or sends a tree or a snapshot, may not write on the operator's terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


class Tree:
    """Reads below `root`; absent files are None, unreadable ones are noted in `problems`.

    Names are relative to the root: "proc/cmdline".
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.problems: list[ReadProblem] = []
        self._prefix = str(root).rstrip("/") + "/"

    @property
    def live(self) -> bool:
        """Whether this is the machine that we run on."""
        return self._prefix == "/"

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def note(self, name: str, reason: str) -> None:
        if len(self.problems) == MOST_PROBLEMS:
            name, reason = "", "more cannot be read than is told here"
        if len(self.problems) <= MOST_PROBLEMS:
            self.problems.append(ReadProblem(printable("/" + name.lstrip("/")), printable(reason)))

    def data(self, name: str, limit: int = LIMIT, *, private: bool = False) -> bytes | None:
        """The file's bytes; None where there is none. `private`: being denied it is no problem."""
        path = self._prefix + name
        try:
            # In a tree that a stranger made, a device: to open one may be to set it off.
            if not self.live and stat.S_IFMT(os.stat(path).st_mode) not in _HARMLESS:
                self.note(name, "no plain file")
                return None
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._failed(name, error, private=private)
            return None
        try:
            data = _read(handle, limit + 1)
        except OSError as error:
            self._failed(name, error, private=private)
            return None
        finally:
            os.close(handle)
        if len(data) > limit:
            self.note(name, f"longer than {limit} bytes")
            return None
        return data

    def _failed(self, name: str, error: OSError, *, private: bool) -> None:
        denied = private and error.errno in (errno.EACCES, errno.EPERM)
        if error.errno not in _NO_ANSWER and not denied:
            self.note(name, error.strerror or type(error).__name__)

    def text(self, name: str, limit: int = LIMIT, *, private: bool = False) -> str | None:
        """The file's text without surrounding white space; None where there is no such file.

        Of control characters there are line feeds and tabs alone.
        """
        data = self.data(name, limit, private=private)
        if data is None:
            return None
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            self.note(name, "not text")
            return None
        if data.translate(None, _PLAIN):
            lines = (map(printable, line.split("\t")) for line in text.split("\n"))
            text = "\n".join(map("\t".join, lines))
        return text.strip()

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

    def names(self, name: str, *, private: bool = False) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""
        try:
            found = sorted(os.listdir(self._prefix + name))
        except OSError as error:
            denied = private and error.errno in (errno.EACCES, errno.EPERM)
            if error.errno not in (errno.ENOENT, errno.ESRCH) and not denied:
                self.note(name, error.strerror or type(error).__name__)
            return []
        if all(map(str.isprintable, found)):
            return found
        self.note(name, "holds names with control characters; left out")
        return list(filter(str.isprintable, found))

    def target(self, name: str, *, private: bool = False) -> str | None:
        """What a symbolic link says, as it stands there; None where there is no link."""
        try:
            target = os.readlink(self._prefix + name)
        except OSError as error:
            # EINVAL: it is there and is no link.
            denied = private and error.errno in (errno.EACCES, errno.EPERM)
            if error.errno not in _ABSENT and not denied:
                self.note(name, error.strerror or type(error).__name__)
            return None
        # What a process has open may have any name, and is compared alone.
        if private or (target.isprintable() and len(target) <= _LONGEST_LINK):
            return target
        self.note(name, "points to a name that is too long or has control characters")
        return None

    def link(self, name: str) -> str | None:
        """The last component of what a symbolic link points to; None where there is no link."""
        last = (self.target(name) or "").rstrip("/").rpartition("/")[2]
        return None if last in ("", ".", "..") else last

    def exists(self, name: str) -> bool:
        return os.path.lexists(self._prefix + name)

    def extract(self, name: str, compute: Callable[[], str | None]) -> str | None:
        """A fact in a few lines of text that is worked out from many files, or from private ones.

        A snapshot keeps the text in `extracts/NAME` and none of what it was worked out from; so the
        text holds nothing that a snapshot may not tell.
        """
        kept = self.text(f"extracts/{name}", LONG) if not self.live else None
        text = compute() if kept is None else kept
        return None if text is None else text.strip()


def _read(handle: int, limit: int) -> bytes:
    """At most `limit` bytes: procfs hands out a page at a time."""
    parts = []
    while limit > 0:
        part = os.read(handle, limit)
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)
