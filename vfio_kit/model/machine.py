"""Nouns of the host: what was read of a machine. Nothing in here is a secret of its owner:

the reader keeps serial numbers, MAC and IP addresses, host, user and volume names out, so that a
snapshot of a host and the host itself give the same values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from vfio_kit.model.pci import PciAddress, PciDevice


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """Something in sysfs or procfs that could not be read or made no sense."""

    path: str
    reason: str


class UseKind(StrEnum):
    """What a host does with a device, so that it would be missed."""

    MOUNT = "mount"
    SWAP = "swap"
    DEFAULT_ROUTE = "default-route"
    SSH_SESSION = "ssh-session"
    KEYBOARD = "keyboard"


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a PCI function by the host."""

    device: PciAddress
    """The PCI function at the bottom: the NVMe or SATA controller, the NIC, the USB controller."""
    kind: UseKind
    what: str
    """The mount point, the swap device, the interface; "the only keyboard"."""
    through: tuple[str, ...] = ()
    """What lies between, from the PCI function up, in the kernel's names: nvme0n1p3, md0 (raid1),
    dm-0 (crypt), dm-1 (lvm), "a btrfs of 2 devices"."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a device node of a PCI function open."""

    device: PciAddress
    node: str
    """/dev/nvidia0, /dev/dri/card1, /dev/vfio/17."""
    pid: int
    command: str
    """The kernel's name of the process (comm, at most 15 characters)."""


@dataclass(frozen=True, slots=True)
class Framebuffer:
    """A region of memory that firmware's display is in (/proc/iomem), last byte included."""

    name: str
    """simple-framebuffer, simplefb, efifb, BOOTFB, vesafb."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A node of memory; hugepages: page size in KiB -> (pages there are, pages free)."""

    number: int
    hugepages: Mapping[int, tuple[int, int]]
    memory_mib: int | None = None
    """MemTotal of the node; None: could not be told."""
    free_mib: int | None = None
    """What of it could be had: MemFree, and the file pages that nobody writes to."""
    distances: tuple[int, ...] = ()
    """To the nodes, in order of their numbers (ACPI SLIT: 10 is here)."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """A logical CPU that is online."""

    number: int
    siblings: tuple[int, ...]
    """The logical CPUs of its core that are online, itself included, in order."""
    node: int = 0
    package: int = 0
    isolated: bool = False
    """The scheduler moves nothing to it by itself (isolcpus=): it was set aside, for guests say."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What of the machine a passthrough rests on. None everywhere: could not be told."""

    interrupt_remapping: bool | None = None
    unsafe_interrupts: bool | None = None
    """vfio_iommu_type1's allow_unsafe_interrupts."""
    vfio_pci: bool | None = None
    """The driver is there, built in, or a module of the running kernel."""
    kvm: bool | None = None
    """/dev/kvm is there."""
    virtualization: str | None = None
    """The CPU's own support, as /proc/cpuinfo names it: vmx, svm; "" for none."""
    secure_boot: bool | None = None
    lockdown: str | None = None
    """none, integrity or confidentiality."""
    memlock_kib: int | None = None
    """Soft RLIMIT_MEMLOCK of this process in KiB; -1 for unlimited."""
    nodes: tuple[NumaNode, ...] = ()
    cpus: tuple[Cpu, ...] = ()
    """By their numbers; empty: could not be told."""
    holders_seen: bool = True
    """Whether the open files of all processes could be looked at, in time (root only)."""
    framebuffers: tuple[Framebuffer, ...] = ()
    root: bool | None = None
    """Whether the reader was root."""


@dataclass(frozen=True, slots=True)
class Host:
    """What was read of a machine. `devices` is sorted by address."""

    devices: tuple[PciDevice, ...]
    iommu_groups: Mapping[int, tuple[PciAddress, ...]]
    """Group number -> members; numbers need not be contiguous."""
    iommus: tuple[str, ...] = ()
    """Names in /sys/class/iommu: dmar0, ivhd0, smmu3.0x…"""
    cmdline: str = ""
    """The words of the kernel's command line that concern passthrough, in their order."""
    cpu_vendor: str = ""
    acpi_tables: frozenset[str] = frozenset()
    machine: str = "x86_64"
    kernel_release: str = ""
    platform: Platform = Platform()
    uses: tuple[Use, ...] = ()
    holders: tuple[Holder, ...] = ()
    problems: tuple[ReadProblem, ...] = ()
    _index: "_Index" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", _Index(self.devices, self.iommu_groups))

    def device(self, address: PciAddress) -> PciDevice | None:
        return self._index.by_address.get(address)

    def gpus(self) -> Iterator[PciDevice]:
        return (device for device in self.devices if device.is_gpu)

    def slot_of(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """All functions of the device's slot, itself included, in order of their numbers."""
        return tuple(self._index.by_slot.get(device.address.slot, ()))

    def unread_in_slot_of(self, device: PciDevice) -> tuple[PciAddress, ...]:
        """Functions of the device's slot that a group lists, and that could not be read."""
        return tuple(self._index.unread.get(device.address.slot, ()))

    def below(self, bridge: PciAddress) -> tuple[PciDevice, ...]:
        """All functions below a bridge, at any depth, in order of their addresses."""
        return tuple(self._index.below.get(bridge, ()))

    def virtual_functions_of(self, function: PciAddress) -> tuple[PciDevice, ...]:
        """The SR-IOV virtual functions of a physical one, in order of their addresses."""
        return tuple(self._index.virtual.get(function, ()))

    def bridges(self) -> tuple[PciDevice, ...]:
        """All bridges, in order of their addresses."""
        return tuple(self._index.bridges)


class _Index:
    """Who stands where: a host may have thousands of functions, and each GPU asks."""

    __slots__ = ("below", "bridges", "by_address", "by_slot", "unread", "virtual")

    def __init__(
        self,
        devices: tuple[PciDevice, ...],
        groups: Mapping[int, tuple[PciAddress, ...]],
    ) -> None:
        self.by_address = {device.address: device for device in devices}
        self.by_slot: dict[tuple[int, int, int], list[PciDevice]] = {}
        self.below: dict[PciAddress, list[PciDevice]] = {}
        self.virtual: dict[PciAddress, list[PciDevice]] = {}
        self.unread: dict[tuple[int, int, int], list[PciAddress]] = {}
        for member in chain.from_iterable(groups.values()):
            if member not in self.by_address:
                self.unread.setdefault(member.slot, []).append(member)
        self.bridges = [device for device in devices if device.is_bridge]
        for device in devices:
            self.by_slot.setdefault(device.address.slot, []).append(device)
            for above in dict.fromkeys(device.upstream):
                self.below.setdefault(above, []).append(device)
            if device.physical_function is not None:
                self.virtual.setdefault(device.physical_function, []).append(device)
