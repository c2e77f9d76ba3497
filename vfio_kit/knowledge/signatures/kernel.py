"""Lines of the kernel log that tell of a GPU in trouble; Xid events have a table of their own.

Sources: the strings of nvidia.ko 470.256.02 and of nvidia.ko 550 (open module); the kernel's
drivers/pci/pcie/aer.c, drivers/iommu/intel/dmar.c, kernel/module/main.c, kernel/irq/spurious.c.
A line is compared with the rows from the top; the first that fits names it.
"""

from vfio_kit.knowledge.signatures.remedies import MMIO_WINDOW, RESTART_AND_LOOK
from vfio_kit.knowledge.signatures.row import Signature
from vfio_kit.model.health import CheckStatus

_WARN = CheckStatus.WARN

_REBUILD = "in the guest: sudo dkms autoinstall; sudo modprobe nvidia; and hold the kernel packages"
_SECURE_BOOT = "switch Secure Boot off for the VM, or enrol the key that signs the DKMS modules"


def _row(cause: str, text: str, meaning: str, remedy: str) -> Signature:
    return Signature("kernel-log", cause, meaning, remedy, text=text)


def _load(cause: str, text: str, meaning: str, remedy: str) -> Signature:
    """Said while the module is loaded and takes the cards: past, once it has them all."""
    return Signature("kernel-log", cause, meaning, remedy, text=text, lasts="module")


def _warn(cause: str, text: str, meaning: str, remedy: str) -> Signature:
    return Signature("kernel-log", cause, meaning, remedy, text=text, status=_WARN)


