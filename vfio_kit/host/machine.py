"""A machine to look at: this one, a folder with its tree, or a snapshot of it."""

from pathlib import Path

from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import NameLookup, read_tree
from vfio_kit.host.snapshot.layout import NAMES
from vfio_kit.host.tree import LONG, Tree, printable
from vfio_kit.model import Host


def read_machine(root: Path) -> Host:
    """The host whose tree is at `root`, or in the snapshot `root`, with its devices' names.

    Raises HostError where there is no sysfs, UsageError where a file is no snapshot.
    """
    tree = Tree(root) if root.is_dir() else _snapshot(root)
    return read_tree(tree, names_of(tree))


def _snapshot(file: Path) -> Tree:
    from vfio_kit.host.snapshot.replay import SnapshotTree  # noqa: PLC0415  (tarfile is dear to import)

    return SnapshotTree(file)


def names_of(tree: Tree) -> NameLookup:
    """The names that a snapshot kept, whether packed or unpacked; else those of the machine."""
    kept = None if tree.live else tree.text(NAMES, LONG)
    if kept is None:
        return name_lookup(tree.root)
    lines = (line.partition("\t") for line in kept.split("\n"))
    table = {address: printable(name) for address, _, name in lines if name}
    return lambda device: table.get(str(device.address))
