"""PCI functions in words."""

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
