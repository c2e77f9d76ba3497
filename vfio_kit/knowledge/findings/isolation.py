"""VK1xx: whether the device is alone, and what it is that stands there."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

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
