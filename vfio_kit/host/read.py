"""Reads a machine into a `Host`: PCI functions, IOMMU groups, and what explains their absence."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vfio_kit.errors import HostError, UsageError
from vfio_kit.host.tree import Tree
from vfio_kit.model import Host, PciAddress, PciDevice

NameLookup = Callable[[PciDevice], str | None]

_DEVICES = "sys/bus/pci/devices"
_GROUPS = "sys/kernel/iommu_groups"


def read_host(root: Path = Path("/"), name_of: NameLookup | None = None) -> Host:
    """Reads sysfs and procfs below `root`.

    name_of gives the hardware name of a function; it is asked for GPUs, the other functions of
    their slots and the members of their groups alone, since looking names up is not free.
    Raises HostError where `root` has no PCI bus in sysfs at all.
    """
    return read_tree(Tree(root), name_of)


def read_tree(tree: Tree, name_of: NameLookup | None = None) -> Host:
    """What `read_host` does, on a tree that the caller made."""
    if not tree.path("sys/bus/pci").is_dir():
        raise HostError(
            f"no PCI bus in {tree.path('sys/bus/pci')}",
            "mount sysfs there, or give the root of another machine's tree with --root",
        )
    devices = [d for d in (_device(tree, name) for name in tree.names(_DEVICES)) if d is not None]
    devices.sort(key=lambda device: device.address)
    groups = _groups(tree, devices)
    if name_of is not None:
        devices = _with_names(devices, groups, name_of)
    return Host(
        devices=tuple(devices),
        iommu_groups=groups,
        iommus=tuple(tree.names("sys/class/iommu")),
        cmdline=tree.text("proc/cmdline") or "",
        cpu_vendor=_cpu_vendor(tree.text("proc/cpuinfo") or ""),
        acpi_tables=frozenset(tree.names("sys/firmware/acpi/tables")),
        machine=_machine(tree),
        kernel_release=tree.text("proc/sys/kernel/osrelease") or "",
        problems=tuple(tree.problems),
    )


def _address(tree: Tree, path: str, name: str) -> PciAddress | None:
    try:
        return PciAddress.parse(name)
    except UsageError:
        tree.note(path, "not a PCI address")
        return None


def _device(tree: Tree, name: str) -> PciDevice | None:
    base = f"{_DEVICES}/{name}"
    address = _address(tree, base, name)
    if address is None:
        return None
    vendor, device = tree.number(f"{base}/vendor"), tree.number(f"{base}/device")
    class_code = tree.number(f"{base}/class", most=0xFFFFFF)
    if vendor is None or device is None or class_code is None:
        tree.note(base, "no vendor, device or class; left out")
        return None
    found = PciDevice(
        address=address,
        vendor_id=vendor,
        device_id=device,
        class_code=class_code,
        driver=tree.link(f"{base}/driver"),
        iommu_group=_group_number(tree, f"{base}/iommu_group"),
    )
    if found.is_bridge:
        return found
    numa_node = tree.number(f"{base}/numa_node", base=10)
    methods = tree.text(f"{base}/reset_method")
    return replace(
        found,
        subsystem_vendor_id=tree.number(f"{base}/subsystem_vendor"),
        subsystem_device_id=tree.number(f"{base}/subsystem_device"),
        numa_node=None if numa_node is None or numa_node < 0 else numa_node,
        boot_vga=found.is_gpu and tree.number(f"{base}/boot_vga", base=10, most=1) == 1,
        reset_methods=None if methods is None else tuple(methods.split()),
        interfaces=tuple(tree.names(f"{base}/net")),
    )


def _group_number(tree: Tree, path: str) -> int | None:
    target = tree.link(path)
    if target is None:
        return None
    if not target.isdecimal():
        tree.note(path, f"points to {target[:40]!r}, not to a group")
        return None
    return int(target)


def _groups(tree: Tree, devices: list[PciDevice]) -> dict[int, tuple[PciAddress, ...]]:
    """The groups' own lists, and the devices' links into them: either may be unreadable."""
    groups: dict[int, set[PciAddress]] = {}
    for device in devices:
        if device.iommu_group is not None:
            groups.setdefault(device.iommu_group, set()).add(device.address)
    for number in (name for name in tree.names(_GROUPS) if name.isdecimal()):
        path = f"{_GROUPS}/{number}/devices"
        # A group may hold platform devices as well; only PCI functions concern us.
        members = [_address(tree, f"{path}/{n}", n) for n in tree.names(path) if ":" in n]
        groups.setdefault(int(number), set()).update(m for m in members if m is not None)
    return {number: tuple(sorted(groups[number])) for number in sorted(groups)}


def _with_names(
    devices: list[PciDevice], groups: dict[int, tuple[PciAddress, ...]], name_of: NameLookup
) -> list[PciDevice]:
    slots = {device.address.slot for device in devices if device.is_gpu}
    numbers = {d.iommu_group for d in devices if d.address.slot in slots}
    wanted = {a for n in numbers if n is not None for a in groups.get(n, ())}
    return [
        replace(device, name=name_of(device))
        if device.address.slot in slots or device.address in wanted
        else device
        for device in devices
    ]


def _cpu_vendor(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("vendor_id", "CPU implementer"):
            return value.strip()
    return ""


def _machine(tree: Tree) -> str:
    """The architecture: of the kernel that runs, or as a tree of files tells it."""
    if tree.root == Path("/"):
        return os.uname().machine
    return tree.text("proc/sys/kernel/arch") or "x86_64"
