"""Whether the host is ready for any passthrough: interrupt remapping, vfio-pci, KVM, limits.

Only what is known speaks: a value of None says nothing.
"""

from collections.abc import Callable

from vfio_kit.analysis.readiness.cmdline import values
from vfio_kit.knowledge.architectures import X86
from vfio_kit.knowledge.findings import (
    LOCKDOWN,
    MEMLOCK,
    NO_INTERRUPT_REMAPPING,
    NO_KVM,
    NO_VFIO_PCI,
    NOT_ROOT,
    SECURE_BOOT,
    UNSAFE_INTERRUPTS,
    finding,
)
from vfio_kit.model import Finding, Host

GUEST_GIB = 8
"""RAM of the guest that limits are measured against."""
_MEMLOCK_KIB = (GUEST_GIB + 1) * 1024 * 1024
"""VFIO pins all of the guest's RAM; libvirt's rule for one device without vIOMMU adds 1 GiB."""
_UNSAFE = "vfio_iommu_type1.allow_unsafe_interrupts"
_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}


def platform_findings(host: Host) -> tuple[Finding, ...]:
    """The findings about the host, what blocks first."""
    found = (judge(host) for judge in _JUDGES)
    return tuple(one for one in found if one is not None)


def _interrupts(host: Host) -> Finding | None:
    """VFIO's rule: without remapping it hands nothing out, unless unsafe interrupts are allowed.

    Without IOMMU groups there is nothing to hand out; that has a finding of its own.
    """
    platform = host.platform
    if _unsafe_allowed(host):
        return _unsafe_interrupts(remapped=bool(platform.interrupt_remapping))
    if platform.interrupt_remapping is not False or not host.iommu_groups:
        return None
    switch = _remapping_off(host.cmdline)
    if switch:
        return finding(
            NO_INTERRUPT_REMAPPING,
            None,
            f"{switch} on the kernel command line turns interrupt remapping off: a guest could "
            "send the host any interrupt, so VFIO hands no device out",
            f"remove {switch} from GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and "
            "reboot",
        )
    return finding(
        NO_INTERRUPT_REMAPPING,
        None,
        "the IOMMU does not remap interrupts: a guest could send the host any interrupt, so VFIO "
        "hands no device out",
        "enable interrupt remapping (or x2APIC) beside the IOMMU in the firmware set-up. Where it "
        "has none: vfio_iommu_type1.allow_unsafe_interrupts=1 makes VFIO go on, and lets the guest "
        "crash or take over the host; vfio-kit never sets it",
    )


def _unsafe_allowed(host: Host) -> bool:
    """As the module says; until it is loaded, as the kernel's command line will have it."""
    if host.platform.unsafe_interrupts is not None:
        return host.platform.unsafe_interrupts
    return bool({"1", "y", "Y"} & set(values(host.cmdline, _UNSAFE)))


def _unsafe_interrupts(*, remapped: bool) -> Finding:
    if remapped:
        return finding(
            UNSAFE_INTERRUPTS,
            None,
            "vfio_iommu_type1 allows unsafe interrupts, and need not: this host remaps interrupts",
            "remove allow_unsafe_interrupts: grep -r allow_unsafe_interrupts /etc/modprobe.d "
            "/proc/cmdline",
        )
    return finding(
        UNSAFE_INTERRUPTS,
        None,
        "vfio_iommu_type1 allows unsafe interrupts: a guest can send the host any interrupt, and "
        "so crash it or take it over",
        "hand devices only to guests that you trust as the host",
    )


def _remapping_off(cmdline: str) -> str:
    """The word that turns interrupt remapping off; empty where none does."""
    if "off" in values(cmdline, "intremap"):
        return "intremap=off"
    return "nointremap" if "nointremap" in cmdline.split() else ""


def _vfio_pci(host: Host) -> Finding | None:
    if host.platform.vfio_pci is not False:
        return None
    return finding(
        NO_VFIO_PCI,
        None,
        f"kernel {host.kernel_release} has no vfio-pci, neither built in nor as a module",
        "boot a kernel with CONFIG_VFIO_PCI (minimal and cloud kernels may lack it; on Debian "
        "linux-image-amd64, on Ubuntu linux-image-generic have it), then: modprobe vfio-pci",
    )


def _kvm(host: Host) -> Finding | None:
    if host.platform.kvm is not False:
        return None
    if host.machine not in X86:
        return finding(
            NO_KVM,
            None,
            "there is no /dev/kvm",
            "see why: dmesg | grep -i kvm (on Arm firmware has to start the kernel at EL2; on "
            "POWER: modprobe kvm_hv)",
        )
    kind = host.platform.virtualization
    if kind == "":
        return finding(
            NO_KVM,
            None,
            "there is no /dev/kvm, and the CPU shows no virtualization (neither vmx nor svm)",
            "enable it in the firmware set-up: Intel VT-x, or SVM on AMD; if this host is itself a "
            "VM, enable nested virtualization where that VM runs",
        )
    module = _MODULES.get(kind or "", "kvm")
    shown = f", though the CPU has {kind}" if kind else ""
    return finding(
        NO_KVM,
        None,
        f"there is no /dev/kvm{shown}",
        f"modprobe {module}; if it refuses, virtualization is off in the firmware set-up",
    )


def _secure_boot(host: Host) -> Finding | None:
    if not host.platform.secure_boot:
        return None
    return finding(
        SECURE_BOOT,
        None,
        "Secure Boot is on: this host loads signed kernel modules alone; vfio-pci is one, and a "
        "guest has a firmware of its own, which this does not reach",
        "leave Secure Boot off in a guest that builds its driver with DKMS (NVIDIA 470): that "
        "module is not signed",
    )


def _lockdown(host: Host) -> Finding | None:
    if host.platform.lockdown in (None, "none"):
        return None
    return finding(
        LOCKDOWN,
        None,
        f"the kernel is locked down ({host.platform.lockdown}): unsigned modules, and writes to "
        "config space (setpci) are refused; VFIO is not",
        "nothing to do, unless you rely on either",
    )


def _memlock(host: Host) -> Finding | None:
    """Root is not held to it: VFIO asks for CAP_IPC_LOCK first."""
    limit = host.platform.memlock_kib
    if limit is None or not 0 <= limit < _MEMLOCK_KIB or host.platform.root:
        return None
    return finding(
        MEMLOCK,
        None,
        f"you may lock {_mib(limit)} of memory, and VFIO locks all of a guest's: "
        f"{GUEST_GIB + 1} GiB for a guest of {GUEST_GIB} GiB",
        "libvirt raises the limit for its domains; for the plain QEMU script, run it as root, or "
        f"set LimitMEMLOCK={GUEST_GIB + 1}G in its unit (ulimit -l {_MEMLOCK_KIB} in its shell)",
    )


def _mib(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"


def _not_root(host: Host) -> Finding | None:
    if host.platform.root is not False:
        return None
    unseen = ["what the devices can do (ACS, MSI)"]
    if not host.platform.holders_seen:
        unseen.append("which processes of others hold a GPU open")
    unseen.append("where the firmware's framebuffer lies")
    return finding(
        NOT_ROOT,
        None,
        f"this was not run as root, so it could not see {', '.join(unseen[:-1])} and {unseen[-1]}",
        "sudo vfio-kit scan",
    )


_JUDGES: tuple[Callable[[Host], Finding | None], ...] = (
    _interrupts,
    _vfio_pci,
    _kvm,
    _secure_boot,
    _lockdown,
    _memlock,
    _not_root,
)
