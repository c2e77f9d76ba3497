"""PCI functions, and several of anything, in words."""

from collections.abc import Sequence

from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.model import PciDevice


def describe(device: PciDevice) -> str:
    """A function in half a line: address, class, ids, name, driver, interfaces."""
    words = [str(device.address), class_name(device.pci_class), f"[{device.ids}]"]
    if device.name:
        words.append(device.name)
    words.append(f"(driver {device.driver})" if device.driver else "(no driver)")
    if device.interfaces:
        words.append("interface " + ", ".join(device.interfaces))
    return " ".join(words)


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def is_free(device: PciDevice) -> bool:
    """Whether no driver of the host has a function: none at all, or one that keeps it for guests.

    Besides vfio-pci there are drivers of VFIO's for some devices, such as nvgrace-gpu-vfio-pci.
    """
    return device.driver is None or device.driver == "pci-stub" or "vfio" in device.driver
