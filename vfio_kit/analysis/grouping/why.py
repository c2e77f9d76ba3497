"""Why an IOMMU group holds what it holds: the bridge, port or device that fails to isolate.

The kernel's rule (Linux 3.17 to 6.x: drivers/iommu/iommu.c pci_device_group, drivers/pci/search.c
pci_for_each_dma_alias): a function's group is that of the topmost bridge above it that fails to
isolate, or its own where all isolate; functions of one slot that all fail are one group. It is used
backwards here: the groups are given, and whatever joins two members of one is looked for. A bridge
is a suspect only if it is in the group itself, since quirks of the kernel's make ports isolate that
do not say so.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from vfio_kit.analysis.grouping.acs import Isolation, isolation
from vfio_kit.analysis.grouping.upstream import is_vmd, path
from vfio_kit.analysis.grouping.words import (
    conventional_finding,
    functions_finding,
    port_finding,
    switch_finding,
    unexplained_finding,
    unread_finding,
)
from vfio_kit.model import Finding, Host, PciAddress, PciDevice, PcieType

_CONVENTIONAL_TYPES = (None, PcieType.PCIE_TO_PCI_BRIDGE, PcieType.PCI_TO_PCIE_BRIDGE)


class Kind(Enum):
    """How functions come to be joined."""

    CONVENTIONAL = "a bridge to conventional PCI above them"
    PORT = "a port above them"
    UPSTREAM_FUNCTION = "a switch that is one of several functions above them"
    SLOT = "functions of one slot"
    SWITCH = "downstream ports of one switch"
    VMD = "a VMD controller above them"


@dataclass(frozen=True, slots=True)
class Joint:
    """What joins two functions: a bridge above both, or two bridges side by side."""

    kind: Kind
    parts: tuple[PciDevice, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """The same for all joints of one culprit, whichever of its functions they are through."""
        first = self.parts[0].address
        if self.kind in (Kind.SLOT, Kind.UPSTREAM_FUNCTION):
            return (Kind.SLOT, *first.slot)
        if self.kind is Kind.SWITCH:
            return (self.kind, first.domain, first.bus)
        return (self.kind, first)


def why_together(
    host: Host, functions: tuple[PciDevice, ...], foreign: tuple[PciDevice, ...]
) -> list[Finding]:
    """What holds the functions and the foreign endpoints in one group: a finding per culprit.

    The culprit is the topmost one; those that would join the same functions if it isolated are
    named along with it. Foreign endpoints that a VMD controller carries along are VK113's.
    """
    gpu = next((function for function in functions if function.is_gpu), functions[0])
    joined: dict[tuple[object, ...], tuple[list[Joint], list[PciDevice]]] = {}
    unread: dict[PciDevice, PciDevice] = {}
    unexplained: list[PciDevice] = []
    for device in foreign:
        mates = [f for f in functions if f.iommu_group == device.iommu_group]
        joints = _first(_joints(host, function, device) for function in mates)
        if joints:
            known, devices = joined.setdefault(joints[0].key, ([], []))
            known += joints
            devices.append(device)
            continue
        suspect = next((s for f in mates for s in _unread(host, f, device)), None)
        if suspect is not None:
            unread[device] = suspect
        else:
            unexplained.append(device)
    found = [
        _finding(host, gpu, joints, devices)
        for joints, devices in joined.values()
        if joints[0].kind is not Kind.VMD
    ]
    if unread:
        found.append(unread_finding(gpu, tuple(unread), tuple(dict.fromkeys(unread.values()))))
    if unexplained:
        found.append(unexplained_finding(host, gpu, tuple(unexplained)))
    return found


def _first(several: Iterable[list[Joint]]) -> list[Joint]:
    return next((joints for joints in several if joints), [])


def _joints(host: Host, one: PciDevice, other: PciDevice) -> list[Joint]:
    """What joins two functions, the topmost first, then what would if those above it isolated."""
    found: list[Joint] = []
    passed: set[PciAddress] = set()
    while (joint := _joint(host, one, other, passed)) is not None:
        if found and joint.kind is Kind.SWITCH:
            break  # not by the rule of every kernel: said only where nothing else joins them
        found.append(joint)
        passed |= {part.address for part in joint.parts}
    return found


def _joint(host: Host, one: PciDevice, other: PciDevice, passed: set[PciAddress]) -> Joint | None:
    """The topmost joint, the bridges in `passed` taken to isolate."""
    mine, theirs = _anchor(host, one, passed), _anchor(host, other, passed)
    if mine.address == theirs.address:
        # A bridge may be a function of the slot that goes, with foreign endpoints below it.
        return Joint(_kind(mine, other if mine.address == one.address else one), (mine,))
    pair = tuple(sorted((mine, theirs), key=lambda device: device.address))
    failing = tuple(
        part for part in pair if part.address not in passed and isolation(part) is Isolation.NO
    )
    if mine.address.slot == theirs.address.slot and len(failing) == len(pair):
        return Joint(Kind.SLOT, pair)
    # Kernels to come take a switch for one whose ports forward to each other (posted to linux-pci
    # in 2025: "Fix incorrect iommu_groups with PCIe ACS"); it is what the hardware does.
    if failing and all(map(_is_downstream, pair)) and _side_by_side(host, mine, theirs):
        return Joint(Kind.SWITCH, failing)
    return None


def _side_by_side(host: Host, one: PciDevice, other: PciDevice) -> bool:
    """Whether two functions are on the inner bus of one switch."""
    same_bus = one.address.slot[:2] == other.address.slot[:2]
    return same_bus and bool(path(host, one)) and path(host, one) == path(host, other)


def _anchor(host: Host, device: PciDevice, passed: set[PciAddress]) -> PciDevice:
    """The topmost bridge above a device that fails to isolate; the device where none does."""
    for above in path(host, device):
        suspect = above.address not in passed and above.iommu_group in (None, device.iommu_group)
        if suspect and (is_vmd(above, device) or _fails(above)):
            return above
    return device


def _fails(bridge: PciDevice) -> bool:
    return bridge.is_bridge and isolation(bridge) is Isolation.NO


def _is_downstream(device: PciDevice) -> bool:
    return device.config is not None and device.config.pcie_type == PcieType.DOWNSTREAM_PORT


def _kind(bridge: PciDevice, below: PciDevice) -> Kind:
    if is_vmd(bridge, below):
        return Kind.VMD
    kind = None if bridge.config is None else bridge.config.pcie_type
    if kind in _CONVENTIONAL_TYPES:
        return Kind.CONVENTIONAL
    return Kind.UPSTREAM_FUNCTION if kind == PcieType.UPSTREAM_PORT else Kind.PORT


def _unread(host: Host, one: PciDevice, other: PciDevice) -> Iterator[PciDevice]:
    """What is in the group of the two, may join them, and of which too little was read."""
    chains = (*path(host, one), one), (*path(host, other), other)
    for mine, theirs in (chains, chains[::-1]):
        slots = {device.address.slot for device in theirs}
        inner_buses = {d.address.slot[:2] for d in theirs if d.is_bridge and path(host, d)}
        for device in mine:
            beside = device.is_bridge and device.address.slot[:2] in inner_buses
            in_group = device.iommu_group in (None, one.iommu_group)
            if in_group and (device.address.slot in slots or beside) and _is_unread(device):
                yield device


def _is_unread(device: PciDevice) -> bool:
    return isolation(device) is Isolation.UNREAD


def _finding(host: Host, gpu: PciDevice, joints: list[Joint], devices: list[PciDevice]) -> Finding:
    """One culprit, all its functions, and what is below it and fails as well."""
    first = joints[0]
    parts = {p.address: p for joint in joints if joint.key == first.key for p in joint.parts}
    culprit = tuple(parts[address] for address in sorted(parts))
    lower = {p.address: p for j in joints if j.key != first.key for p in j.parts}
    others = tuple(lower[address] for address in sorted(lower))
    write: Callable[..., Finding] = {
        Kind.CONVENTIONAL: conventional_finding,
        Kind.PORT: port_finding,
        Kind.SWITCH: switch_finding,
    }.get(first.kind, functions_finding)
    return write(host, gpu, culprit, others, tuple(devices))
