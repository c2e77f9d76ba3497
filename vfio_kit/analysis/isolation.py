"""Whether a GPU can be handed over alone: IOMMU groups, companions, foreign endpoints.

The verdict is about the groups alone; the findings beside it come from the modules of this package.
"""

from collections.abc import Iterable

from vfio_kit.analysis.blast import blast_findings
from vfio_kit.analysis.describe import describe, is_free
from vfio_kit.analysis.grouping.boards import board_findings, board_of
from vfio_kit.analysis.grouping.virtual import virtual_findings
from vfio_kit.analysis.grouping.why import why_together
from vfio_kit.analysis.readiness.device import device_findings
from vfio_kit.analysis.readiness.iommu import explain_no_iommu
from vfio_kit.analysis.readiness.platform import platform_findings
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.findings import (
    ACS_OVERRIDE,
    DRIVEN_BRIDGE,
    NO_GROUP,
    SHARED_GROUP,
    SPLIT_SLOT,
    UNKNOWN_MEMBER,
    UNREADABLE,
    finding,
)
from vfio_kit.model import Finding, GpuReport, Host, Level, PciAddress, PciDevice, Verdict

_OVERRIDE = "pcie_acs_override="
_MOST_TOLD = 64
"""Foreign endpoints of a group that are told one by one; real groups have a dozen."""


def judge(host: Host) -> tuple[GpuReport, ...]:
    """A report for every GPU of the host, in order of their addresses."""
    return tuple(judge_gpu(host, gpu) for gpu in host.gpus())


def judge_together(host: Host, addresses: Iterable[PciAddress]) -> tuple[GpuReport, ...]:
    """A report for each of several GPUs that go to one guest: none is foreign to another.

    Raises UsageError for an address that is no GPU of this host.
    """
    gpus = [_gpu_at(host, address) for address in addresses]
    along = frozenset(f.address for gpu in gpus for f in _functions(host, gpu))
    return tuple(judge_gpu(host, gpu, along) for gpu in gpus)


def _gpu_at(host: Host, address: PciAddress) -> PciDevice:
    device = host.device(address)
    here = ", ".join(f"{gpu.address} {gpu.name or gpu.ids}" for gpu in host.gpus()) or "none"
    if device is None:
        raise UsageError(f"no PCI device {address} on this host", f"GPUs here: {here}")
    if not device.is_gpu:
        raise UsageError(
            f"not a GPU: {describe(device)}",
            f"give the address of a display controller (class 03xx); GPUs here: {here}",
        )
    return device


def judge_gpu(host: Host, gpu: PciDevice, along: frozenset[PciAddress] = frozenset()) -> GpuReport:
    """The verdict on one GPU; `along` are functions that go to the same guest.

    All functions of its card must go along, also one that sits in a group of its own; so the
    members of every one of those groups are looked at.
    """
    functions = _functions(host, gpu)
    own = along.union(function.address for function in functions)
    groups = {f.iommu_group for f in functions if f.iommu_group is not None}
    members = sorted({a for number in groups for a in host.iommu_groups.get(number, ())} - own)
    others = [device for device in map(host.device, members) if device is not None]
    # A function of its own card that could not be read would stay behind, in whatever group.
    of_the_card = () if gpu.physical_function else host.unread_in_slot_of(gpu)
    unknown = sorted({a for a in members if host.device(a) is None}.union(of_the_card))
    strangers = tuple(device for device in others if not device.is_bridge)
    foreign = strangers[:_MOST_TOLD]
    bridges = tuple(device for device in others if device.is_bridge)
    board = board_of(host, gpu)
    verdict = _verdict(host, functions, in_the_way=bool(foreign or unknown))
    return GpuReport(
        gpu=gpu,
        verdict=verdict,
        functions=functions,
        foreign_endpoints=foreign,
        bridges=bridges,
        findings=(
            *_group_findings(host, gpu, functions, foreign),
            *_untold(gpu, len(strangers) - len(foreign)),
            *(_unknown_member(gpu, address) for address in unknown),
            *map(_driven_bridge, (b for b in bridges if not _leaves_dma_alone(b))),
            *(why_together(host, functions, foreign) if foreign else ()),
            *_override_findings(host, gpu, verdict),
            *board_findings(host, gpu, board),
            *virtual_findings(host, functions),
            *blast_findings(host, functions, foreign),
            *device_findings(host, gpu, functions, along),
        ),
        board=board,
        host_blocked=any(f.level is Level.BLOCK for f in platform_findings(host)),
    )


