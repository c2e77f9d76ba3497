"""What is above a function, as far as it is known."""

from vfio_kit.knowledge.vmd import VMD_DEVICES
from vfio_kit.model import Host, PciDevice

_INTEL = 0x8086
_RAID = "0104"


def path(host: Host, device: PciDevice) -> tuple[PciDevice, ...]:
    """The functions above a device, from the root complex down, each once.

    What could not be read, and what a malformed tree says to be above itself, is left out.
    """
    above = dict.fromkeys(a for a in device.upstream if a != device.address)
    return tuple(one for one in map(host.device, above) if one is not None)


def vmd_above(host: Host, device: PciDevice) -> PciDevice | None:
    """The Intel VMD controller that carries the device, if one does."""
    return next((one for one in path(host, device) if is_vmd(one, device)), None)


def is_vmd(above: PciDevice, device: PciDevice) -> bool:
    """Whether `above` is the VMD controller whose PCI domain `device` is in."""
    return (
        above.vendor_id == _INTEL
        and (above.pci_class == _RAID or above.device_id in VMD_DEVICES)
        and above.address.domain != device.address.domain
    )
