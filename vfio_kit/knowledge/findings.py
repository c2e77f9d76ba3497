"""The findings: stable codes, their weight and their name.

VK1xx isolation, VK2xx IOMMU, VK3xx device, VK5xx what could not be read.
"""

from dataclasses import dataclass

from vfio_kit.model import Finding, Level, PciAddress


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A row of the table; `title` fits behind the code in a list."""

    code: str
    level: Level
    title: str


SHARED_GROUP = FindingKind("VK101", Level.BLOCK, "a foreign endpoint shares the IOMMU group")
SPLIT_SLOT = FindingKind("VK102", Level.WARN, "a function of the slot sits in another IOMMU group")
ACS_OVERRIDE = FindingKind("VK103", Level.WARN, "IOMMU groups were split by pcie_acs_override")
UNKNOWN_MEMBER = FindingKind("VK104", Level.BLOCK, "a member of the IOMMU group is unreadable")
NO_IOMMU = FindingKind("VK201", Level.BLOCK, "the kernel has no IOMMU groups")
NO_GROUP = FindingKind("VK202", Level.BLOCK, "the IOMMU does not cover the device")
BOOT_DISPLAY = FindingKind("VK301", Level.BLOCK, "the GPU is the boot display")
NO_RESET = FindingKind("VK302", Level.WARN, "the kernel knows no way to reset the GPU")
UNREADABLE = FindingKind("VK501", Level.WARN, "an attribute could not be read")

FINDING_KINDS: tuple[FindingKind, ...] = (
    SHARED_GROUP,
    SPLIT_SLOT,
    ACS_OVERRIDE,
    UNKNOWN_MEMBER,
    NO_IOMMU,
    NO_GROUP,
    BOOT_DISPLAY,
    NO_RESET,
    UNREADABLE,
)


def finding(kind: FindingKind, device: PciAddress | None, message: str, hint: str = "") -> Finding:
    """A finding of this kind about `device`."""
    return Finding(kind.code, kind.level, device, message, hint)
