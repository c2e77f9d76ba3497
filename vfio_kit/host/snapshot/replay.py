"""A snapshot as a tree: read into memory, never unpacked, and refused where it is none.

It comes from a stranger. So nothing in it reaches the file system of this machine, its links are
followed within it alone, and its size is bounded before it is believed.
"""

import errno
import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from vfio_kit.errors import HostError, UsageError
from vfio_kit.host.snapshot.layout import MANIFEST, MOST_MEMBERS, PROBLEMS, VERSION
from vfio_kit.host.snapshot.tarball import members
from vfio_kit.host.tree import LIMIT, LONG, MOST_PROBLEMS, Tree, printable
from vfio_kit.model import ReadProblem

_MOST_BYTES = 64 * 1024 * 1024
"""Also of folders, which a member with a long path makes many of. A host of 4,000 functions has
some 40,000."""
_LONGEST_NAME = 1024
_MOST_HOPS = 16


class SnapshotTree(Tree):
    """The tree of the machine that the snapshot was taken of.

    Raises UsageError for a file that is no snapshot, or a hostile one.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._children: dict[str, set[str]] = {"": set()}
        _load(file, self._add)
        if self._files.get(MANIFEST, b"").decode("utf-8", "replace").strip() != VERSION:
            raise _refused(file, f"it has no {MANIFEST} that says {VERSION}")
        problems = self._files.get(PROBLEMS, b"").decode("utf-8", "replace")
        for line in problems.split("\n", MOST_PROBLEMS + 1)[: MOST_PROBLEMS + 1]:
            path, tab, reason = line.partition("\t")
            if tab:
                self.problems.append(ReadProblem(printable(path), printable(reason)))

    @property
    def live(self) -> bool:
        return False

    def note(self, name: str, reason: str) -> None:
        """What was noted when the snapshot was taken stands in it."""

    def data(self, name: str, limit: int = LIMIT, *, private: bool = False) -> bytes | None:
        data = self._files.get(behind_links(name, self._links))
        return None if data is None or len(data) > limit else data

    def names(self, name: str, *, private: bool = False) -> list[str]:
        return sorted(self._children.get(behind_links(name, self._links), ()))

    def target(self, name: str, *, private: bool = False) -> str | None:
        return self._links.get(behind_links(name, self._links))

    def exists(self, name: str) -> bool:
        place = behind_links(name, self._links)
        return place in self._files or place in self._links or place in self._children

    def _add(self, entry: tarfile.TarInfo, data: bytes) -> None:
        name = entry.name.rstrip("/")
        if name in self._files or name in self._links:
            raise ValueError("it is there twice")
        parent, _, child = name.rpartition("/")
        self._make_folder(parent)
        self._children[parent].add(child)
        if entry.isreg():
            if name in self._children:
                raise ValueError("it is a folder and a file")
            self._files[name] = data
        elif entry.issym():
            if name in self._children:
                raise ValueError("it is a folder and a link")
            self._links[name] = entry.linkname
        else:
            self._make_folder(name)

    def _make_folder(self, name: str) -> None:
        """Makes a folder and those above it."""
        missing = []
        while name not in self._children:
            missing.append(name)
            name = name.rpartition("/")[0]
        for folder in reversed(missing):
            if folder in self._files or folder in self._links:
                raise ValueError(f"{folder} is no folder")
            if len(self._children) >= MOST_MEMBERS:
                raise ValueError(f"there are more than {MOST_MEMBERS} folders")
            parent, _, child = folder.rpartition("/")
            self._children[parent].add(child)
            self._children[folder] = set()


def behind_links(name: str, links: Mapping[str, str]) -> str:
    """The place of a path: links on its way are followed, the last component's is not."""
    path = ""
    hops = 0
    for part in name.strip("/").split("/"):
        while path in links and hops < _MOST_HOPS:
            hops += 1
            path = _joined(path, links[path])
        path = f"{path}/{part}" if path else part
    return path


def _load(file: Path, add: Callable[[tarfile.TarInfo, bytes], None]) -> None:
    try:
        with (
            gzip.open(file) as stream,
            _Bounded(stream) as bounded,
        ):
            for count, (entry, data) in enumerate(members(bounded, LONG)):
                if count >= MOST_MEMBERS:
                    raise _refused(file, f"it has more than {MOST_MEMBERS} members")
                try:
                    _require_harmless(entry)
                    add(entry, data)
                except ValueError as error:
                    raise _refused(file, f"member {entry.name[:80]!r}: {error}") from error
            while bounded.read(LIMIT):
                """To the end, where gzip has its checksum."""
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise _refused(file, str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _refused(file, f"it unpacks to more than {_MOST_BYTES} bytes") from error
        raise HostError(
            f"{file} cannot be read: {error.strerror or error}", "look at the file and its rights"
        ) from error


def _require_harmless(entry: tarfile.TarInfo) -> None:
    """Raises ValueError for anything that a snapshot never has."""
    name = entry.name.rstrip("/")
    parts = name.split("/")
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError("its name is empty, too long, or has control characters")
    if name.startswith("/"):
        raise ValueError("its name is absolute")
    if ".." in parts or "." in parts or "" in parts:
        raise ValueError("its name has empty parts, . or ..")
    if not (entry.isreg() or entry.isdir() or entry.issym()):
        raise ValueError("it is no plain file, folder or symbolic link")
    if entry.issym():
        to = entry.linkname
        if not to or len(to) > _LONGEST_NAME or not to.isprintable():
            raise ValueError("its link is empty, too long, or has control characters")
        if to.startswith("/") or _joined(name, to).startswith(".."):
            raise ValueError(f"its link leaves the snapshot: {to[:80]}")


def _joined(link: str, target: str) -> str:
    """Where a relative link leads, seen from the root."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    return "" if path == "." else path


def _refused(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"{file} is no snapshot of vfio-kit: {reason}",
        "take one on that machine: vfio-kit snapshot -o FILE",
    )


class _Bounded(io.BufferedIOBase):
    """A stream that ends in an error where it gives more than a snapshot can need."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        super().__init__()
        self._stream = stream
        self._left = _MOST_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise OSError(errno.EFBIG, "too large")
        return data