KERNEL_LOG: tuple[Signature, ...] = (
    _row(
        "fallen-off-bus",
        "fallen off the bus",
        "the GPU no longer answers on the PCIe bus",
        RESTART_AND_LOOK,
    ),
    _row(
        "gpu-lost",
        "NVRM: GPU is lost",
        "the GPU no longer answers on the PCIe bus",
        RESTART_AND_LOOK,
    ),
    _load(
        "bar-unassigned",
        "This PCI I/O region assigned to your NVIDIA device is invalid",
        "a BAR of the GPU has no address",
        MMIO_WINDOW,
    ),
    _load("bar-empty", "NVRM: BAR0 is 0M", "BAR 0 of the GPU has no address", MMIO_WINDOW),
    _load("bar1-empty", "NVRM: BAR1 is 0M", "BAR 1 of the GPU has no address", MMIO_WINDOW),
    _load(
        "bridge-window",
        "NVRM: a matching prefetchable memory window",
        "the bridge above the GPU has no window for its 64-bit BAR",
        MMIO_WINDOW,
    ),
    _load(
        "bar0-missing",
        "NVRM: request_mem_region failed for 0M",
        "BAR 0 of the GPU has no place",
        MMIO_WINDOW,
    ),
    _load(
        "region-claimed",
        "NVRM: request_mem_region failed",
        "another driver holds the GPU's memory region",
        "see which one in /proc/iomem; blacklist nouveau, nvidiafb and the like",
    ),
    _load(
        "no-irq",
        "NVRM: Can't find an IRQ for your NVIDIA card",
        "the GPU has no interrupt",
        "give the VM the q35 machine type, whose ports bring MSI and INTx along",
    ),
    _load(
        "open-module",
        "is not supported by the open kernel module",
        "the open kernel module drives Turing and newer GPUs only",
        "install the proprietary modules: a package without -open in its name",
    ),
    _row(
        "open-module-gsp",
        "is not supported by open",
        "the open kernel module drives Turing and newer GPUs only",
        "install the proprietary modules: a package without -open in its name",
    ),
    _load(
        "legacy-gpu",
        "supported through the NVIDIA",
        "this driver branch no longer drives the GPU",
        "vfio-kit advise names the last branch that does; install that",
    ),
    _load(
        "unsupported-gpu",
        "installed in this system is not supported by the",
        "the driver does not know the GPU by what its registers say",
        "vfio-kit advise names the branches that drive the card; if this is one of them, stop the "
        "VM and start it again, so that the card is reset",
    ),
    _row(
        "vbios-unreadable",
        "Failed to copy vbios to system memory",
        "the driver could not read the card's video BIOS",
        "stop the VM and start it again, so that the card is reset; else give the VM the card's "
        "ROM as a file (rom file=)",
    ),
    _row(
        "rm-init-failed",
        "RmInitAdapter failed!",
        "the driver could not start the GPU",
        "stop the VM and start it again, so that the card is reset; then BAR 1, the option ROM "
        "(rombar) and the driver branch: vfio-kit advise",
    ),
    _row(
        "rm-init-adapter",
        "rm_init_adapter failed",
        "the driver could not start the GPU",
        "stop the VM and start it again, so that the card is reset",
    ),
    _row(
        "gsp-firmware",
        "Cannot initialize GSP firmware RM",
        "the firmware of the GPU's system processor (GSP) did not start",
        "stop the VM and start it again; driver and firmware must be of one version",
    ),
    _load(
        "probe-not-called",
        "NVRM: The NVIDIA probe routine was not called",
        "another driver already holds the GPU",
        "blacklist nouveau in the guest, renew its initramfs, and reboot it",
    ),
    _load(
        "none-probed",
        "NVRM: No NVIDIA devices probed",
        "other drivers hold every GPU, and the module was unloaded again",
        "blacklist nouveau in the guest, renew its initramfs, and reboot it",
    ),
    _load(
        "probe-failed",
        "NVRM: The NVIDIA probe routine failed",
        "the driver refused the GPU",
        "in the guest: sudo dmesg | grep NVRM says why, right above this line",
    ),
    _load(
        "none-initialized",
        "NVRM: None of the NVIDIA devices were initialized",
        "the driver refused every GPU and was unloaded again",
        "in the guest: sudo dmesg | grep NVRM says why, right above this line",
    ),
    _load(
        "no-gpu",
        "NVRM: No NVIDIA GPU found",
        "the driver was loaded in a machine without an NVIDIA GPU",
        "is the GPU in the VM? vfio-kit list; virsh dumpxml NAME",
    ),
    Signature(
        "kernel-log",
        "library-mismatch",
        "kernel module and user-space library are of different driver versions",
        "reboot the guest; then hold the driver packages: apt-mark hold",
        text="NVRM: API mismatch",
        lasts="nvidia-smi",  # else it is a container's library
    ),
    _load(
        "version-magic",
        "nvidia: version magic",
        "the module was built for another kernel",
        _REBUILD,
    ),
    _load(
        "module-symbols",
        "nvidia: disagrees about version of symbol",
        "the module was built for another kernel",
        _REBUILD,
    ),
    _load(
        "unknown-symbol",
        "nvidia: Unknown symbol",
        "the module and the running kernel do not fit together",
        _REBUILD,
    ),
    _load(
        "key-rejected",
        "Key was rejected by service",
        "Secure Boot: the module's signature is not trusted",
        _SECURE_BOOT,
    ),
    _load(
        "key-unavailable",
        "Loading of module with unavailable key is rejected",
        "Secure Boot: the key that signed the module is not enrolled",
        _SECURE_BOOT,
    ),
    _load(
        "unsigned-rejected",
        "Loading of unsigned module is rejected",
        "Secure Boot: the module is not signed",
        _SECURE_BOOT,
    ),
    _load(
        "lockdown",
        "unsigned module loading is restricted",
        "the kernel is locked down, as Secure Boot does it, and the module is not signed",
        _SECURE_BOOT,
    ),
    Signature(
        "kernel-log",
        "module-unsigned",
        "the module is not signed, as those of DKMS; without Secure Boot it does no harm",
        "nothing",
        text="module verification failed: signature and/or required key missing",
        status=CheckStatus.OK,
    ),
    _row(
        "aer-uncorrected",
        "PCIe Bus Error: severity=Uncorrect",
        "the PCIe link lost data",
        "seat the card anew, without a riser; then a lower link speed in the firmware",
    ),
    _warn(
        "aer-corrected",
        "PCIe Bus Error: severity=Correct",
        "the PCIe link made errors, and corrected them",
        "if there are many: seat the card anew, without a riser",
    ),
    _row(
        "dmar-fault",
        "DMAR: [DMA",
        "the IOMMU stopped a device's access to memory",
        "if it is the GPU's: update the firmware, and look for a stale driver of the card",
    ),
    _row(
        "amd-vi-fault",
        "AMD-Vi: Event logged [IO_PAGE_FAULT",
        "the IOMMU stopped a device's access to memory",
        "if it is the GPU's: update the firmware, and look for a stale driver of the card",
    ),
    _warn(
        "irq-nobody-cared",
        "nobody cared (try booting with",
        "an interrupt without an owner was switched off",
        "let the card use MSI; see which devices share the interrupt: /proc/interrupts",
    ),
    _warn(
        "persistenced-killed",
        "(nvidia-persiste",
        "the guest ran out of memory and killed nvidia-persistenced",
        "give the VM more memory, and restart nvidia-persistenced",
    ),
)
