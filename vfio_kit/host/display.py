"""The GPUs of a machine, and nothing else of it: what completing an address can wait for."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vfio_kit.errors import UsageError
from vfio_kit.host.tree import Tree
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.model import PciAddress

_FUNCTIONS = "sys/bus/pci/devices"
_DISPLAY = 0x03
"""Base class of display controllers (PCI Code and ID Assignment specification)."""


@dataclass(frozen=True, slots=True)
class DisplayController:
    """A PCI function of class 03xx, with its name, or its ids where nobody names it."""

    address: PciAddress
    name: str


def display_controllers(root: Path) -> tuple[DisplayController, ...]:
    """Those of the machine whose tree is at `root`, or in the snapshot `root`, by their addresses.

    What cannot be read is left out. Raises UsageError where a file is no snapshot.
    """
    tree = Tree(root) if root.is_dir() else _snapshot(root)
    return tuple(sorted(_found(tree), key=lambda gpu: gpu.address))


def _found(tree: Tree) -> Iterator[DisplayController]:
    for function in tree.names(_FUNCTIONS):
        folder = f"{_FUNCTIONS}/{function}"
        code = tree.number(f"{folder}/class", most=0xFFFFFF)
        if code is None or code >> 16 != _DISPLAY:
            continue
        with contextlib.suppress(UsageError):  # a folder that is called otherwise is no function
            address = PciAddress.parse(function)
            ids = (
                tree.number(f"{folder}/vendor") or 0,
                tree.number(f"{folder}/device") or 0,
            )
            yield DisplayController(address, _name(ids, live=tree.live))


def _name(ids: tuple[int, int], *, live: bool) -> str:
    """pci.ids is left alone: to read it takes longer than all else."""
    from vfio_kit.host.hwdb import hwdb_name  # noqa: PLC0415  (ctypes is dear to import)

    name = SHIPPED_NAMES.get(ids) or (hwdb_name(*ids) if live else None)
    return name or f"{ids[0]:04x}:{ids[1]:04x}"


def _snapshot(file: Path) -> Tree:
    from vfio_kit.host.snapshot.replay import SnapshotTree  # noqa: PLC0415  (tarfile is dear to import)

    return SnapshotTree(file)
