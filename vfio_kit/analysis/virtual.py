"""SR-IOV, mediated devices, VMD, Thunderbolt: devices that are more or less than a PCI card."""

from vfio_kit.model import Finding, Host, PciDevice


def virtual_findings(host: Host, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """What is particular about the functions that go."""
    return []
