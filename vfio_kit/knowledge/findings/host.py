"""VK2xx: whether the machine is ready for any passthrough."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

NO_IOMMU = FindingKind("VK201", Level.BLOCK, "the kernel has no IOMMU groups")
NO_GROUP = FindingKind("VK202", Level.BLOCK, "the IOMMU does not cover the device")
NO_INTERRUPT_REMAPPING = FindingKind("VK203", Level.BLOCK, "interrupts are not remapped")
UNSAFE_INTERRUPTS = FindingKind("VK204", Level.WARN, "unsafe interrupts are allowed")
NO_VFIO_PCI = FindingKind("VK205", Level.BLOCK, "this kernel has no vfio-pci")
NO_KVM = FindingKind("VK206", Level.BLOCK, "KVM is not available")
SECURE_BOOT = FindingKind("VK207", Level.INFO, "Secure Boot is on")
LOCKDOWN = FindingKind("VK208", Level.INFO, "the kernel is locked down")
MEMLOCK = FindingKind("VK209", Level.INFO, "the limit of locked memory is below a guest's needs")
