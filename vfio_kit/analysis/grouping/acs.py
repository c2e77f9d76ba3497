"""Whether a function keeps its peers apart: Access Control Services, as the kernel reads them.

The kernel's rule is drivers/pci/pci.c, pci_acs_enabled(); what the four services mean stands in
PCI Express Base Specification 3.0, 6.12. The kernel knows ports that isolate without saying so
(drivers/pci/quirks.c, pci_dev_acs_enabled), so a NO of ours explains a group that is shared, and
says nothing against one that is not.
"""

from enum import Enum

from vfio_kit.analysis.describe import listed
from vfio_kit.model import ConfigSpace, PciDevice, PcieType

_NEVER = (PcieType.PCIE_TO_PCI_BRIDGE, PcieType.PCI_TO_PCIE_BRIDGE, PcieType.RC_EVENT_COLLECTOR)
_ALWAYS_ASKED = (PcieType.ROOT_PORT, PcieType.DOWNSTREAM_PORT)
_ASKED_IF_MULTIFUNCTION = (
    PcieType.ENDPOINT,
    PcieType.LEGACY_ENDPOINT,
    PcieType.UPSTREAM_PORT,
    PcieType.RC_INTEGRATED_ENDPOINT,
)
_REQUIRED = {
    0x01: "source validation",
    0x04: "request redirect",
    0x08: "completion redirect",
    0x10: "upstream forwarding",
}
"""Bits of the ACS capability and control registers that the kernel asks of an isolating function.

A bit that the capability lacks counts as hard-wired: there is nothing to redirect."""


class Isolation(Enum):
    """Whether a function keeps its peers, and what is below it, apart."""

    YES = "yes"
    NO = "no"
    UNREAD = "unread"


def isolation(device: PciDevice) -> Isolation:
    """What the config space says; UNREAD where it could not be read far enough to tell."""
    config = device.config
    if config is None or not config.capabilities_read:
        return Isolation.UNREAD
    if config.pcie_type is None or config.pcie_type in _NEVER:
        return Isolation.NO
    asked = config.pcie_type in _ALWAYS_ASKED or (
        config.pcie_type in _ASKED_IF_MULTIFUNCTION and is_multifunction(device, config)
    )
    if not asked:
        return Isolation.YES
    if config.acs is None:
        return Isolation.NO if config.extended_read else Isolation.UNREAD
    return Isolation.NO if _switched_off(config) else Isolation.YES


def is_multifunction(device: PciDevice, config: ConfigSpace) -> bool:
    """As the kernel has it: every function but 0 belongs to several, a virtual function to none."""
    if device.physical_function is not None:
        return False
    return config.multifunction or device.address.function > 0


def conventional_bridge(device: PciDevice) -> str:
    """What kind of bridge to conventional PCI a function is; empty where it is none, or unread."""
    config = device.config
    if not device.is_bridge or config is None or not config.capabilities_read:
        return ""
    if config.pcie_type is None:
        return "conventional PCI bridge"
    if config.pcie_type == PcieType.PCIE_TO_PCI_BRIDGE:
        return "PCIe-to-PCI bridge"
    return "PCI-to-PCIe bridge" if config.pcie_type == PcieType.PCI_TO_PCIE_BRIDGE else ""


def port_type(device: PciDevice) -> str:
    """What kind of PCI Express port a function is; empty where it is none, or unread."""
    kind = None if device.config is None else device.config.pcie_type
    if kind == PcieType.ROOT_PORT:
        return "root port"
    if kind == PcieType.DOWNSTREAM_PORT:
        return "switch downstream port"
    return "switch upstream port" if kind == PcieType.UPSTREAM_PORT else ""


def what_it_lacks(device: PciDevice) -> str:
    """Of a function that does not isolate, the predicate that says why."""
    config = device.config
    if config is None or config.pcie_type is None:
        return "is conventional PCI, which has no ACS"
    off = _switched_off(config)
    if not off:
        return "has no ACS capability"
    verb = "is" if len(off) == 1 else "are"
    return f"has ACS, but {listed(off)} {verb} switched off"


def is_switched_off(device: PciDevice) -> bool:
    """Whether it has ACS and could isolate."""
    return device.config is not None and bool(_switched_off(device.config))


def _switched_off(config: ConfigSpace) -> list[str]:
    if config.acs is None:
        return []
    missing = config.acs.capability & ~config.acs.control
    return [name for bit, name in _REQUIRED.items() if missing & bit]
