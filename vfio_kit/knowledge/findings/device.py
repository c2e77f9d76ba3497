"""VK3xx: whether the device itself is ready to go."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import (
    DRIVERCTL,
    EVERY_FUNCTION,
    HUGETLB,
    LIBVIRT_DOMAIN,
    LIBVIRT_QEMU,
    LINUX_PCI,
    LINUX_VFIO_PCI,
    MSI,
    PARAMETERS,
    PCI_POWER,
    PROC,
    SYSFS_NODE,
    SYSFS_PCI,
    VFIO,
    VGA_ARBITER,
)
from vfio_kit.model import Level

BOOT_DISPLAY = FindingKind(
    "VK301",
    Level.BLOCK,
    "the GPU is the boot display",
    acceptable=True,
    story="""
    `boot_vga` of the GPU is 1 in sysfs: the kernel took it for the display that firmware has
    started with. The console is on it, and the boot messages were.

    When it goes, the screen stays dark or frozen from then on: no login at the machine, no
    emergency shell, nothing to read when the network fails. It is also the hardest card to hand
    over. Firmware has run its option ROM already, so that the guest may find the card in a state
    that no reset clears; the framebuffer of the firmware may sit in one of its BARs (VK309); and a
    desktop keeps it open (VK310).
    """,
    remedy=(
        """Choose another primary display in the firmware set-up (Primary Display, IGFX, PCIe slot,
        or onboard for a BMC), connect the screen there, and scan again.""",
        """Or swap the cards' slots: firmware mostly takes the first.""",
        """Where the host has another console that you have tried (SSH, a serial console, a BMC):
        `--accept-loss ADDR`.""",
    ),
    sources=(VGA_ARBITER, SYSFS_PCI, VFIO),
)
NO_RESET = FindingKind(
    "VK302",
    Level.WARN,
    "the kernel knows no way to reset the GPU",
    story="""
    sysfs shows no `reset_method` of the first function of the slot. Since Linux 5.15 the kernel
    lists there how it can reset a function (device_specific, flr, af_flr, pm, bus and others), and
    leaves the file out where it knows no way. A card in a slot has `bus` at least: the reset of all
    that is below the bridge above it. None at all is the lot of GPUs that are part of the CPU, of
    some virtual functions, and of devices that are known not to survive a bus reset.

    When a guest ends, VFIO resets the device, so that the next owner finds it as after power-on.
    Without a reset it keeps what the last driver left in it. It works for the first guest, and
    after that neither the next guest nor the host may get it to work, until the host starts anew.
    It also keeps what the last guest had in its memory.

    A method that is listed is no promise, either: many AMD cards from Polaris to Navi come back
    from none of them.
    """,
    remedy=(
        """Try it before you rely on it: start the guest, end it, start it again, and see that the
        GPU works the second time.""",
        "Shut the guest down in an orderly way: its driver leaves the card tidier than a kill.",
        """If the card is stuck, restart the host; where that does not do, switch it off and on.""",
    ),
    sources=(
        SYSFS_PCI,
        LINUX_PCI,
        LINUX_VFIO_PCI,
        "https://github.com/QaidVoid/Complete-Single-GPU-Passthrough/issues/35",
    ),
)
BUS_RESET_SCOPE = FindingKind(
    "VK303",
    Level.WARN,
    "a reset would hit devices that stay",
    story="""
    The first method in the GPU's `reset_method` is that of its bus: the bridge above resets all
    that is below. Below that bridge are also devices that stay with the host. A reset would tear
    them down in the midst of work, a disk or a network card that forgets everything, without their
    drivers knowing.

    The kernel does not let it come to that. VFIO resets a bus only if every device below is in the
    hands of the same guest, so the GPU is simply not reset. It then keeps what its last driver left
    in it, and may work once only (VK302).
    """,
    remedy=(
        """Put the GPU into a slot with a root port of its own; what is below which port:
        $ vfio-kit scan --tree
        $ lspci -tv""",
        "Until then, restart the host when the card does not come back.",
    ),
    sources=(
        LINUX_VFIO_PCI,
        LINUX_PCI,
        SYSFS_PCI,
    ),
)
POWERED_DOWN = FindingKind(
    "VK304",
    Level.WARN,
    "the device is powered down",
    story="""
    `power_state` of a function in sysfs says D3cold: the slot has no power. It may go there
    (`d3cold_allowed` is 1), as an idle card of a laptop does, and VFIO wakes it up. A scan does
    not: it leaves the config space of such a function unread. D3hot is how idle devices sleep, and
    is nothing to worry about.

    A card that does not come back from D3cold answers every read with 0xff. The kernel logs "Unable
    to change power state from D3cold to D0, device inaccessible", the guest sees a device without
    an identity, or QEMU ends with a failed assertion about an interrupt. It happens after many
    starts of guests, too, to cards that worked: each end lets them sleep, and one time they stay
    asleep.
    """,
    remedy=(
        """Wake it, and look whether it is there; D0 is awake:
        $ echo on | sudo tee /sys/bus/pci/devices/ADDR/power/control
        $ cat /sys/bus/pci/devices/ADDR/power_state""",
        """Keep it from the deepest sleep, for all functions of its slot and the port above:
        $ echo 0 | sudo tee /sys/bus/pci/devices/ADDR/d3cold_allowed""",
        """If it does not answer, switch the host off and on, not only restart it. Then look for the
        cause: power connectors, a riser, the power supply.""",
    ),
    sources=(
        PCI_POWER,
        SYSFS_PCI,
        "https://github.com/kata-containers/kata-containers/issues/11708",
        "https://github.com/gnif/vendor-reset/issues/76",
    ),
)
LOST = FindingKind(
    "VK315",
    Level.BLOCK,
    "the device does not answer",
    story="""
    The file `config` of a function in sysfs holds 0xff and nothing else, as a device that is not
    there answers; or its `power_state` says error, or unknown though a driver has it, or D3cold
    though `d3cold_allowed` is 0. It did not go to sleep: it has fallen off the bus, or lost its
    power. The kernel may go on to list it as if all were well.

    Handed over, it makes the start of the guest fail (the kernel logs "Unable to change power state
    from D3cold to D0, device inaccessible"), or the guest sees a device without an identity. It
    happens to cards that cannot be reset, after some starts of guests; to cards whose power
    connector or riser is loose; and to cards that are broken.
    """,
    remedy=(
        """Switch the host off and on, not only restart it, and look again:
        $ cat /sys/bus/pci/devices/ADDR/power_state""",
        """If it is lost again: power connectors, the riser, the power supply; and keep it from the
        deepest sleep, for all functions of its slot and the port above:
        $ echo 0 | sudo tee /sys/bus/pci/devices/ADDR/d3cold_allowed""",
    ),
    sources=(
        PCI_POWER,
        SYSFS_PCI,
        "https://github.com/kata-containers/kata-containers/issues/11708",
        "https://github.com/gnif/vendor-reset/issues/76",
    ),
)
NO_MSI = FindingKind(
    "VK305",
    Level.WARN,
    "the device has no MSI",
    story="""
    The GPU's config space has neither an MSI nor an MSI-X capability. It has interrupt lines
    instead, and one line may serve several devices.

    VFIO can hand a line over if the device can be told to hold its interrupt back (DisINTx, PCI
    2.3); if not, only where no other device of the host uses the same line. Each interrupt is then
    masked, passed to the guest, and unmasked when the guest has served it, which is slow. The sign
    of a shared line that cannot be had is "Device or resource busy" when the guest starts. GPUs
    made since PCI Express do have MSI: it may also be a device that did not answer while it was
    read (VK304).
    """,
    remedy=(
        """See what the device has, and who shares its line:
        $ sudo lspci -vv -s ADDR | grep -e MSI -e Interrupt
        $ grep -w "$(cat /sys/bus/pci/devices/ADDR/irq)" /proc/interrupts""",
        "Put the card into another slot if the line is shared: lines differ from slot to slot.",
    ),
    sources=(MSI, VFIO),
)
MSI_ONLY = FindingKind(
    "VK306",
    Level.INFO,
    "the device has MSI and no MSI-X",
    story="""
    The config space of the GPU has an MSI capability and none for MSI-X, as with many NVIDIA cards
    (Tesla M40, Quadro T400). QEMU, and with it libvirt and vfio-kit, hands MSI over without any
    trouble.

    It matters to those who mean to use another hypervisor. cloud-hypervisor's documents rule out
    NVIDIA cards that have MSI alone: in a guest there NVIDIA's driver finds no interrupt that it
    would take, and a Tesla M40 failed like that. What Firecracker has of VFIO knows MSI-X alone.
    """,
    remedy=(
        "With vfio-kit, libvirt or QEMU: nothing.",
        """For another hypervisor, look into its documents before you plan with this card:
        $ sudo lspci -vv -s ADDR | grep MSI""",
    ),
    sources=(
        MSI,
        "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/2000",
        "https://github.com/cloud-hypervisor/cloud-hypervisor/blob/main/docs/vfio.md",
        "https://github.com/firecracker-microvm/firecracker/pull/5870",
    ),
)
MMIO_WINDOW = FindingKind(
    "VK307",
    Level.INFO,
    "the BARs need a 64-bit MMIO window in the guest",
    story="""
    The card's 64-bit BARs (the file `resource` in sysfs) are large: half a Tesla K80 alone has one
    of 16 GiB. They have no place below 4 GiB, so the guest's firmware must open a window above,
    wide enough for all of them at their natural alignment. The finding says how wide.

    If it is too small, the guest starts, and the GPU does not: NVIDIA's driver logs "This PCI I/O
    region assigned to your NVIDIA device is invalid: BAR1 is 0M @ 0x0", and nvidia-smi finds no
    device. SeaBIOS, and OVMF since 2022.11, size the window by the CPU's address width, and place
    two halves of a K80 without help. Older OVMF opens 32 GiB, and wants to be told.
    """,
    remedy=(
        """In a domain of your own take the value that the finding names, in KiB; on q35 below the
        controller pcie-root:
        $ <pcihole64 unit='KiB'>67108864</pcihole64>""",
        """With OVMF before 2022.11, also by QEMU's command line, in MiB:
        $ -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=65536""",
        """In the guest see that the large BAR has an address:
        $ sudo lspci -vv -d 10de: | grep Region""",
    ),
    sources=(
        "https://github.com/tianocore/edk2/issues/59",
        "https://github.com/kubevirt/kubevirt/issues/11093",
        LIBVIRT_DOMAIN,
    ),
)
BAR_UNASSIGNED = FindingKind(
    "VK308",
    Level.BLOCK,
    "a BAR has no address",
    story="""
    In `resource` of the function in sysfs a memory BAR has a size and no address: neither firmware
    nor the kernel found room for it. The kernel's log has "can't assign; no space" or "failed to
    assign" of the time when it tried.

    What cannot be addressed on the host cannot be mapped into a guest. The guest sees a BAR that
    leads nowhere, and its driver gives up (NVIDIA: "BAR1 is 0M @ 0x0"). The usual cause is a card
    with large BARs in a board that hands out addresses below 4 GiB only.
    """,
    remedy=(
        """Enable "Above 4G Decoding" (also: 64-bit MMIO, Memory Mapped I/O above 4 GB, and its
        size, on servers) in the firmware set-up, and update the firmware if it is not there.""",
        """If that is not enough, let the kernel place BARs anew: add `pci=realloc` to
        GRUB_CMDLINE_LINUX:
        $ sudoedit /etc/default/grub
        $ sudo update-grub
        $ sudo reboot""",
        """See what the kernel says of it:
        $ sudo dmesg | grep -e 'BAR' -e 'no space'""",
        "Switch Resizable BAR off, which makes BARs as large as the card's memory.",
    ),
    sources=(SYSFS_PCI, PARAMETERS, "https://github.com/kubevirt/kubevirt/issues/11093"),
)
FRAMEBUFFER = FindingKind(
    "VK309",
    Level.BLOCK,
    "the firmware's framebuffer is in a BAR of the device",
    acceptable=True,
    story="""
    Firmware has drawn its screen into this card's memory, and the kernel goes on drawing there:
    `/proc/iomem` shows a region of simple-framebuffer, simpledrm, efifb, vesafb or BOOTFB inside
    one of the card's BARs (root alone sees the addresses).

    As long as that region is taken, vfio-pci cannot have the BAR: the guest gets the card, the log
    fills with "BAR 1: can't reserve", and the guest's driver fails, often with an error that says
    nothing of it. A driver made for the card, once loaded, throws the framebuffer out, and so does
    vfio-pci since Linux 6.0; but that only of VGA controllers (class 0300), and reports of cards
    that kept it go on with kernels of today.
    """,
    remedy=(
        """Make another card the boot display (VK301): then nothing is drawn into this one.""",
        """Or have the kernel set no framebuffer up at all: add `initcall_blacklist=sysfb_init` to
        GRUB_CMDLINE_LINUX. `video=efifb:off` does it for efifb alone, not for simpledrm. The screen
        at this card stays dark from then on, so have another way in first.
        $ sudoedit /etc/default/grub
        $ sudo update-grub
        $ sudo reboot""",
        """See that the region is gone:
        $ sudo grep -i -e BOOTFB -e efifb -e simple /proc/iomem""",
        """Where the kernel is 6.0 or newer, the card a VGA controller, and its console can be done
        without: `--accept-loss ADDR`.""",
    ),
    sources=(
        "https://github.com/siderolabs/talos/issues/14356",
        "https://github.com/cosminmocan/vfio-single-amdgpu-passthrough/issues/3",
        LINUX_VFIO_PCI,
        PARAMETERS,
        PROC,
    ),
)
HELD_OPEN = FindingKind(
    "VK310",
    Level.BLOCK,
    "a process holds the device open",
    story="""
    A process has a device node of the GPU open (`/dev/nvidia0`, `/dev/dri/card1`, a sound device,
    or `/dev/vfio/N` where a guest has it already): the tool looked through `/proc/PID/fd` of all
    processes. The finding names them.

    To be handed over the card has to leave its driver, and drivers do not take a card away from
    whoever uses it. NVIDIA's waits inside the kernel, logs "Attempting to remove device with
    non-zero usage count", and holds locks meanwhile: the command that unbinds, libvirt or a shell,
    hangs and no signal ends it, kill -9 included; after it whatever touches the device, lspci and
    the shutdown of the host as well. Sometimes it goes on when the users have ended; some versions
    lose count, and only a restart of the host helps, by power switch or magic SysRq. Other drivers
    let go and leave the process with a dead device: a desktop is gone, a computation lost. So the
    tool refuses before anything is touched.
    """,
    remedy=(
        """See who it is, also in containers:
        $ sudo fuser -v /dev/nvidia* /dev/dri/* /dev/snd/* /dev/vfio/*""",
        """End the services that hold NVIDIA cards, as far as you have them, and a desktop:
        $ sudo systemctl stop nvidia-persistenced nvidia-dcgm ollama
        $ sudo systemctl isolate multi-user.target""",
        """Switch persistence mode off, which holds the card without a process to be seen:
        $ sudo nvidia-smi -i ADDR -pm 0""",
        """Containers: end the pods that use the GPU, the device plugin, and exporters of its
        metrics. A guest: `vfio-kit down NAME` or `virsh shutdown NAME`.""",
        "Scan again, as root, before you try; do not unbind the driver by hand to see if it works.",
    ),
    sources=(
        "https://github.com/kubevirt/kubevirt/issues/8549",
        "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1374",
        "https://github.com/OpenNebula/one-deploy/pull/251",
        "https://github.com/bryansteiner/gpu-passthrough-tutorial/issues/22",
    ),
)
DRIVER_BOUND = FindingKind(
    "VK311",
    Level.INFO,
    "a driver of the host has the device",
    story="""
    The link `driver` in sysfs shows a driver of the host at one of the functions: nouveau, nvidia
    or amdgpu at the GPU, snd_hda_intel at its sound. That is the normal state of a card that the
    host has found.

    It need not be changed beforehand. libvirt moves all functions to vfio-pci when the guest
    starts, and back when it has ended (managed devices); `vfio-kit down` leaves them as they were.
    It works if nobody uses the card (VK310), and with drivers that let go. Those of graphics are
    not the best at that: after some rounds of nouveau and vfio-pci a card may be confused until the
    host starts anew.
    """,
    remedy=(
        "Nothing, for a guest that runs now and then.",
        """For a card that only guests use, keep the host's drivers off it for good, by its address,
        each function; it lasts over restarts, and is undone with unset-override:
        $ sudo driverctl set-override ADDR vfio-pci""",
        """Not by vfio-pci.ids= or a blacklist: these go by type, and take every card of the same
        type, the host's own included.""",
    ),
    sources=(
        LIBVIRT_QEMU,
        LIBVIRT_DOMAIN,
        DRIVERCTL,
        "https://github.com/truenas/middleware/pull/11397",
        EVERY_FUNCTION,
    ),
)
DRIVER_MATCHES = FindingKind(
    "VK312",
    Level.INFO,
    "a driver of the host would grab the device",
    story="""
    The function is free now, or at vfio-pci, but modules of this kernel match it: their aliases in
    `/lib/modules/VERSION/modules.alias` fit its ids, and neither a blacklist in modprobe.d or on
    the command line nor a `driver_override` keeps them off. At the next start of the host, when the
    card is plugged in or the bus is scanned anew, and when libvirt gives it back, udev loads the
    module and the card is bound.

    That is harmless for one guest that is started by hand. For a card that is meant for guests it
    means a driver that sets it up and leaves traces in it, perhaps a console on it, a desktop that
    opens it (VK310); with two identical cards it may be the wrong one that is free.
    """,
    remedy=(
        """To keep it for guests, by its address, each function:
        $ sudo driverctl set-override ADDR vfio-pci""",
        """To see or undo it:
        $ driverctl list-overrides
        $ sudo driverctl unset-override ADDR""",
    ),
    sources=(
        SYSFS_PCI,
        DRIVERCTL,
        "https://github.com/HikariKnight/quickpassthrough/issues/10",
        "https://github.com/truenas/middleware/pull/11397",
    ),
)
NUMA_HUGEPAGES = FindingKind(
    "VK313",
    Level.INFO,
    "hugepages on the NUMA node of the device",
    story="""
    The host has several NUMA nodes, mostly one for each CPU socket with its own memory, and the
    card hangs on one of them (`numa_node` in sysfs). The finding says which, and how many hugepages
    are free there (`/sys/devices/system/node/nodeN/hugepages`).

    The number for the whole host deceives: pages may be plenty, and all on the other node. A guest
    in those works; but each of its transfers to the GPU crosses the link between the sockets, which
    costs bandwidth and adds delay. Under a memory policy that is bound to the near node it does not
    start at all, with "Cannot allocate memory" while pages are free.
    """,
    remedy=(
        """Reserve pages on the card's node, NODE, N of 2 MiB each; a guest of 8 GiB needs 4096.
        Best soon after the start, while memory is not fragmented:
        $ cd /sys/devices/system/node/nodeNODE/hugepages/hugepages-2048kB
        $ echo N | sudo tee nr_hugepages
        $ cat free_hugepages""",
        """Fewer than asked for: the memory is fragmented. Drop caches, compact, and write again:
        $ echo 3 | sudo tee /proc/sys/vm/drop_caches
        $ echo 1 | sudo tee /proc/sys/vm/compact_memory""",
        """At boot, for a kernel that knows the form with nodes (5.16 and later): `hugepagesz=2M
        hugepages=NODE:N` on the command line.""",
    ),
    sources=(HUGETLB, SYSFS_NODE, PARAMETERS),
)
NUMA_UNKNOWN = FindingKind(
    "VK314",
    Level.INFO,
    "which NUMA node is near the device is unknown",
    story="""
    The host has several NUMA nodes, and `numa_node` of the card is -1: firmware does not say which
    of them its slot belongs to. Nothing fails. But where hugepages and CPUs for the guest should be
    taken from cannot be told, so they may end up on the far node. Then every transfer to the GPU
    crosses the link between the sockets, which costs bandwidth and adds delay.
    """,
    remedy=(
        """Look in the board's manual for the socket that the slot belongs to; see what the kernel
        believes of the bridges above, and of other slots:
        $ cat /sys/bus/pci/devices/*/numa_node | sort | uniq -c
        $ lspci -tv""",
        "A firmware update may bring the entry (_PXM in ACPI) that is missing.",
    ),
    sources=(SYSFS_PCI, HUGETLB),
)
