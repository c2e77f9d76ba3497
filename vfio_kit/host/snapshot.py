"""A snapshot: all that was read of a machine, as a tarball of plain files.

Unpacked, it is a root for `--root`, and what is judged there is what was judged here. It holds what
the tool reads and nothing else: of the command line the words that concern an IOMMU, of cpuinfo the
vendor. Deterministic: the same machine gives the same bytes.
"""

import gzip
import io
import re
import tarfile
from pathlib import Path

from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import read_tree
from vfio_kit.host.tree import Tree
from vfio_kit.model import PciDevice

_KEPT_WORDS = re.compile(r"(intel_iommu|amd_iommu|iommu|pcie_acs_override|vfio[-_.a-z]*)(=|$)")


class _RecordingTree(Tree):
    """Keeps what was read: files with their text, links with the name they point to, folders."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()

    def text(self, name: str) -> str | None:
        text = super().text(name)
        if text is not None:
            self.files[name] = _scrubbed(name, text)
        return text

    def link(self, name: str) -> str | None:
        target = super().link(name)
        if target is not None:
            self.links[name] = target
        return target

    def names(self, name: str) -> list[str]:
        names = super().names(name)
        self.folders.update(f"{name}/{child}" for child in names)
        return names


def take_snapshot(root: Path) -> bytes:
    """A gzipped tarball of all that `read_tree` reads below `root`."""
    tree = _RecordingTree(root)
    lookup = name_lookup(root)
    names: dict[tuple[int, int], str] = {}

    def name_of(device: PciDevice) -> str | None:
        name = lookup(device)
        if name is not None:
            names[device.vendor_id, device.device_id] = name
        return name

    host = read_tree(tree, name_of)
    tree.files["proc/sys/kernel/arch"] = host.machine
    tree.files["usr/share/misc/pci.ids"] = _pci_ids(names)
    return _tarball(tree)


def _scrubbed(name: str, text: str) -> str:
    if name == "proc/cmdline":
        return " ".join(word for word in text.split() if _KEPT_WORDS.match(word))
    if name == "proc/cpuinfo":
        wanted = ("vendor_id", "CPU implementer")
        return "\n".join(line for line in text.splitlines() if line.startswith(wanted))
    return text


def _pci_ids(names: dict[tuple[int, int], str]) -> str:
    """The names that were found, in the format of pci.ids."""
    lines: list[str] = []
    for vendor in sorted({vendor for vendor, _ in names}):
        lines.append(f"{vendor:04x}  vendor {vendor:04x}")
        devices = sorted((d, name) for (v, d), name in names.items() if v == vendor)
        lines += [f"\t{device:04x}  {name}" for device, name in devices]
    return "\n".join(lines)


def _tarball(tree: _RecordingTree) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(tree.folders - tree.files.keys() - tree.links.keys()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, text in sorted(tree.files.items()):
            data = text.encode() + b"\n"
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, target in sorted(tree.links.items()):
            entry = tarfile.TarInfo(name)
            # What counts is the last component; the rest only looks like sysfs.
            entry.type, entry.linkname = tarfile.SYMTYPE, f"../{target}"
            archive.addfile(entry)
    return gzip.compress(packed.getvalue(), mtime=0)
