"""Hardware names: from udev's hwdb on the live host, from pci.ids, else from the shipped table."""

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from vfio_kit.knowledge.gpus import SHIPPED_NAMES
from vfio_kit.model import PciAddress, PciDevice

_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids")


def name_lookup(root: Path) -> Callable[[PciDevice], str | None]:
    """A function that names a PCI function of the machine whose tree is at `root`."""

    def name_of(device: PciDevice) -> str | None:
        return (
            (_from_udev(device.address) if root == Path("/") else None)
            or _pci_ids(root).get((device.vendor_id, device.device_id))
            or SHIPPED_NAMES.get((device.vendor_id, device.device_id))
        )

    return name_of


@cache
def _pci_ids(root: Path) -> dict[tuple[int, int], str]:
    """pci.ids: vendor lines flush left, device lines behind one tab, subsystems behind two."""
    for name in _PCI_IDS:
        with contextlib.suppress(OSError):
            return _parse_pci_ids((root / name).read_text("utf-8", errors="replace"))
    return {}


def _parse_pci_ids(text: str) -> dict[tuple[int, int], str]:
    names: dict[tuple[int, int], str] = {}
    vendor = -1
    for line in text.splitlines():
        if not line or line[0] == "#" or line.startswith("\t\t"):
            continue
        if line.startswith("C "):
            break  # device classes follow
        code, _, name = line.strip().partition("  ")
        with contextlib.suppress(ValueError):
            if line[0] == "\t":
                names[vendor, int(code, 16)] = name
            else:
                vendor = int(code, 16)
    return names


def _from_udev(address: PciAddress) -> str | None:
    try:
        import pyudev  # noqa: PLC0415  (dear to import; only a live host needs it)
    except ImportError:  # libudev is missing: the other sources remain
        return None
    try:
        device = pyudev.Devices.from_name(pyudev.Context(), "pci", str(address))
    except pyudev.DeviceNotFoundError:
        return None
    name = device.properties.get("ID_MODEL_FROM_DATABASE")
    return str(name) if name else None
