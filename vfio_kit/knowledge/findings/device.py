"""VK3xx: whether the device itself is ready to go."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

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
