"""Hardware names: from udev's hwdb on the live host, from pci.ids, else from the shipped table."""

import contextlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vfio_kit.host.tree import LONG, Tree, printable
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.model import PciAddress, PciDevice

if TYPE_CHECKING:
    import pyudev

_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids")


class Names:
    """What hardware is called on the machine whose tree is at `root`.

    Called with a PCI function, it names that function; udev is asked on the live host alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._live = root == Path("/")

    def __call__(self, device: PciDevice) -> str | None:
        udev = _from_udev(device.address) if self._live else None
        return udev or self._listed(device.vendor_id, device.device_id)

    def by_ids(self, vendor_id: int, device_id: int) -> str | None:
        """The name of a device that this machine need not have."""
        from vfio_kit.host.hwdb import hwdb_name  # noqa: PLC0415  (ctypes is dear to import)

        hwdb = hwdb_name(vendor_id, device_id) if self._live else None
        return hwdb or self._listed(vendor_id, device_id)

    def of_vendor(self, vendor_id: int) -> dict[int, str]:
        """Device id -> name, of all devices of a vendor that are listed.

        The hwdb can be asked, not listed; so these are pci.ids and the shipped table.
        """
        listed = SHIPPED_NAMES | _pci_ids(self._root)
        return {
            device: printable(name)
            for (vendor, device), name in listed.items()
            if vendor == vendor_id
        }

    def _listed(self, vendor_id: int, device_id: int) -> str | None:
        ids = (vendor_id, device_id)
        return printable(_pci_ids(self._root).get(ids, "")) or SHIPPED_NAMES.get(ids)


def name_lookup(root: Path) -> Names:
    """The names of the machine whose tree is at `root`."""
    return Names(root)


@cache
def _pci_ids(root: Path) -> dict[tuple[int, int], str]:
    """pci.ids: vendor lines flush left, device lines behind one tab, subsystems behind two."""
    tree = Tree(root)
    listed = (tree.data(name, LONG, private=True) for name in _PCI_IDS)
    data = next((data for data in listed if data is not None), b"")
    return _parse_pci_ids(data.decode("utf-8", errors="replace"))


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

        device = pyudev.Devices.from_name(_udev(), "pci", str(address))
    except ImportError:  # libudev is missing, or cannot be loaded: the other sources remain
        return None
    except pyudev.DeviceNotFoundError:
        return None
    name = device.properties.get("ID_MODEL_FROM_DATABASE")
    return printable(str(name)) if name else None


@cache
def _udev() -> "pyudev.Context":
    """The connection to udev's database; raises ImportError where libudev cannot be loaded."""
    import pyudev  # noqa: PLC0415  (as above)

    return pyudev.Context()
