"""Nouns of PCI: addresses, functions, and what their config space and resources say."""

import re
from dataclasses import dataclass
from enum import IntEnum

from vfio_kit.errors import UsageError

_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[01][0-9a-f])\.(?P<fn>[0-7])"
)


@dataclass(frozen=True, order=True, slots=True)
class PciAddress:
    """Where a PCI function sits: domain, bus, device ("slot") and function, as the kernel names it.

    VMD and some ARM hosts have domains above ffff; they print with as many digits as they need.
    """

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> "PciAddress":
        """Reads `0000:01:00.0` or, in domain 0, `01:00.0`; raises UsageError on anything else."""
        match = _ADDRESS.fullmatch(text.strip().lower())
        if match is None:
            raise UsageError(
                f"{text!r} is not a PCI address",
                "write it as lspci does: 01:00.0, or 0000:01:00.0 with its domain",
            )
        domain = int(match["domain"] or "0", 16)
        return cls(domain, int(match["bus"], 16), int(match["device"], 16), int(match["fn"]))

    @property
    def slot(self) -> tuple[int, int, int]:
        """What all functions of one device share: domain, bus, device."""
        return (self.domain, self.bus, self.device)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"


class PcieType(IntEnum):
    """Device/Port Type of the PCI Express capability (PCIe base specification, 7.5.3.2)."""

    ENDPOINT = 0x0
    LEGACY_ENDPOINT = 0x1
    ROOT_PORT = 0x4
    UPSTREAM_PORT = 0x5
    DOWNSTREAM_PORT = 0x6
    PCIE_TO_PCI_BRIDGE = 0x7
    PCI_TO_PCIE_BRIDGE = 0x8
    RC_INTEGRATED_ENDPOINT = 0x9
    RC_EVENT_COLLECTOR = 0xA


@dataclass(frozen=True, slots=True)
class Acs:
    """Access Control Services: the capability and control registers, 16 bits each.

    Bits: 0 source validation, 1 translation blocking, 2 P2P request redirect, 3 P2P completion
    redirect, 4 upstream forwarding, 5 egress control, 6 direct translated P2P.
    """

    capability: int
    control: int


@dataclass(frozen=True, slots=True)
class ConfigSpace:
    """What matters of a function's config space. An ordinary user sees its first 64 bytes alone."""

    multifunction: bool
    """Bit 7 of the header type."""
    capabilities_read: bool
    """Whether the capabilities beyond the first 64 bytes could be read (root only)."""
    extended_read: bool
    """Whether the extended config space (from 256 bytes on), where ACS stands, could be read."""
    pcie_type: int | None = None
    """Device/Port Type (`PcieType`); None: a conventional PCI function, or nothing was read."""
    acs: Acs | None = None
    """None: no ACS capability, or, where `extended_read` is false, unknown."""
    msi: bool = False
    msix: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A region of a function, from sysfs `resource`: lines 0 to 5 are the BARs."""

    index: int
    start: int
    """Physical address; 0 where the kernel assigned none."""
    size: int
    """Bytes."""
    io: bool = False
    is_64bit: bool = False
    prefetchable: bool = False
    unassigned: bool = False
    """The kernel found no place for it (IORESOURCE_UNSET, or an address of 0)."""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function, as sysfs shows it.

    What stands below `upstream` is read for GPUs, the functions of their slots, the members of
    their groups and the bridges above them alone.
    """

    address: PciAddress
    vendor_id: int
    device_id: int
    class_code: int
    """24 bits: base class, subclass, programming interface."""
    driver: str | None = None
    iommu_group: int | None = None
    upstream: tuple[PciAddress, ...] = ()
    """The functions above it in sysfs, from the root complex down: root port, switch ports, a VMD
    controller. Empty on the root bus."""
    subsystem_vendor_id: int | None = None
    subsystem_device_id: int | None = None
    name: str | None = None
    """From the udev hwdb, pci.ids or the shipped table; None where nobody knows."""
    numa_node: int | None = None
    boot_vga: bool = False
    reset_methods: tuple[str, ...] | None = None
    """Tokens of sysfs `reset_method`; None where the kernel has no such attribute (before 5.15)."""
    interfaces: tuple[str, ...] = ()
    """Network interfaces on top of this function."""
    config: ConfigSpace | None = None
    silent: bool = False
    """Its config space reads 0xff throughout: it has fallen off the bus, or does not wake up."""
    bars: tuple[Bar, ...] = ()
    """Regions 0 to 5 that have a size."""
    power_state: str | None = None
    """D0, D1, D2, D3hot, D3cold, unknown or error, as sysfs `power_state` says."""
    d3cold_allowed: bool | None = None
    physical_function: PciAddress | None = None
    """Of an SR-IOV virtual function: the physical function that it belongs to."""
    virtual_functions: int = 0
    """SR-IOV virtual functions that are switched on (sriov_numvfs)."""
    mediated_devices: int | None = None
    """Mediated devices (mdev) that exist on it; None where it is no mdev parent."""
    external: bool = False
    """sysfs `removable` says removable: plugged in by Thunderbolt, USB4 or a hot-plug slot outside
    the case."""
    drivers_that_match: tuple[str, ...] = ()
    """Kernel modules whose aliases match the function (modules.alias): what would grab it."""

    @property
    def pci_class(self) -> str:
        """Base class and subclass, four hex digits, as in `lspci -n`: 0300, 0302."""
        return f"{self.class_code >> 8:04x}"

    @property
    def ids(self) -> str:
        return f"{self.vendor_id:04x}:{self.device_id:04x}"

    @property
    def is_gpu(self) -> bool:
        """A display controller (base class 03); NVIDIA's Teslas are 0302, not 0300."""
        return self.class_code >> 16 == 0x03

    @property
    def is_bridge(self) -> bool:
        """Host, PCI-to-PCI, CardBus and semi-transparent bridges: never handed to a guest."""
        return self.class_code >> 8 in (0x0600, 0x0604, 0x0607, 0x0609)
