"""Reads a machine into a `Host`: PCI functions, IOMMU groups, what hangs on them, the platform."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from vfio_kit.errors import HostError
from vfio_kit.host.holders import read_holders
from vfio_kit.host.pci import (
    DEVICES,
    address_of,
    read_device,
    with_details,
    with_matching_drivers,
    with_power_state,
)
from vfio_kit.host.platform import (
    architecture,
    concerning_words,
    cpu_vendor,
    first_processor,
    kernel_release,
    read_platform,
)
from vfio_kit.host.tree import Tree
from vfio_kit.host.uses import read_uses
from vfio_kit.model import Host, PciAddress, PciDevice

NameLookup = Callable[[PciDevice], str | None]
Groups = dict[int, tuple[PciAddress, ...]]

_GROUPS = "sys/kernel/iommu_groups"
_NO_IOMMU = "vfio-noiommu"
"""What VFIO names a group that it makes up for a device without an IOMMU (drivers/vfio/group.c),
where enable_unsafe_noiommu_mode is on."""


def read_host(root: Path = Path("/"), name_of: NameLookup | None = None) -> Host:
    """Reads sysfs and procfs below `root`.

    name_of gives the hardware name of a function; it is asked for GPUs, the other functions of
    their slots, the members of their groups and the bridges above them alone, since looking names
    up is not free. Raises HostError where `root` has no PCI bus in sysfs at all.
    """
    return read_tree(Tree(root), name_of)


def read_tree(tree: Tree, name_of: NameLookup | None = None) -> Host:
    """What `read_host` does, on a tree that the caller made."""
    if not tree.exists("sys/bus/pci"):
        raise HostError(
            f"no PCI bus in {tree.path('sys/bus/pci')}",
            "mount sysfs there, or give the root of another machine's tree with --root",
        )
    names = tree.names(DEVICES)
    devices = [d for d in (read_device(tree, name) for name in names) if d is not None]
    devices.sort(key=lambda device: device.address)
    made_up = _made_up_groups(tree, devices)
    devices = [replace(d, iommu_group=None) if d.iommu_group in made_up else d for d in devices]
    groups = _groups(tree, devices, made_up)
    wanted = _looked_at_closely(devices, groups)
    # All of them before any config space is read: that wakes a device, and what is below it.
    devices = [with_power_state(tree, d) if d.address in wanted else d for d in devices]
    devices = [with_details(tree, d) if d.address in wanted else d for d in devices]
    if name_of is not None:
        devices = [replace(d, name=name_of(d)) if d.address in wanted else d for d in devices]
    cpuinfo, cmdline = first_processor(tree), concerning_words(tree)
    release, machine = kernel_release(tree), architecture(tree)
    devices = with_matching_drivers(tree, devices, release, cmdline)
    holders, holders_seen = read_holders(tree, [d for d in devices if d.address in wanted])
    platform = read_platform(tree, cpuinfo, machine, release)
    return Host(
        devices=tuple(devices),
        iommu_groups=groups,
        iommus=tuple(tree.names("sys/class/iommu")),
        cmdline=cmdline,
        cpu_vendor=cpu_vendor(cpuinfo),
        acpi_tables=frozenset(tree.names("sys/firmware/acpi/tables")),
        machine=machine,
        kernel_release=release,
        platform=replace(platform, holders_seen=holders_seen),
        uses=read_uses(tree),
        holders=holders,
        problems=tuple(tree.problems),
    )


def _made_up_groups(tree: Tree, devices: Iterable[PciDevice]) -> frozenset[int]:
    """The numbers of groups that no IOMMU stands behind: of devices that a VFIO driver has."""
    numbers = {d.iommu_group for d in devices if "vfio" in (d.driver or "")}
    known = (number for number in numbers if number is not None)
    return frozenset(n for n in known if tree.text(f"{_GROUPS}/{n}/name") == _NO_IOMMU)


def _groups(tree: Tree, devices: Iterable[PciDevice], made_up: frozenset[int]) -> Groups:
    """The groups' own lists, and the devices' links into them: either may be unreadable."""
    groups: dict[int, set[PciAddress]] = {}
    for device in devices:
        if device.iommu_group is not None:
            groups.setdefault(device.iommu_group, set()).add(device.address)
    numbers = (int(name) for name in tree.names(_GROUPS) if name.isdecimal())
    for number in (number for number in numbers if number not in made_up):
        path = f"{_GROUPS}/{number}/devices"
        # A group may hold platform devices as well; only PCI functions concern us.
        members = [address_of(tree, f"{path}/{n}", n) for n in tree.names(path) if ":" in n]
        groups.setdefault(number, set()).update(m for m in members if m is not None)
    return {number: tuple(sorted(groups[number])) for number in sorted(groups)}


def _looked_at_closely(devices: list[PciDevice], groups: Groups) -> frozenset[PciAddress]:
    """GPUs, their slots, the members of the groups of these, and all bridges above them.

    Of a bridge the other functions of its slot count as well: together they may fail to isolate.
    """
    slots = {device.address.slot for device in devices if device.is_gpu}
    numbers = {d.iommu_group for d in devices if d.address.slot in slots}
    wanted = {a for n in numbers if n is not None for a in groups.get(n, ())}
    wanted |= {d.address for d in devices if d.address.slot in slots}
    bridges = {above.slot for d in devices if d.address in wanted for above in d.upstream}
    return frozenset(wanted | {d.address for d in devices if d.address.slot in bridges})
