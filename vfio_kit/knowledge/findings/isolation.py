"""VK1xx: whether the device is alone, and what it is that stands there."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import (
    ACS_PATCH,
    EVERY_FUNCTION,
    LINUX_GROUPS,
    LINUX_PCI,
    LINUX_QUIRKS,
    LINUX_VFIO_PCI,
    LINUX_VMD,
    MDEV,
    NOT_VIABLE,
    P2PDMA,
    PARAMETERS,
    SRIOV,
    SYSFS_GROUPS,
    SYSFS_PCI,
    SYSFS_REMOVABLE,
    THUNDERBOLT,
    VFIO,
)
from vfio_kit.model import Level

SHARED_GROUP = FindingKind(
    "VK101",
    Level.BLOCK,
    "a foreign endpoint shares the IOMMU group",
    story="""
    An IOMMU group is the smallest set of PCI functions that the hardware keeps apart from all
    others. The members of the GPU's group, in `/sys/kernel/iommu_groups/N/devices`, include one
    that is neither a function of the GPU's own slot nor a bridge.

    Members of a group can reach each other by peer-to-peer DMA that never passes the IOMMU, or they
    carry the same requester ID, so that it cannot tell who is asking. Owning one member may mean
    reaching all of them. That is why VFIO hands over whole groups. Bridges (host, PCI-to-PCI) are
    exempt: they stay with the kernel, and forward DMA without starting any for a guest.

    As long as a driver of the host has the other member, the kernel refuses the group, and QEMU
    ends with "group N is not viable". Viable is a member without a driver, or with vfio-pci or
    pci-stub; up to Linux 5.18 also any bridge, since 5.19 also drivers that declare that they leave
    DMA alone, as that of PCI Express ports does. But viable is less than isolated: a stranger
    without a driver is still within reach of the guest's DMA, and the guest within its own. The
    host cannot use it meanwhile, either. A driver that binds to it while the guest runs stops
    kernels up to 5.18 with a BUG; later ones refuse it. vfio-kit therefore counts it as in the way,
    driver or not.
    """,
    remedy=(
        """See what is in the group, and which driver has it:
        $ ls /sys/kernel/iommu_groups/N/devices
        $ lspci -nnk -s ADDR""",
        """Put the GPU into a slot below another root port, or move the other card, and scan again.
        The mainboard's manual says which slots hang on the CPU; `vfio-kit scan --tree` draws what
        is below which port.""",
        """Where the other member is a GPU too, and both may go to one guest, name both: `--gpu ADDR
        --gpu ADDR`.""",
        """Where VK105, VK106 or VK107 stands beside it, that finding names the part that joins
        them, and whether a setting may part them. Do not reach for pcie_acs_override: it changes
        what the kernel claims, not what the hardware does (VK103).""",
    ),
    sources=(VFIO, SYSFS_GROUPS, LINUX_GROUPS, NOT_VIABLE),
)
SPLIT_SLOT = FindingKind(
    "VK102",
    Level.WARN,
    "a function of the slot sits in another IOMMU group",
    story="""
    A graphics card is several PCI functions: the GPU is .0, its sound .1, on some cards a USB
    controller .2 and its USB-C port .3. By their links `iommu_group` in sysfs they are in different
    groups here, because the card or a quirk of the kernel vouches that they cannot reach each
    other.

    For the IOMMU each of them could go alone. For the card they are one: they share the slot, its
    power and its reset. A bus reset for the guest's GPU hits the sound function under the host's
    feet, and the guest's driver may want to put all of them to sleep together. So all functions of
    the slot go along, and the members of every one of their groups are judged: a stranger in the
    group of the sound function blocks as one in the GPU's own does.
    """,
    remedy=(
        """Nothing has to be done: vfio-kit hands all functions of the slot over. Be aware that the
        host loses the card's sound and USB ports with it.""",
        """To see the groups of the slot (ADDR without its function, as in 0000:01:00):
        $ readlink /sys/bus/pci/devices/ADDR.*/iommu_group""",
    ),
    sources=(VFIO, LINUX_GROUPS, EVERY_FUNCTION),
)
ACS_OVERRIDE = FindingKind(
    "VK103",
    Level.BLOCK,
    "IOMMU groups were split by pcie_acs_override",
    acceptable=True,
    story="""
    `pcie_acs_override=` is on the kernel's command line (`/proc/cmdline`). It belongs to a patch
    that mainline Linux never took and some distributions carry. With `downstream` the kernel takes
    every port, with `multifunction` every multifunction device for one that isolates, whatever its
    registers say, and draws smaller IOMMU groups.

    Nothing in the hardware changes. PCI Express routes by address: a switch or a root complex that
    does not redirect peer-to-peer requests hands a guest's DMA straight to another device if the
    address falls into one of that device's BARs, before the IOMMU has seen it. It takes no malice.
    The guest programs the card with its own idea of addresses, and where one of these coincides
    with a neighbour's registers, data goes there: silent corruption, a disk controller that goes
    mad, a host that hangs. A hostile guest can do it on purpose and take the host over.

    So the groups are no proof of anything here, and the verdict is `overridden`, not `isolated`. On
    a kernel without the patch the parameter does nothing; the tool cannot tell the two apart, and
    trusts neither.
    """,
    remedy=(
        """Take the parameter out of GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT, and look at
        the groups as they are:
        $ sudoedit /etc/default/grub
        $ sudo update-grub
        $ sudo reboot
        $ vfio-kit scan""",
        "If VK101 appears then, move the card to a slot below a root port of its own.",
        """Only where you trust the guest as you trust the host, and can live with the corruption
        that a coincidence of addresses causes: `--accept-loss ADDR` lifts the block for this
        card.""",
    ),
    sources=(
        ACS_PATCH,
        "https://github.com/lf-edge/eve/pull/5969",
        "https://github.com/coreos/coreos-overlay/pull/3393",
        P2PDMA,
    ),
)
UNKNOWN_MEMBER = FindingKind(
    "VK104",
    Level.BLOCK,
    "a member of the IOMMU group is unreadable",
    story="""
    `/sys/kernel/iommu_groups/N/devices` lists a function whose vendor, device id or class in
    `/sys/bus/pci/devices/ADDR` could not be read, or that has no folder there. It may be gone since
    (hot-unplugged), in the midst of being removed, or the tree or snapshot is incomplete.

    Whether it is a harmless bridge or a disk controller cannot be told, so it counts as the worst
    that it could be: a foreign endpoint (VK101). A function of the GPU's own card counts as well,
    in whatever group it is: all of a card goes together, or nothing.
    """,
    remedy=(
        """Look at it:
        $ lspci -nnks ADDR
        $ ls /sys/bus/pci/devices/ADDR""",
        "Scan again; where a device was just plugged or unplugged, it may be over.",
        """If the machine was read with `--root` or `--from`, take the snapshot anew, as root:
        $ sudo vfio-kit snapshot""",
    ),
    sources=(SYSFS_GROUPS, SYSFS_PCI),
)
CONVENTIONAL_BRIDGE = FindingKind(
    "VK105",
    Level.INFO,
    "a conventional PCI bridge holds the group together",
    story="""
    Between the GPU and the root complex sits a bridge to conventional PCI: a function of class 0604
    whose config space has no PCI Express capability, or says PCIe-to-PCI bridge. The finding
    explains why VK101 is there; it blocks nothing itself.

    The IOMMU tells devices apart by the requester ID that each PCI Express request carries.
    Conventional PCI has none. The bridge puts an ID of its own on whatever comes from below, so
    that all devices behind it look like one; besides, they share a bus on which they reach each
    other without passing the bridge. The kernel has no choice but to make one group of them.
    """,
    remedy=(
        """No setting mends it. Put the GPU into a PCI Express slot that leads to the CPU; where a
        riser or an expansion box holds the bridge, do without it.""",
        "Or take out what else is below that bridge; then the group holds the GPU alone.",
    ),
    sources=(LINUX_GROUPS, VFIO),
)
PORT_WITHOUT_ACS = FindingKind(
    "VK106",
    Level.INFO,
    "a port without ACS holds the group together",
    story="""
    A root port or a switch port above the GPU does not promise to keep apart what is below it. The
    tool read its config space (`/sys/bus/pci/devices/ADDR/config`, beyond the first 64 bytes, for
    root alone): either there is no Access Control Services capability, or services that the port
    has are switched off in its control register. The finding explains why VK101 is there.

    Four services matter to the kernel: source validation, redirection of peer-to-peer requests, of
    completions, and upstream forwarding. Together they send every request up to the IOMMU before it
    may come down to a neighbour. A port without them may turn a request round on its own, so the
    kernel joins the port and all that is below it, a switch with all its ports included.

    Linux switches the services on at boot if an IOMMU is in use. What leaves them off is hardware
    that lacks them (root ports of desktop CPUs, cheap switches), firmware, or `pci=` with
    `disable_acs_redir` or `config_acs` on the command line. Some chips isolate without saying so;
    the kernel knows these by a table of quirks, and does not join what is below them.
    """,
    remedy=(
        """Put the GPU into a slot below another root port. On desktop boards the slots of the CPU
        often share one port without ACS; try those of the chipset too.""",
        """Look for ACS in the firmware set-up (often below AMD CBS, NBIO, or PCI Express), with a
        firmware that is up to date, and enable it.""",
        """See what the port has, and what is on; plus is on:
        $ sudo lspci -vvv -s ADDR | grep -E 'ACSCap|ACSCtl'
        $ cat /proc/cmdline""",
    ),
    sources=(LINUX_PCI, LINUX_QUIRKS, PARAMETERS, P2PDMA),
)
FUNCTIONS_WITHOUT_ACS = FindingKind(
    "VK107",
    Level.INFO,
    "a multifunction device without ACS holds the group together",
    story="""
    Functions of one device may talk to each other inside the chip, where no port and no IOMMU sees
    it. Only an Access Control Services capability on the functions, or a quirk in the kernel that
    vouches for the chip, says that they do not. Here neither does, by the config space that was
    read, so the kernel has put them into one group; and where they are root ports (00:01.0 and
    00:01.1, say), all that is below any of them as well. The finding explains why VK101 is there.
    """,
    remedy=(
        """Put the GPU into a slot below a root port that is not a function of the same device: its
        address differs in more than the last digit.""",
        """Leave the slots below the other functions of that device empty: ports alone do not stand
        in the way.""",
        """A newer kernel may know the chip; where its maker states that the functions cannot reach
        each other, linux-pci@vger.kernel.org takes a quirk for it.""",
    ),
    sources=(LINUX_GROUPS, LINUX_QUIRKS, LINUX_PCI),
)
ACS_UNREADABLE = FindingKind(
    "VK108",
    Level.INFO,
    "why the group is as it is could not be read",
    story="""
    The group holds a stranger (VK101), and the part that joins it to the GPU could not be found.
    Mostly the reason is rights: sysfs shows an ordinary user the first 64 bytes of a config space;
    where a port's type and its Access Control Services stand is for root. A device in D3cold or off
    the bus shows nothing at all. And where all could be read and explains nothing, the kernel knows
    more than the registers say: a quirk, an alias of requester IDs, a hypervisor's IOMMU.

    The verdict does not rest on it. The group counts as the kernel drew it.
    """,
    remedy=(
        """Scan as root:
        $ sudo vfio-kit scan""",
        """If it stays, read what the kernel says about it:
        $ sudo dmesg | grep -i -e iommu -e acs -e MMCONFIG""",
    ),
    sources=(SYSFS_PCI, LINUX_GROUPS, LINUX_QUIRKS),
)
DUAL_BOARD = FindingKind(
    "VK109",
    Level.INFO,
    "the GPU is one of several on a board",
    story="""
    Some boards carry several GPUs behind a switch of their own: a Tesla K80 is two GK210, a Tesla
    M10 four GM107. For the host, and for CUDA, they are separate cards with separate memory. The
    tool knows them by a table of device ids, and by their place below one switch.

    Where each has an IOMMU group of its own, they may go to different guests, or one may stay. What
    they share remains shared: the slot's power, the cooling, and the link to the host. Where a port
    above the board has no ACS they are in one group; then they go together, or not at all.

    A board's own switch without ACS is another matter: Linux up to 6.x looks at the path to the
    root alone and gives each GPU a group, yet the switch forwards from one to the other past the
    IOMMU. The finding says so; such a board is for one guest, or for guests that trust each other.
    """,
    remedy=(
        """For one guest with the whole board name all of them: `--gpu ADDR --gpu ADDR`. To give it
        half a K80, name one.""",
    ),
    sources=(
        "https://github.com/tianocore/edk2/issues/59",
        VFIO,
    ),
)
VIRTUAL_FUNCTION = FindingKind(
    "VK110",
    Level.INFO,
    "the GPU is an SR-IOV virtual function",
    story="""
    The function has a link `physfn` in sysfs: it is one of the virtual functions that a physical
    one has created (SR-IOV). It can go to a guest as a card can, and its isolation is judged alike.

    It is less than a card, though. It works while the physical function's driver runs on the host
    and has set it up; if that driver is unloaded or updated, or the physical function is given
    away, the virtual one is gone, and the guest with it. Its memory and compute are a share that
    the host's driver hands out, and the guest needs the driver that fits it, which for vGPU is a
    licensed one, not the plain one.
    """,
    remedy=(
        """See which function that is, and which driver has it:
        $ readlink /sys/bus/pci/devices/ADDR/physfn
        $ lspci -nnk -s ADDR""",
        """Keep that driver bound as long as the guest runs: no update of it, no `modprobe -r`, and
        do not give the physical function away.""",
    ),
    sources=(SRIOV, VFIO),
)
HAS_VIRTUAL_FUNCTIONS = FindingKind(
    "VK111",
    Level.BLOCK,
    "virtual functions of the device are switched on",
    acceptable=True,
    story="""
    `sriov_numvfs` of the device is not 0: it has virtual functions (SR-IOV), which exist as long as
    its driver keeps them. To hand the device over its driver is unbound, and with the driver they
    go: interfaces of the host vanish, guests and containers that own one lose it.

    It may also hang. Where a running guest holds a virtual function by VFIO, the kernel asks that
    guest to let go and waits; "Relaying device request to user" repeats in the kernel's log until
    it does, and meanwhile the unbinding sits in the kernel, deaf to signals.
    """,
    remedy=(
        """Find out who uses them:
        $ ls -l /sys/bus/pci/devices/ADDR/ | grep virtfn
        $ vfio-kit list
        $ virsh list""",
        """Switch them off, after their users have ended:
        $ echo 0 | sudo tee /sys/bus/pci/devices/ADDR/sriov_numvfs""",
        "Or give the guest one of the virtual functions in the place of the whole device.",
        "Where nobody needs them: `--accept-loss ADDR`.",
    ),
    sources=(SRIOV, SYSFS_PCI, LINUX_VFIO_PCI),
)
HAS_MEDIATED_DEVICES = FindingKind(
    "VK112",
    Level.BLOCK,
    "mediated devices (vGPU) exist on the device",
    acceptable=True,
    story="""
    `mdev_supported_types/*/devices` below the device is not empty: its driver has cut it into
    mediated devices, as NVIDIA vGPU and Intel GVT-g do. Each may be the graphics card of a running
    guest. They are made by the driver, and the driver has to leave for the card to be handed over:
    then they are destroyed, and their guests lose their GPU in the midst of work. While a guest
    holds one, unbinding the driver waits in the kernel until it lets go.
    """,
    remedy=(
        """See which there are, and end the guests that use them:
        $ ls /sys/bus/pci/devices/ADDR/mdev_supported_types/*/devices
        $ virsh nodedev-list --cap mdev""",
        """Remove each of them; UUID is its name:
        $ echo 1 | sudo tee /sys/bus/mdev/devices/UUID/remove""",
        "Where nobody needs them: `--accept-loss ADDR`.",
    ),
    sources=(MDEV,),
)
BEHIND_VMD = FindingKind(
    "VK113",
    Level.WARN,
    "the device sits behind an Intel VMD controller",
    story="""
    Above the device, in its path in `/sys/devices`, is an Intel Volume Management Device: a RAID
    controller of the CPU (8086, class 0104) behind which ports and devices live in a PCI domain of
    their own, 10000 or above. VMD was made for NVMe; a GPU ends up there when a whole group of
    lanes was put under it in the firmware set-up.

    For the IOMMU, devices behind VMD do not exist. Their DMA carries the requester ID of the
    controller, and their interrupts arrive through the controller's own vectors. The kernel
    therefore puts them into the controller's group: one goes only if the controller goes, and with
    it every disk that is behind it.
    """,
    remedy=(
        """Switch VMD off for that slot in the firmware set-up (VMD, Volume Management Device, RST,
        RAID mode), and leave it on for the disks of a RAID that needs it. The device then appears
        in domain 0000.""",
        """Before that, see what else is behind the controller: a system that boots from an Intel
        RAID behind VMD does not start without it.
        $ lspci -D | grep '^1000'""",
    ),
    sources=(LINUX_VMD, "https://github.com/spdk/spdk/issues/1360"),
)
EXTERNAL = FindingKind(
    "VK114",
    Level.WARN,
    "the device can be unplugged (Thunderbolt, USB4)",
    story="""
    The device's attribute `removable` in sysfs says removable: it is below a port that firmware
    marks as leading outside the case, Thunderbolt or USB4.

    It can be given to a guest. But a cable that is pulled takes the card out under the guest's
    driver: every read gives 0xffffffff, NVIDIA's driver reports Xid 79 (fallen off the bus), and
    the host cannot finish the removal until the guest lets the device go. After the next plug-in or
    start its address may be another one, and it appears only once Thunderbolt has authorised it.
    Its link is also a fraction of a slot's.
    """,
    remedy=(
        "Leave it plugged in while a guest has it; end the guest before you unplug it.",
        """Let it be authorised at every start; UUID is what the list shows:
        $ boltctl list
        $ sudo boltctl enroll UUID""",
        "Scan again after every plug-in, and take the address from there.",
    ),
    sources=(THUNDERBOLT, SYSFS_REMOVABLE),
)
DRIVEN_BRIDGE = FindingKind(
    "VK115",
    Level.WARN,
    "a bridge of the group has a driver of its own",
    story="""
    Bridges in a group stay with the host and count for nothing: a root port or a switch port has
    the driver pcieport, which leaves DMA alone and says so. The bridge that the finding names has
    another one, such as shpchp on a conventional bridge, or a driver for the counters of a host
    bridge.

    Since Linux 5.19 a driver counts as harmless only if it declares that it leaves DMA alone
    (driver_managed_dma); with any other one bound, the group is not viable, and QEMU ends with
    "group N is not viable". Up to 5.18 every PCI-to-PCI bridge was let through, whatever its
    driver, and a host bridge only without one.
    """,
    remedy=(
        """See which driver it is, and what it is for:
        $ lspci -nnk -s ADDR""",
        """Unbind it if the start of the guest fails with "not viable"; a bridge works without:
        $ echo ADDR | sudo tee /sys/bus/pci/devices/ADDR/driver/unbind""",
    ),
    sources=(LINUX_GROUPS, NOT_VIABLE, VFIO),
)
