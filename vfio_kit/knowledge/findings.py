"""The findings: stable codes, their weight, their name, and the whole story behind each.

VK1xx isolation, VK2xx IOMMU and the host's readiness, VK3xx the device, VK4xx what the host would
lose, VK5xx what could not be read. `vfio-kit explain` and docs/findings.md print this table.
"""

from dataclasses import dataclass

from vfio_kit.model import Finding, Level, PciAddress


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A row of the table; `title` fits behind the code in a list."""

    code: str
    level: Level
    title: str
    acceptable: bool = False
    """Whether `--accept-loss` with the finding's device lifts the block."""


SHARED_GROUP = FindingKind("VK101", Level.BLOCK, "a foreign endpoint shares the IOMMU group")
SPLIT_SLOT = FindingKind("VK102", Level.WARN, "a function of the slot sits in another IOMMU group")
ACS_OVERRIDE = FindingKind(
    "VK103", Level.BLOCK, "IOMMU groups were split by pcie_acs_override", acceptable=True
)
UNKNOWN_MEMBER = FindingKind("VK104", Level.BLOCK, "a member of the IOMMU group is unreadable")
CONVENTIONAL_BRIDGE = FindingKind(
    "VK105", Level.INFO, "a conventional PCI bridge holds the group together"
)
PORT_WITHOUT_ACS = FindingKind("VK106", Level.INFO, "a port without ACS holds the group together")
FUNCTIONS_WITHOUT_ACS = FindingKind(
    "VK107", Level.INFO, "a multifunction device without ACS holds the group together"
)
ACS_UNREADABLE = FindingKind("VK108", Level.INFO, "why the group is as it is could not be read")
DUAL_BOARD = FindingKind("VK109", Level.INFO, "the GPU is one of several on a board")
VIRTUAL_FUNCTION = FindingKind("VK110", Level.INFO, "the GPU is an SR-IOV virtual function")
HAS_VIRTUAL_FUNCTIONS = FindingKind(
    "VK111", Level.BLOCK, "virtual functions of the device are switched on", acceptable=True
)
HAS_MEDIATED_DEVICES = FindingKind(
    "VK112", Level.BLOCK, "mediated devices (vGPU) exist on the device", acceptable=True
)
BEHIND_VMD = FindingKind("VK113", Level.WARN, "the device sits behind an Intel VMD controller")
EXTERNAL = FindingKind("VK114", Level.WARN, "the device can be unplugged (Thunderbolt, USB4)")

NO_IOMMU = FindingKind("VK201", Level.BLOCK, "the kernel has no IOMMU groups")
NO_GROUP = FindingKind("VK202", Level.BLOCK, "the IOMMU does not cover the device")
NO_INTERRUPT_REMAPPING = FindingKind("VK203", Level.BLOCK, "interrupts are not remapped")
UNSAFE_INTERRUPTS = FindingKind("VK204", Level.WARN, "unsafe interrupts are allowed")
NO_VFIO_PCI = FindingKind("VK205", Level.BLOCK, "this kernel has no vfio-pci")
NO_KVM = FindingKind("VK206", Level.BLOCK, "KVM is not available")
SECURE_BOOT = FindingKind("VK207", Level.INFO, "Secure Boot is on")
LOCKDOWN = FindingKind("VK208", Level.INFO, "the kernel is locked down")
MEMLOCK = FindingKind("VK209", Level.INFO, "the limit of locked memory is below a guest's needs")

BOOT_DISPLAY = FindingKind("VK301", Level.BLOCK, "the GPU is the boot display", acceptable=True)
NO_RESET = FindingKind("VK302", Level.WARN, "the kernel knows no way to reset the GPU")
BUS_RESET_SCOPE = FindingKind("VK303", Level.WARN, "a reset would hit devices that stay")
POWERED_DOWN = FindingKind("VK304", Level.WARN, "the device is powered down or lost")
NO_MSI = FindingKind("VK305", Level.WARN, "the device has no MSI")
MSI_ONLY = FindingKind("VK306", Level.INFO, "the device has MSI and no MSI-X")
MMIO_WINDOW = FindingKind("VK307", Level.INFO, "the BARs need a 64-bit MMIO window in the guest")
BAR_UNASSIGNED = FindingKind("VK308", Level.WARN, "a BAR has no address")
FRAMEBUFFER = FindingKind(
    "VK309", Level.BLOCK, "the firmware's framebuffer is in a BAR of the device", acceptable=True
)
HELD_OPEN = FindingKind("VK310", Level.BLOCK, "a process holds the device open")
DRIVER_BOUND = FindingKind("VK311", Level.INFO, "a driver of the host has the device")
DRIVER_MATCHES = FindingKind("VK312", Level.INFO, "a driver of the host would grab the device")
NUMA_HUGEPAGES = FindingKind("VK313", Level.INFO, "hugepages on the NUMA node of the device")
NUMA_UNKNOWN = FindingKind("VK314", Level.INFO, "which NUMA node is near the device is unknown")

FILESYSTEM = FindingKind("VK401", Level.BLOCK, "a mounted filesystem is on it", acceptable=True)
SWAP = FindingKind("VK402", Level.BLOCK, "swap is on it", acceptable=True)
DEFAULT_ROUTE = FindingKind("VK403", Level.BLOCK, "the default route is over it", acceptable=True)
SSH_SESSION = FindingKind("VK404", Level.BLOCK, "this SSH session is over it", acceptable=True)
BMC_CONSOLE = FindingKind("VK405", Level.BLOCK, "it is the BMC's console", acceptable=True)
KEYBOARD = FindingKind("VK406", Level.BLOCK, "the only keyboard is on it", acceptable=True)

UNREADABLE = FindingKind("VK501", Level.WARN, "an attribute could not be read")
NOT_ROOT = FindingKind("VK502", Level.INFO, "not run as root: some things cannot be seen")

FINDING_KINDS: tuple[FindingKind, ...] = (
    SHARED_GROUP,
    SPLIT_SLOT,
    ACS_OVERRIDE,
    UNKNOWN_MEMBER,
    CONVENTIONAL_BRIDGE,
    PORT_WITHOUT_ACS,
    FUNCTIONS_WITHOUT_ACS,
    ACS_UNREADABLE,
    DUAL_BOARD,
    VIRTUAL_FUNCTION,
    HAS_VIRTUAL_FUNCTIONS,
    HAS_MEDIATED_DEVICES,
    BEHIND_VMD,
    EXTERNAL,
    NO_IOMMU,
    NO_GROUP,
    NO_INTERRUPT_REMAPPING,
    UNSAFE_INTERRUPTS,
    NO_VFIO_PCI,
    NO_KVM,
    SECURE_BOOT,
    LOCKDOWN,
    MEMLOCK,
    BOOT_DISPLAY,
    NO_RESET,
    BUS_RESET_SCOPE,
    POWERED_DOWN,
    NO_MSI,
    MSI_ONLY,
    MMIO_WINDOW,
    BAR_UNASSIGNED,
    FRAMEBUFFER,
    HELD_OPEN,
    DRIVER_BOUND,
    DRIVER_MATCHES,
    NUMA_HUGEPAGES,
    NUMA_UNKNOWN,
    FILESYSTEM,
    SWAP,
    DEFAULT_ROUTE,
    SSH_SESSION,
    BMC_CONSOLE,
    KEYBOARD,
    UNREADABLE,
    NOT_ROOT,
)


def finding(kind: FindingKind, device: PciAddress | None, message: str, hint: str = "") -> Finding:
    """A finding of this kind about `device`."""
    return Finding(kind.code, kind.level, device, message, hint, kind.acceptable)
