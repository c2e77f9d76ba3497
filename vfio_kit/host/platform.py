"""The platform: CPU, kernel, firmware, limits, memory."""

import os
import re
from collections.abc import Set as AbstractSet

from vfio_kit.host.tree import LONG, Tree
from vfio_kit.model import Platform

_CONCERNING = re.compile(
    r"(intel_iommu|amd_iommu|iommu|iommu\.[a-z_]+|pcie_acs_override|intremap|nointremap|no_x2apic"
    r"|pci|pcie_aspm|vfio[-_.a-z]*|hugepages|hugepagesz|default_hugepagesz|video|lockdown"
    r"|modprobe\.blacklist|rd\.driver\.blacklist|rd\.driver\.pre|nomodeset|isolcpus)(=|$)"
)


def concerning_words(tree: Tree) -> str:
    """The words of the kernel's command line that concern passthrough; the rest is nobody's."""

    def extract() -> str:
        words = (tree.text("proc/cmdline") or "").split()
        return " ".join(word for word in words if _CONCERNING.match(word))

    return tree.extract("cmdline", extract) or ""


def first_processor(tree: Tree) -> str:
    """Of the first processor in cpuinfo its vendor and its flags."""

    def extract() -> str:
        # The file grows with the number of CPUs; the first one is enough.
        text = tree.text("proc/cpuinfo", LONG) or ""
        wanted = ("vendor_id", "CPU implementer", "flags")
        first = text.partition("\n\n")[0].splitlines()
        return "\n".join(line for line in first if line.startswith(wanted))

    return tree.extract("cpuinfo", extract) or ""


def cpu_vendor(cpuinfo: str) -> str:
    """vendor_id on x86, the implementer on Arm; empty where cpuinfo names neither."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("vendor_id", "CPU implementer"):
            return value.strip()
    return ""


def architecture(tree: Tree) -> str:
    """The architecture: of the kernel that runs, or as a tree of files tells it."""
    own = os.uname().machine if tree.live else None
    return tree.extract("machine", lambda: own or tree.text("proc/sys/kernel/arch")) or "x86_64"


def read_platform(tree: Tree, cpuinfo: str, nodes: AbstractSet[int | None]) -> Platform:
    """What a passthrough rests on. `nodes`: the NUMA nodes of the GPUs."""
    return Platform()
