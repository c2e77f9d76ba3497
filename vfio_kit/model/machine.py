"""Nouns of the host: PCI functions, IOMMU groups, findings, verdicts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function, as sysfs shows it."""

    address: PciAddress
    vendor_id: int
    device_id: int
    class_code: int
    """24 bits: base class, subclass, programming interface."""
    driver: str | None = None
    iommu_group: int | None = None
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


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """Something in sysfs or procfs that could not be read or made no sense."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Host:
    """What was read of a machine. `devices` is sorted by address."""

    devices: tuple[PciDevice, ...]
    iommu_groups: Mapping[int, tuple[PciAddress, ...]]
    """Group number -> members; numbers need not be contiguous."""
    iommus: tuple[str, ...] = ()
    """Names in /sys/class/iommu: dmar0, ivhd0, smmu3.0x…"""
    cmdline: str = ""
    cpu_vendor: str = ""
    acpi_tables: frozenset[str] = frozenset()
    machine: str = "x86_64"
    kernel_release: str = ""
    problems: tuple[ReadProblem, ...] = ()
    _by_address: dict[PciAddress, PciDevice] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._by_address.update({device.address: device for device in self.devices})

    def device(self, address: PciAddress) -> PciDevice | None:
        return self._by_address.get(address)

    def gpus(self) -> Iterator[PciDevice]:
        return (device for device in self.devices if device.is_gpu)

    def slot_of(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """All functions of the device's slot, itself included, in order of their numbers."""
        return tuple(d for d in self.devices if d.address.slot == device.address.slot)


class Level(StrEnum):
    """How much a finding weighs."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one device, with the next step. Codes: knowledge/findings."""

    code: str
    level: Level
    device: PciAddress | None
    message: str
    hint: str = ""


class Verdict(StrEnum):
    """Whether a GPU can go to a guest."""

    ISOLATED = "isolated"
    SHARED = "shared"
    NO_IOMMU = "no-iommu"


@dataclass(frozen=True, slots=True)
class GpuReport:
    """The verdict on one GPU and what it rests on."""

    gpu: PciDevice
    verdict: Verdict
    functions: tuple[PciDevice, ...]
    """All that go along with the GPU, itself included."""
    foreign_endpoints: tuple[PciDevice, ...]
    bridges: tuple[PciDevice, ...]
    findings: tuple[Finding, ...]

    @property
    def can_go(self) -> bool:
        return self.verdict is Verdict.ISOLATED and not any(
            finding.level is Level.BLOCK for finding in self.findings
        )
