"""VK2xx: whether the machine is ready for any passthrough."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import (
    KERNEL_LOCKDOWN,
    KVM,
    LIBVIRT_DOMAIN,
    LINUX_TYPE1,
    LINUX_VFIO_KCONFIG,
    MODULE_SIGNING,
    PARAMETERS,
    PROXMOX,
    SYSFS_GROUPS,
    VFIO,
    X86_IOMMU,
)
from vfio_kit.model import Level

NO_IOMMU = FindingKind(
    "VK201",
    Level.BLOCK,
    "the kernel has no IOMMU groups",
    story="""
    `/sys/kernel/iommu_groups` is empty: no IOMMU translates for any device of this host. Without
    one a card that a guest programs could read and write all memory of the host, so VFIO has
    nothing to hand over, and no guest gets a device.

    Three parts have to agree. The CPU and chipset need an IOMMU (Intel VT-d, AMD-Vi, Arm SMMU; not
    the same as VT-x or SVM, which virtualise the CPU). Firmware has to announce it, in the ACPI
    table DMAR, IVRS or IORT (`/sys/firmware/acpi/tables`). And the kernel has to use it: on AMD and
    Arm it does by itself, on Intel it depends on how the kernel was built, hence `intel_iommu=on`.
    The finding says which of the three is missing here. The line "DMAR: IOMMU enabled" in the log
    proves nothing: it repeats the parameter.

    VFIO's mode without an IOMMU (`enable_unsafe_noiommu_mode`) is no way round: it protects
    nothing, and QEMU does not use it. The groups that it makes up (named vfio-noiommu) do not
    count here.
    """,
    remedy=(
        """Enable Intel VT-d, AMD-Vi or IOMMU in the firmware set-up. "Auto" is not always on, and
        on some boards the setting hides until virtualisation itself is on.""",
        """On Intel add `intel_iommu=on iommu=pt` to GRUB_CMDLINE_LINUX (on AMD `iommu=pt` is
        enough, and only for speed); take `iommu=off`, `intel_iommu=off` and `amd_iommu=off` out:
        $ sudoedit /etc/default/grub
        $ sudo update-grub
        $ sudo reboot""",
        """See that there are groups, and if not, why:
        $ ls /sys/kernel/iommu_groups
        $ sudo dmesg | grep -i -e DMAR -e AMD-Vi -e IOMMU""",
        """If this host is a virtual machine itself, it needs a virtual IOMMU from its own
        hypervisor.""",
    ),
    sources=(X86_IOMMU, SYSFS_GROUPS, PARAMETERS, VFIO),
)
NO_GROUP = FindingKind(
    "VK202",
    Level.BLOCK,
    "the IOMMU does not cover the device",
    story="""
    The host has IOMMU groups, and this function is in none: it has no link `iommu_group` in sysfs.
    Each IOMMU serves the devices that firmware assigns to it, and this one's root complex or slot
    is not among them; or a parameter leaves it out (`intel_iommu=igfx_off` does so with Intel's
    graphics).

    Its DMA is not translated at all. VFIO refuses such a device, since there is no
    `/dev/vfio/N` to give to a guest.
    """,
    remedy=(
        "Put the card into another slot, and scan again: those of another CPU may be covered.",
        """See what firmware says of its IOMMUs, and update the firmware where it is wrong:
        $ sudo dmesg | grep -i -e DMAR -e DRHD -e AMD-Vi -e IVHD""",
        "Take `igfx_off` out of the command line if the GPU is the one inside an Intel CPU.",
    ),
    sources=(X86_IOMMU, VFIO, PARAMETERS),
)
NO_INTERRUPT_REMAPPING = FindingKind(
    "VK203",
    Level.BLOCK,
    "interrupts are not remapped",
    story="""
    `/proc/interrupts` names the interrupt chips, and none is one behind remapping hardware
    (IR-IO-APIC, IR-PCI-MSI): the IOMMU translates memory here, and lets interrupts through as they
    come.

    On x86 a message signaled interrupt is a write into the range 0xfeexxxxx, and its data say which
    CPU is to take which vector. Whoever programs a card, and with passthrough that is the guest,
    can make it write there by plain DMA, with any data. Without remapping the CPU believes it: the
    guest raises vectors that belong to the host's disk or timer, exceptions, the signals by which
    CPUs speak to each other. That was shown to be enough to break out. With remapping an interrupt
    is an index into a table of the host's, checked against the requester, and a forged one is
    dropped.

    So VFIO refuses: QEMU says "failed to set iommu for container: Operation not permitted", and the
    log "No interrupt remapping support". A module parameter, allow_unsafe_interrupts, makes it look
    the other way, for every guest on the host. vfio-kit never sets it. It opens the host to its
    guests without a sign that it did; whoever takes that risk has to do it by hand and knowingly.
    """,
    remedy=(
        """See why it is off:
        $ sudo dmesg | grep -i -e remapping -e x2apic -e DMAR-IR -e AMD-Vi""",
        """Take `intremap=off` and `nointremap` out of the kernel's command line; enable VT-d and
        x2APIC (Intel) or IOMMU (AMD) in the firmware set-up.""",
        """Update the firmware. Some chipsets (Intel 5500, 5520 and X58 of early steppings) are
        broken, and the kernel leaves remapping off on them for good: such a host should not give
        devices to guests that it does not trust.""",
    ),
    sources=(
        LINUX_TYPE1,
        "https://git.zx2c4.com/linux-dev/commit/?id=3f68b0318bbbd61bf08478ab99a149f0d9e5156e",
        "https://github.com/tiiuae/ghaf/issues/103",
        PARAMETERS,
        PROXMOX,
    ),
)
UNSAFE_INTERRUPTS = FindingKind(
    "VK204",
    Level.WARN,
    "unsafe interrupts are allowed",
    story="""
    `/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts` says Y, or, while that module
    is not loaded, the kernel's command line does. Somebody has told VFIO to hand devices over even
    where interrupts are not remapped. VK203 tells what that means: a
    guest can forge interrupts of the host by DMA.

    On hardware that remaps, the parameter changes nothing today, and is a trap for later: move the
    disk to another machine, or lose remapping by a firmware setting, and no refusal warns you.
    Where interrupts are not remapped, every guest that owns a device is to be trusted as the host
    is.
    """,
    remedy=(
        """Find where it is set, a file or the command line:
        $ grep -rn allow_unsafe_interrupts /etc/modprobe.d /usr/lib/modprobe.d /proc/cmdline""",
        """Take it out there, and switch it off now; it counts for guests that start from then on:
        $ echo 0 | sudo tee /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts""",
        "Scan again: if interrupts are not remapped, VK203 says so.",
    ),
    sources=(
        LINUX_TYPE1,
        "https://github.com/tiiuae/ghaf/issues/103",
    ),
)
NO_VFIO_PCI = FindingKind(
    "VK205",
    Level.BLOCK,
    "this kernel has no vfio-pci",
    story="""
    vfio-pci is the driver that holds a device for a guest. It is not loaded or built in
    (`/sys/bus/pci/drivers/vfio-pci`), and the lists of the running kernel's modules
    (`modules.dep` and `modules.builtin` in `/lib/modules/$(uname -r)`) do not have it either.

    Kernels made for virtual machines leave it out, and some distributions ship it in a package of
    extra modules. It is also missing after a kernel update that removed the modules of the kernel
    that still runs: then any module that is not loaded yet fails, until the reboot.
    """,
    remedy=(
        """See whether it is there after all:
        $ uname -r
        $ modinfo vfio-pci""",
        """Install the distribution's general kernel: on Debian in the place of the cloud one
        linux-image-amd64, on Ubuntu linux-generic or linux-modules-extra for the kernel that runs:
        $ sudo apt-get install linux-image-amd64
        $ sudo apt-get install linux-modules-extra-$(uname -r)""",
        "After a kernel update: reboot.",
    ),
    sources=(LINUX_VFIO_KCONFIG, VFIO),
)
NO_KVM = FindingKind(
    "VK206",
    Level.BLOCK,
    "KVM is not available",
    story="""
    There is no `/dev/kvm`. Without KVM QEMU emulates the guest's CPU, which is slower by an order
    of magnitude, and vfio-kit does not hand a GPU to such a guest.

    Either the CPU's support for virtualisation is off in firmware (the flags vmx for VT-x or svm
    for AMD-V are missing in `/proc/cpuinfo`), or the module kvm_intel or kvm_amd is not loaded: it
    is missing, blacklisted, or another hypervisor has the CPU's support for itself. A host that is
    a virtual machine needs nested virtualisation from its own hypervisor.
    """,
    remedy=(
        """See whether the CPU shows its support; no output is none:
        $ grep -m1 -woE 'vmx|svm' /proc/cpuinfo""",
        "If not, enable VT-x or SVM in the firmware set-up, and switch the machine off and on.",
        """Load the module, and read why it refuses (the first is Intel's, the second AMD's):
        $ sudo modprobe kvm_intel
        $ sudo modprobe kvm_amd
        $ sudo dmesg | grep -i kvm""",
    ),
    sources=(KVM, LIBVIRT_DOMAIN),
)
SECURE_BOOT = FindingKind(
    "VK207",
    Level.INFO,
    "Secure Boot is on",
    story="""
    The EFI variable SecureBoot says 1. Passthrough works all the same: vfio-pci and KVM are part of
    the distribution's kernel, and signed. What does not load on this host are modules that are not
    signed with a key that it knows: a driver that DKMS has built (NVIDIA's, vendor-reset) without
    an enrolled key. Most distributions also lock the kernel down (VK208).

    The guest is another machine. Its firmware is QEMU's, and vfio-kit starts it without Secure
    Boot, since its driver is built by DKMS.
    """,
    remedy=(
        """Nothing, for passthrough. If a module of yours does not load, enrol the key that signs
        it; DKMS on Debian and Ubuntu shows the place of its own:
        $ mokutil --sb-state
        $ sudo mokutil --import /var/lib/dkms/mok.pub""",
    ),
    sources=(MODULE_SIGNING, KERNEL_LOCKDOWN),
)
LOCKDOWN = FindingKind(
    "VK208",
    Level.INFO,
    "the kernel is locked down",
    story="""
    `/sys/kernel/security/lockdown` has integrity or confidentiality in brackets: the kernel keeps
    even root from changing it, mostly because Secure Boot is on. VFIO is not affected; it hands
    devices over behind an IOMMU, in an orderly way.

    What fails are the tools of folklore, with "Operation not permitted": setpci and other writes to
    config space, mapping a BAR by `resource0` in sysfs, `/dev/mem`, MSRs, modules without a known
    signature, such as vendor-reset. Recipes that need these do not work here. Reading works.
    """,
    remedy=(
        """Nothing, for passthrough. See what was refused:
        $ sudo dmesg | grep Lockdown""",
        "If such a tool is indispensable, Secure Boot has to be off; weigh it.",
    ),
    sources=(KERNEL_LOCKDOWN, MODULE_SIGNING),
)
MEMLOCK = FindingKind(
    "VK209",
    Level.INFO,
    "the limit of locked memory is below a guest's needs",
    story="""
    A card does DMA to guest memory at any time, so VFIO pins all of it: no page may be moved or
    swapped out. The kernel counts what is pinned, hugepages included, against the process's limit
    of locked memory (Max locked memory in `/proc/self/limits`), and here that is less than a guest
    has, as it is by default.

    With libvirt it does not matter: it raises the limit of each QEMU that it starts, to the guest's
    memory and 1 GiB. It does matter for QEMU started by hand, by the script of `vfio-kit render
    --output qemu`, for instance, as an ordinary user: that ends with "vfio_dma_map: Cannot allocate
    memory", however much memory is free, and the kernel logs "RLIMIT_MEMLOCK exceeded".
    """,
    remedy=(
        "With libvirt: nothing.",
        """For a user, USER, allow it, and log in anew; the unit is KiB:
        $ echo 'USER - memlock unlimited' | sudo tee /etc/security/limits.d/vfio.conf""",
        "For a service of systemd: `LimitMEMLOCK=infinity` in its unit.",
        """See what a running QEMU has; PID is its process:
        $ grep locked /proc/PID/limits""",
    ),
    sources=(
        LINUX_TYPE1,
        LIBVIRT_DOMAIN,
        "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/165",
        "https://github.com/kubevirt/kubevirt/issues/8472",
    ),
)
