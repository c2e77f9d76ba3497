"""What a machine consists of: the words that tests and TOML files describe one with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.hosts.config_space import Config

MEM, IO, PREFETCH, MEM_64, UNSET = 0x200, 0x100, 0x2000, 0x100000, 0x2000_0000
"""Flags of the kernel's resources (include/linux/ioport.h)."""


@dataclass(frozen=True)
class Region:
    """A line of sysfs `resource`. One that is unassigned has its size, and no place."""

    index: int
    start: int
    size: int
    flags: int = MEM


@dataclass(frozen=True)
class Input:
    """A keyboard or mouse at a USB controller."""

    name: str
    number: int
    keyboard: bool = True


@dataclass(frozen=True)
class Function:
    """One PCI function; `group` None: the kernel put it into no IOMMU group."""

    address: str
    ids: tuple[str, str, str]
    """Vendor, device, class: hex digits without 0x."""
    group: int | None = None
    driver: str | None = None
    boot_vga: bool | None = None
    reset: str | None = "bus"
    interfaces: tuple[str, ...] = ()
    numa_node: int = -1
    parent: str | None = None
    """Address of the bridge (or the VMD controller) above; None: on a root bus."""
    root: str = "pci0000:00"
    """Of a function on a root bus: the folder of that bus below sys/devices."""
    subsystem: tuple[str, str] | None = None
    config: Config | bytes | None = None
    """None: the file is not there."""
    acs_quirk: bool | None = None
    """What the kernel's table of devices says on ACS, whatever the registers say; None: nothing."""
    regions: tuple[Region, ...] | None = None
    power_state: str | None = None
    d3cold_allowed: bool | None = None
    removable: str | None = None
    """fixed, removable or unknown."""
    physfn: str | None = None
    """Of a virtual function: its physical function."""
    mdev: Mapping[str, tuple[str, ...]] | None = None
    """Of an mdev parent: type -> UUIDs of the mediated devices that exist."""
    cards: tuple[str, ...] = ()
    """DRM devices: card0, renderD128."""
    nvidia_minor: int | None = None
    """N of /dev/nvidiaN, where NVIDIA's driver has the function."""
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True)
class Block:
    """A block device: a disk, a partition, or one made of others."""

    name: str
    number: str
    """major:minor."""
    function: str | None = None
    """Of a disk: the PCI function of its controller."""
    partition_of: str | None = None
    slaves: tuple[str, ...] = ()
    """Of dm and md devices: what they are made of."""
    dm: tuple[str, str] | None = None
    """Name and UUID of a device-mapper device: ("vg0-root", "LVM-...")."""
    md_level: str | None = None
    multipath: bool = False
    """Of an NVMe disk: it hangs below its subsystem; only a hidden path is below the function."""


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo."""

    point: str
    filesystem: str
    source: str
    number: str
    """major:minor; 0:N for file systems without one device, such as btrfs."""


@dataclass(frozen=True)
class Process:
    """A process, and the device nodes that it holds open."""

    pid: int
    command: str
    opens: tuple[str, ...] = ()


@dataclass(frozen=True)
class VirtualInterface:
    """A bridge, a bond or a VLAN on top of other interfaces."""

    name: str
    kind: str
    """bridge, bond or vlan."""
    lower: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """A host: a healthy one, unless something else is said. `acpi` holds names of ACPI tables."""

    functions: tuple[Function, ...]
    cmdline: str = "root=/dev/vda1 ro"
    cpu: str = "GenuineIntel"
    acpi: tuple[str, ...] = ("APIC", "DMAR", "FACP")
    iommus: tuple[str, ...] = ("dmar0",)
    files: dict[str, bytes] = field(default_factory=dict)
    """More files, or other contents for those above: path -> bytes."""
    arch: str = "x86_64"
    release: str = "6.12.0-amd64"
    interrupt_remapping: bool | None = True
    """None: no /proc/interrupts."""
    vfio_pci: str | None = "module"
    """module, builtin or None."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Lines of modules.alias: pattern, module."""
    kvm: bool = True
    cpu_flags: tuple[str, ...] | None = None
    """None: what the CPU's vendor calls its virtualization: vmx or svm."""
    secure_boot: bool | None = None
    lockdown: str | None = None
    memlock_kib: int | None = None
    framebuffers: tuple[tuple[str, int, int], ...] = ()
    """Name, first and last byte: lines of /proc/iomem."""
    blocks: tuple[Block, ...] = ()
    mounts: tuple[Mount, ...] = ()
    btrfs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """UUID of a btrfs -> block devices that it is made of."""
    swaps: tuple[str, ...] = ()
    """Names of block devices."""
    default_route: str | None = None
    """The interface of it."""
    virtual_interfaces: tuple[VirtualInterface, ...] = ()
    ps2_keyboard: bool = False
    processes: tuple[Process, ...] = ()
    nodes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """NUMA node -> hugepages of 2 MiB: all, free."""
    memory: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """NUMA node -> MiB: all, free."""
    distances: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """NUMA node -> its distances to all nodes."""
    cores: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """NUMA node (a package, too) -> the CPUs of each of its cores; none: nothing tells of CPUs."""
    offline: tuple[int, ...] = ()
    """Of those the CPUs that are offline."""
    isolated: tuple[int, ...] = ()
    """Of those the CPUs that the scheduler leaves alone."""
