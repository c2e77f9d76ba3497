"""Whether a GPU can be handed over alone: IOMMU groups, companions, foreign endpoints."""

from vfio_kit.analysis.iommu import explain_no_iommu
from vfio_kit.knowledge.findings import (
    ACS_OVERRIDE,
    BOOT_DISPLAY,
    NO_GROUP,
    NO_RESET,
    SHARED_GROUP,
    SPLIT_SLOT,
    UNKNOWN_MEMBER,
    UNREADABLE,
    finding,
)
from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.model import Finding, GpuReport, Host, PciAddress, PciDevice, Verdict


def judge(host: Host) -> tuple[GpuReport, ...]:
    """A report for every GPU of the host, in order of their addresses."""
    return tuple(judge_gpu(host, gpu) for gpu in host.gpus())


def judge_gpu(host: Host, gpu: PciDevice) -> GpuReport:
    """The verdict on one GPU.

    All functions of its slot must go along, also one that sits in a group of its own; so the
    members of every one of those groups are looked at.
    """
    functions = host.slot_of(gpu)
    own = {function.address for function in functions}
    groups = {f.iommu_group for f in functions if f.iommu_group is not None}
    members = sorted({a for number in groups for a in host.iommu_groups.get(number, ())} - own)
    others = [device for device in map(host.device, members) if device is not None]
    unknown = [address for address in members if host.device(address) is None]
    foreign = tuple(device for device in others if not device.is_bridge)
    findings = [
        *_group_findings(host, gpu, functions, foreign),
        *map(_unknown_member, unknown),
        *_device_findings(gpu, functions),
    ]
    if any(function.iommu_group is None for function in functions):
        verdict = Verdict.NO_IOMMU
    elif foreign or unknown:
        verdict = Verdict.SHARED
    else:
        verdict = Verdict.ISOLATED
    return GpuReport(
        gpu=gpu,
        verdict=verdict,
        functions=functions,
        foreign_endpoints=foreign,
        bridges=tuple(device for device in others if device.is_bridge),
        findings=tuple(findings),
    )


def host_findings(host: Host) -> tuple[Finding, ...]:
    """What concerns the reading of the machine, not one GPU."""
    return tuple(
        finding(
            UNREADABLE,
            None,
            f"{problem.path}: {problem.reason}",
            "run as root if the reason is permission; else report the machine",
        )
        for problem in host.problems
    )


def describe(device: PciDevice) -> str:
    """A function in half a line: address, class, ids, name, driver, interfaces."""
    words = [str(device.address), class_name(device.pci_class), f"[{device.ids}]"]
    if device.name:
        words.append(device.name)
    words.append(f"(driver {device.driver})" if device.driver else "(no driver)")
    if device.interfaces:
        words.append("interface " + ", ".join(device.interfaces))
    return " ".join(words)


def _group_findings(
    host: Host,
    gpu: PciDevice,
    functions: tuple[PciDevice, ...],
    foreign: tuple[PciDevice, ...],
) -> list[Finding]:
    found: list[Finding] = []
    if not host.iommu_groups:
        return [explain_no_iommu(host)]
    for function in functions:
        if function.iommu_group is None:
            found.append(
                finding(
                    NO_GROUP,
                    function.address,
                    f"{function.address} is in no IOMMU group, though the host has some",
                    "its root complex is outside the IOMMU's scope: another slot may be covered",
                )
            )
        elif gpu.iommu_group is not None and function.iommu_group != gpu.iommu_group:
            found.append(
                finding(
                    SPLIT_SLOT,
                    function.address,
                    f"{function.address} sits in group {function.iommu_group}, "
                    f"{gpu.address} in group {gpu.iommu_group}; they go together all the same",
                )
            )
    found += [
        finding(
            SHARED_GROUP,
            device.address,
            f"group {device.iommu_group} also holds {describe(device)}",
            "put the GPU into a slot with a root port of its own, or move that device",
        )
        for device in foreign
    ]
    if any(word.startswith("pcie_acs_override=") for word in host.cmdline.split()):
        found.append(
            finding(
                ACS_OVERRIDE,
                gpu.address,
                "pcie_acs_override is on the kernel command line: the groups claim an isolation "
                "that the hardware does not give",
                "remove it and look at the groups again",
            )
        )
    return found


def _unknown_member(address: PciAddress) -> Finding:
    return finding(
        UNKNOWN_MEMBER,
        address,
        f"{address} shares the group, and what it is could not be read",
        f"look at it: lspci -nnks {address}; while it is unknown, it counts as in the way",
    )


def _device_findings(gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    found: list[Finding] = []
    display = next((function for function in functions if function.boot_vga), None)
    if display is not None:
        found.append(
            finding(
                BOOT_DISPLAY,
                display.address,
                f"{display.address} is the display that firmware booted with; the console goes "
                "with it",
                "choose another primary display in the firmware set-up; or, where you have another "
                f"console, --accept-loss {display.address}",
            )
        )
    if functions[0].reset_methods == ():
        found.append(
            finding(
                NO_RESET,
                gpu.address,
                f"{functions[0].address} offers no reset method; it may survive one boot only",
                "a host reboot resets it",
            )
        )
    return found
