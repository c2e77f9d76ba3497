"""Why a host has no IOMMU groups, and what to switch on.

The kernel says "DMAR: IOMMU enabled" as soon as the parameter is given, IOMMU or not; only
/sys/kernel/iommu_groups tells. What explains its emptiness: the ACPI table through which firmware
announces the IOMMU (DMAR: Intel VT-d, IVRS: AMD-Vi, IORT: Arm), and the kernel's command line.
"""

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
    if "DMAR" in host.acpi_tables:
        if "on" in _values(host.cmdline, "intel_iommu"):
            return (
                "firmware announces Intel VT-d (ACPI table DMAR) and intel_iommu=on is given, "
                "yet the kernel set none up",
                "look for the reason: dmesg | grep -i -e DMAR -e IOMMU",
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
    return _no_table(host)


def _no_table(host: Host) -> tuple[str, str]:
    if host.machine not in ("x86_64", "i686"):
        return (
            f"this {host.machine} kernel has no IOMMU driver bound",
            "enable the SMMU in firmware or device tree; see dmesg | grep -i iommu",
        )
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


def _switched_off(host: Host) -> str:
    """The parameter that switches this host's kind of IOMMU off; empty where none does."""
    keys = ["iommu"]
    if "DMAR" in host.acpi_tables or host.cpu_vendor == "GenuineIntel":
        keys.append("intel_iommu")
    if "IVRS" in host.acpi_tables or host.cpu_vendor == "AuthenticAMD":
        keys.append("amd_iommu")
    for key in keys:
        values = _values(host.cmdline, key)
        if "off" in values:
            return f"{key}={','.join(values)}"
    return ""


def _values(cmdline: str, key: str) -> list[str]:
    """The comma-separated values of a parameter; where it is given twice, the last one counts."""
    given = [word.partition("=")[2] for word in cmdline.split() if word.partition("=")[0] == key]
    return given[-1].split(",") if given else []
