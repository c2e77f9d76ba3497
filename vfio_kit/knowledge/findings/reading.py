"""VK5xx: what could not be read."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import PROC, SYSFS_PCI
from vfio_kit.model import Level

UNREADABLE = FindingKind(
    "VK501",
    Level.WARN,
    "an attribute could not be read",
    story="""
    A file of sysfs or procfs that the scan rests on gave an error, or held something that cannot be
    meant; the finding names the file and the reason. What it would have said is left out, and
    nothing is guessed in its place: a verdict can lack a reason because of it.

    Permission is the plain case (VK502). "No such device" or an input/output error is a device that
    went away during the scan. Something malformed is a kernel, a driver or a tree of files that the
    tool does not know.
    """,
    remedy=(
        """Scan as root:
        $ sudo vfio-kit scan""",
        """If it stays, look at the file that is named, and at the kernel's log:
        $ sudo dmesg | tail""",
        """Report a machine that is read wrongly, with a snapshot, which holds no serial numbers,
        addresses of its network, or names:
        $ sudo vfio-kit snapshot""",
    ),
    sources=(SYSFS_PCI, PROC),
)
NOT_ROOT = FindingKind(
    "VK502",
    Level.INFO,
    "not run as root: some things cannot be seen",
    story="""
    The scan works for ordinary users: groups, drivers and mounts are public, so the verdict on the
    isolation is the same. What the kernel shows to root alone is missing. Config space ends after
    64 bytes, so why a group is as it is (VK105 to VK108) and which interrupts a device has (VK305,
    VK306) stay unknown. `/proc/iomem` has zeros in the place of addresses, so a framebuffer in a
    BAR (VK309) is not found. The open files of other users' processes (`/proc/PID/fd`) are closed,
    so who holds the GPU (VK310) is not found either.

    A scan that is quiet about these says that it did not look, not that all is well.
    """,
    remedy=(
        """Scan as root; it changes nothing on the host:
        $ sudo vfio-kit scan""",
    ),
    sources=(SYSFS_PCI, PROC),
)
