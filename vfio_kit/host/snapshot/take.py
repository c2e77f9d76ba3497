"""A snapshot: all that was read of a machine, as a tarball of plain files.

It holds what the tool reads and nothing else, and of that nothing private: what is worked out of
private files stands in `extracts/`, config space is cut down to the registers that are read, names
that carry a MAC address or a UUID are replaced. Deterministic: the same machine gives the same
bytes. Unpacked by hand it is a folder for `--root`; replay.py beside this reads it as it is.
"""

import gzip
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from vfio_kit.errors import HostError
from vfio_kit.host.read import NameLookup, read_tree
from vfio_kit.host.snapshot.layout import MANIFEST, MOST_MEMBERS, NAMES, PROBLEMS, VERSION
from vfio_kit.host.snapshot.replay import behind_links
from vfio_kit.host.snapshot.scrub import config_without_identity, nameless_path
from vfio_kit.host.tree import LIMIT, Tree
from vfio_kit.model import PciDevice


class RecordingTree(Tree):
    """Keeps what was read: files with their bytes, links with what they say, folders.

    What is broken or absent is not kept: it gives the same values as nothing at all, and the
    problems are kept as they were noted.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()
        self._within_extract = False
        self._real_root = root.resolve()

    def data(self, name: str, limit: int = LIMIT, *, private: bool = False) -> bytes | None:
        if not self.live and not self._stays_within(name):
            # Root packs a stranger's tree, and its links lead to files of this machine.
            self.note(name, "leads out of the tree")
            return None
        data = super().data(name, limit, private=private)
        if data is not None and not self._within_extract:
            is_config = name.rpartition("/")[2] == "config"
            self.files[nameless_path(name)] = config_without_identity(data) if is_config else data
        return data

    def target(self, name: str, *, private: bool = False) -> str | None:
        target = super().target(name, private=private)
        if target is not None and not self._within_extract:
            self.links[nameless_path(name)] = nameless_path(self._relative(name, target))
        return target

    def names(self, name: str, *, private: bool = False) -> list[str]:
        names = super().names(name, private=private)
        if not self._within_extract:
            self.folders.update(nameless_path(f"{name}/{child}") for child in names)
        return names

    def exists(self, name: str) -> bool:
        found = super().exists(name)
        if found and not self._within_extract:
            self.folders.add(nameless_path(name))
        return found

    def extract(self, name: str, compute: Callable[[], str | None]) -> str | None:
        nested, self._within_extract = self._within_extract, True
        try:
            text = super().extract(name, compute)
        finally:
            self._within_extract = nested
        if text is not None:
            self.files[f"extracts/{name}"] = text.encode()
        return text

    def _stays_within(self, name: str) -> bool:
        return (self._real_root / name).resolve().is_relative_to(self._real_root)

    def _relative(self, name: str, target: str) -> str:
        """The kernel's links are relative; one that is not is made so, where it stays below."""
        root = str(self.root.absolute()).rstrip("/") + "/"
        if target.startswith("/"):
            below = target.removeprefix(root) if target.startswith(root) else target.lstrip("/")
            target = posixpath.relpath("/" + below, "/" + posixpath.dirname(name))
        return target


def take_snapshot(root: Path, lookup: NameLookup) -> bytes:
    """A gzipped tarball of all that `read_tree` reads below `root`; `lookup` names functions.

    Raises HostError where there is more than a snapshot holds, or no sysfs.
    """
    tree = RecordingTree(root)
    names: dict[str, str] = {}

    def name_of(device: PciDevice) -> str | None:
        name = lookup(device)
        if name is not None:
            names[str(device.address)] = name
        return name

    host = read_tree(tree, name_of)
    tree.files[MANIFEST] = f"{VERSION}\n".encode()
    tree.files[NAMES] = _lines(f"{address}\t{name}" for address, name in sorted(names.items()))
    tree.files[PROBLEMS] = _lines(f"{p.path}\t{p.reason}" for p in host.problems)
    if len(tree.files) + len(tree.links) + len(tree.folders) > MOST_MEMBERS:
        raise HostError(
            f"the machine shows more than {MOST_MEMBERS} files, which no snapshot holds",
            "look at what is odd in sys/bus/pci/devices: vfio-kit scan",
        )
    return _tarball(tree)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _tarball(tree: RecordingTree) -> bytes:
    """Files stand where sysfs has them: a device's below /sys/devices, behind its links."""
    places = {behind_links(name, tree.links): to for name, to in tree.links.items()}
    links = {place: _staying(place, to) for place, to in places.items()}
    files = {behind_links(name, tree.links): data for name, data in tree.files.items()}
    folders = {behind_links(name, tree.links) for name in tree.folders} - files.keys()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(folders - links.keys()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, to in sorted(links.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return gzip.compress(packed.getvalue(), mtime=0)


def _staying(place: str, to: str) -> str:
    """A link that climbs too high ends at the root, above which there is nothing."""
    folder = posixpath.dirname(place)
    if not posixpath.normpath(posixpath.join(folder, to)).startswith(".."):
        return to
    return posixpath.relpath(posixpath.join("/", folder, to), f"/{folder}")
