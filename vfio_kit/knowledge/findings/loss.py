"""VK4xx: what the host would lose with the device."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import BOOT_DEVICE_PASSED, PROC, SYSFS_PCI, VFIO
from vfio_kit.model import Level

FILESYSTEM = FindingKind(
    "VK401",
    Level.BLOCK,
    "a mounted filesystem is on it",
    acceptable=True,
    story="""
    The device would go with the GPU, as a function of its slot or a member of its IOMMU group, and
    a filesystem of the host is on it. The tool follows the mounts (`/proc/self/mountinfo`) down
    through LVM, encryption, RAID and partitions in sysfs to the PCI function at the bottom; the
    finding shows the way, and whether an array lives on without its members there.

    Unbinding a driver does not ask the filesystem. The disk vanishes as if its cable were cut: what
    is not yet written is lost, and every access gives an input/output error. With the root
    filesystem the host is dead at once; not even `ls` or a clean shutdown is left. Made permanent
    (a driver override or vfio-pci.ids at boot), it does not start any more.
    """,
    remedy=(
        """Move one of the two: the disk to another controller, or the GPU to a slot whose group
        does not hold it (VK101).""",
        """If the filesystem may go, unmount it first, take it out of `/etc/fstab`, and scan again;
        MOUNTPOINT is the one that is named:
        $ sudo fuser -vm MOUNTPOINT
        $ sudo umount MOUNTPOINT""",
        """If it is a function of the GPU's own slot and the host can do without what is on it:
        `--accept-loss ADDR`. What only shares the group stays in the way all the same (VK101).""",
    ),
    sources=(BOOT_DEVICE_PASSED, PROC, SYSFS_PCI),
)
SWAP = FindingKind(
    "VK402",
    Level.BLOCK,
    "swap is on it",
    acceptable=True,
    story="""
    The device would go with the GPU, as a function of its slot or a member of its IOMMU group, and
    swap of the host is on it (`/proc/swaps`, followed down to the PCI function). Pages of running
    processes are there. When the device goes, whoever needs such a page is killed by SIGBUS, and
    that may be any process, also a service that has done nothing for days.
    """,
    remedy=(
        """Switch that swap off, which needs as much free memory as is in use there, and take it
        out of `/etc/fstab`; SWAP is the device or file:
        $ swapon --show
        $ sudo swapoff SWAP""",
        "Then scan again; or move the disk or the GPU, as for VK401.",
        """If it is a function of the GPU's own slot, and memory is enough for what is in the swap:
        `--accept-loss ADDR`.""",
    ),
    sources=(PROC, BOOT_DEVICE_PASSED),
)
DEFAULT_ROUTE = FindingKind(
    "VK403",
    Level.BLOCK,
    "the default route is over it",
    acceptable=True,
    story="""
    The device would go with the GPU, as a function of its slot or a member of its IOMMU group, and
    the host's way to everything outside its own networks leads through it: its interface, or a
    bridge, bond or VLAN on top of it, has the default route (`/proc/net/route`,
    `/proc/net/ipv6_route`). When its driver is unbound, the interface is gone in the same moment. A
    remote host is then out of reach, and has no way to tell anybody; guests on a bridge over it
    lose their network, too.
    """,
    remedy=(
        """See which interface it is, and move the route to another card:
        $ ip route show default
        $ ip -6 route show default""",
        "Or move the GPU to a slot whose group does not hold the network card (VK101).",
        """If it is a function of the GPU's own slot, and you have another way in (a serial console,
        a BMC): `--accept-loss ADDR`.""",
    ),
    sources=(PROC, SYSFS_PCI, VFIO),
)
SSH_SESSION = FindingKind(
    "VK404",
    Level.BLOCK,
    "this SSH session is over it",
    acceptable=True,
    story="""
    You are logged in by SSH (SSH_CONNECTION in the environment of this process or of one above it),
    and the interface that the session came in by is on the device. That would go with the GPU, as a
    function of its slot or a member of its IOMMU group. In the moment its driver is unbound the
    session freezes; what you started in it gets SIGHUP sooner or later; and nobody is there to see
    how it ends.
    """,
    remedy=(
        """Log in by another way (another network card, the BMC, a serial console), and start from
        there.""",
        "Or move the GPU to a slot whose group does not hold the network card (VK101).",
        """If it is a function of the GPU's own slot, and you can get back in by another way:
        `--accept-loss ADDR`, from within tmux or at a console.""",
    ),
    sources=(PROC, SYSFS_PCI, VFIO),
)
BMC_CONSOLE = FindingKind(
    "VK405",
    Level.BLOCK,
    "it is the BMC's console",
    acceptable=True,
    story="""
    The display controller is the small one of a server's management controller (BMC): a chip of
    ASPEED, Matrox or HiSilicon, known by its ids. It draws what the BMC shows as the remote screen,
    and often also what the VGA socket of the server shows. It computes nothing, and no guest is
    served by it.

    Given away, the remote screen freezes on its last picture, for firmware messages, boot loader,
    kernel and login alike, until the machine starts again without it. The BMC itself, with its
    power switch and its serial console (SOL), goes on.
    """,
    remedy=(
        "Give the address of the GPU that you mean: `vfio-kit scan` lists all.",
        "Where the chip only shares a group with the GPU (VK101), move the GPU to another slot.",
        "If the serial console is enough for you, and tried: `--accept-loss ADDR`.",
    ),
    sources=(VFIO, SYSFS_PCI),
)
KEYBOARD = FindingKind(
    "VK406",
    Level.BLOCK,
    "the only keyboard is on it",
    acceptable=True,
    story="""
    The device would go with the GPU, as a function of its slot or a member of its IOMMU group, and
    it is the USB controller that all keyboards of the host hang on (`/sys/class/input`, followed
    down to the PCI function). Cards of the Turing generation bring a USB controller of their own;
    more often it is one of the chipset that shares the group. With it the guest gets whatever is
    plugged in there, and the host's console cannot be typed at any more: no login, no emergency
    shell, no magic SysRq. Where the one keyboard is the BMC's virtual one, its remote console can
    be looked at, and nothing typed.
    """,
    remedy=(
        "Plug the keyboard into a socket of another USB controller, and scan again.",
        """See which socket is which controller's:
        $ lsusb -t
        $ readlink /sys/bus/usb/devices/usb*""",
        """If it is a function of the GPU's own slot, and nobody needs to type at this host:
        `--accept-loss ADDR`.""",
    ),
    sources=(SYSFS_PCI, VFIO),
)