def _functions(host: Host, gpu: PciDevice) -> tuple[PciDevice, ...]:
    """What goes along: the slot without SR-IOV virtual functions, each of which goes alone."""
    if gpu.physical_function is not None:
        return (gpu,)
    return tuple(device for device in host.slot_of(gpu) if device.physical_function is None)


def _verdict(host: Host, functions: tuple[PciDevice, ...], *, in_the_way: bool) -> Verdict:
    if any(function.iommu_group is None for function in functions):
        return Verdict.NO_IOMMU
    if in_the_way:
        return Verdict.SHARED
    return Verdict.OVERRIDDEN if _override(host) else Verdict.ISOLATED


def _override(host: Host) -> str:
    """The parameter on the kernel's command line; empty where there is none."""
    return next((word for word in host.cmdline.split() if word.startswith(_OVERRIDE)), "")


def host_findings(host: Host) -> tuple[Finding, ...]:
    """What concerns the machine and the reading of it, not one GPU."""
    unreadable = (
        finding(
            UNREADABLE,
            None,
            f"{problem.path}: {problem.reason}",
            "run as root if the reason is permission; else report it with a vfio-kit snapshot",
        )
        for problem in host.problems
    )
    # With a GPU it is the GPU's finding; without one the host may be about to get a card.
    bare = not host.iommu_groups and next(host.gpus(), None) is None
    return (
        *((explain_no_iommu(host),) if bare else ()),
        *platform_findings(host),
        *unreadable,
    )


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
                    "nothing to do: every function of the card is handed over with it",
                )
            )
    found += [
        finding(
            SHARED_GROUP,
            device.address,
            f"group {device.iommu_group} also holds {describe(device)}",
            _how_to_part(host, gpu, device),
        )
        for device in foreign
    ]
    return found


def _how_to_part(host: Host, gpu: PciDevice, foreign: PciDevice) -> str:
    """The next step about a foreign endpoint: it goes along, or one of the two moves."""
    other = next((device for device in host.slot_of(foreign) if device.is_gpu), None)
    if other is not None:
        which = "it is a GPU" if other == foreign else f"it belongs to the GPU {other.address}"
        return (
            f"{which}: both may go to one guest together, --gpu {gpu.address} --gpu "
            f"{other.address}; to part them put one into a slot below another root port"
        )
    if is_free(foreign):
        return (
            "nothing on the host drives it, so the kernel would let the group go; it could still "
            "be reached by the guest's DMA, and reach the guest: put the GPU into a slot with a "
            "root port of its own, or take that device out"
        )
    return "put the GPU into a slot with a root port of its own, or move that device"


def _untold(gpu: PciDevice, count: int) -> list[Finding]:
    if count <= 0:
        return []
    text = f"its groups hold {count} more foreign endpoints, which are not told one by one"
    hint = f"ls /sys/kernel/iommu_groups/{gpu.iommu_group}/devices"
    return [finding(SHARED_GROUP, gpu.address, text, hint)]


def _unknown_member(gpu: PciDevice, address: PciAddress) -> Finding:
    what = "is a function of the card" if address.slot == gpu.address.slot else "shares the group"
    return finding(
        UNKNOWN_MEMBER,
        address,
        f"{address} {what}, and what it is could not be read",
        f"look at it: lspci -nnks {address}; while it is unknown, it counts as in the way",
    )


def _leaves_dma_alone(bridge: PciDevice) -> bool:
    """Whether the kernel lets a bridge stay behind with its driver (driver_managed_dma)."""
    return is_free(bridge) or bridge.driver == "pcieport"


def _driven_bridge(bridge: PciDevice) -> Finding:
    return finding(
        DRIVEN_BRIDGE,
        bridge.address,
        f"{describe(bridge)} is in the group: since Linux 5.19 a bridge may have no driver but "
        "pcieport there, or the guest does not start",
        f"if it does not: echo {bridge.address} | sudo tee "
        f"/sys/bus/pci/devices/{bridge.address}/driver/unbind",
    )


def _override_findings(host: Host, gpu: PciDevice, verdict: Verdict) -> list[Finding]:
    override = _override(host)
    if not override or verdict is Verdict.NO_IOMMU:
        return []
    return [
        finding(
            ACS_OVERRIDE,
            gpu.address,
            f"{override} is on the kernel command line: it splits groups without the hardware "
            "keeping them apart, so devices may still reach each other past the IOMMU",
            "remove it, reboot, and look at the groups as they are; or, where the guest is trusted "
            f"as the host is, --accept-loss {gpu.address}",
        )
    ]
