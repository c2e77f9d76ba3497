"""Why a host has no IOMMU groups, and what to switch on.

The kernel says "DMAR: IOMMU enabled" as soon as the parameter is given, IOMMU or not; only
/sys/kernel/iommu_groups tells. What explains its emptiness: the ACPI table through which firmware
announces the IOMMU (DMAR: Intel VT-d, IVRS: AMD-Vi, IORT: Arm, RIMT: RISC-V, VIOT: virtio-iommu),
and the kernel's command line.
"""

from vfio_kit.analysis.readiness.cmdline import values
from vfio_kit.knowledge.architectures import POWER, X86
from vfio_kit.knowledge.findings import NO_IOMMU, finding
from vfio_kit.model import Finding, Host

_ADD_PARAMETER = (
    "add {parameter} to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot"
)


def explain_no_iommu(host: Host) -> Finding:
    """One finding: the most likely reason, and the next step for it."""
    reason, hint = _reason(host)
    return finding(NO_IOMMU, None, f"no IOMMU groups: {reason}", hint)


def _reason(host: Host) -> tuple[str, str]:
    switched_off = _switched_off(host)
    if switched_off:
        return (
            f"the kernel command line has {switched_off}",
            f"remove {switched_off} from the kernel command line (GRUB_CMDLINE_LINUX in "
            "/etc/default/grub, then update-grub) and reboot",
        )
    if "VIOT" in host.acpi_tables:
        return (
            "the hypervisor announces a virtio-iommu (ACPI table VIOT), the kernel does not use it",
            "modprobe virtio_iommu, or use a kernel with CONFIG_VIRTIO_IOMMU",
        )
    if host.machine == "aarch64":
        return _arm(host)
    if host.machine in POWER:
        return (
            "on POWER they come with the PCI host bridges and their DMA windows (TCE), and this "
            f"{host.machine} kernel set none up",
            "modprobe vfio_iommu_spapr_tce; if that brings none, see dmesg | grep -i -e tce -e "
            "iommu; in a partition (LPAR), ask the hypervisor for a whole slot",
        )
    if host.machine not in X86:
        return _other(host)
    return _x86(host)


def _x86(host: Host) -> tuple[str, str]:
    if "DMAR" in host.acpi_tables:
        if "on" in values(host.cmdline, "intel_iommu"):
            return (
                "firmware announces Intel VT-d (ACPI table DMAR) and intel_iommu=on is given, "
                "yet the kernel set none up",
                "look for the reason: dmesg | grep -i -e DMAR -e IOMMU ('IOMMU enabled' there "
                "only repeats the parameter)",
            )
        return (
            "firmware announces Intel VT-d (ACPI table DMAR), the kernel does not use it",
            _ADD_PARAMETER.format(parameter="intel_iommu=on iommu=pt"),
        )
    if "IVRS" in host.acpi_tables:
        return (
            "firmware announces AMD-Vi (ACPI table IVRS), the kernel set none up",
            "look for the reason: dmesg | grep -i -e AMD-Vi -e IOMMU",
        )
    return _x86_without_table(host)


def _x86_without_table(host: Host) -> tuple[str, str]:
    if host.cpu_vendor == "AuthenticAMD":
        setting = "AMD-Vi (it may be called IOMMU or SVM/NBIO options)"
        table, parameter = "IVRS", "iommu=pt"
    elif host.cpu_vendor == "GenuineIntel":
        setting, table, parameter = "Intel VT-d", "DMAR", "intel_iommu=on iommu=pt"
    else:
        setting, table, parameter = "the IOMMU (VT-d or AMD-Vi)", "DMAR or IVRS", "iommu=pt"
    add = _ADD_PARAMETER.format(parameter=parameter)
    return (
        f"firmware announces none (no ACPI table {table})",
        f"enable {setting} in the firmware set-up; then {add}",
    )


def _arm(host: Host) -> tuple[str, str]:
    if "IORT" in host.acpi_tables:
        return (
            "firmware has an ACPI table IORT, and this aarch64 kernel found no SMMU in it that it "
            "could use",
            "enable the SMMU in the firmware set-up (the table is there without one, too), and use "
            "a kernel with CONFIG_ARM_SMMU and CONFIG_ARM_SMMU_V3; see dmesg | grep -i smmu",
        )
    if host.acpi_tables:
        return (
            "firmware announces no SMMU (no ACPI table IORT)",
            "enable the SMMU in the firmware set-up, or update the firmware",
        )
    return (
        "this aarch64 kernel has no IOMMU driver bound: the device tree names no SMMU for PCI",
        "the PCI host bridge needs an iommu-map and an SMMU in the device tree; many small boards "
        "have none in hardware; see dmesg | grep -i -e smmu -e iommu",
    )


def _other(host: Host) -> tuple[str, str]:
    if host.machine == "riscv64":
        what = "a RISC-V IOMMU (kernel 6.13 or later; ACPI table RIMT, or the device tree)"
    else:
        what = "an IOMMU that the kernel knows"
    return (
        f"this {host.machine} kernel has no IOMMU driver bound",
        f"passthrough needs {what}; see dmesg | grep -i iommu",
    )


def _switched_off(host: Host) -> str:
    """The parameter that switches this host's kind of IOMMU off; empty where none does."""
    if host.machine == "aarch64":
        return ""  # it has no such parameter; iommu.passthrough leaves the groups as they are
    keys = ["iommu"]
    if "DMAR" in host.acpi_tables or host.cpu_vendor == "GenuineIntel":
        keys.append("intel_iommu")
    if "IVRS" in host.acpi_tables or host.cpu_vendor == "AuthenticAMD":
        keys.append("amd_iommu")
    for key in keys:
        given = values(host.cmdline, key)
        if "off" in given:
            return f"{key}={','.join(given)}"
    return ""
