"""PCI functions as sysfs shows them: in short for all, in detail for those that matter."""

import re
from dataclasses import replace

from vfio_kit.errors import UsageError
from vfio_kit.host.config_space import HEADER, parse_config_space
from vfio_kit.host.modules import read_matching_modules
from vfio_kit.host.public import public_interface
from vfio_kit.host.tree import Tree
from vfio_kit.model import Bar, PciAddress, PciDevice

DEVICES = "sys/bus/pci/devices"

_CONFIG_LIMIT = 4096
_IO, _MEM_PREFETCH, _MEM_64, _UNSET = 0x100, 0x2000, 0x100000, 0x20000000
"""IORESOURCE_* flags of include/linux/ioport.h: the third column of sysfs `resource`."""
_BARS = 6
_POWER_STATES = ("D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error")
"""pci_power_names of drivers/pci/pci.c."""
_REMOVABLE = ("removable", "fixed", "unknown")
_RESET_METHOD = re.compile(r"[a-z]+(_[a-z]+)*")
"""What the kernel calls one: device_specific, flr, bus. Later kernels may have more."""


def address_of(tree: Tree, path: str, name: str) -> PciAddress | None:
    """The address that a name in sysfs stands for; None, and a note, where it is none."""
    try:
        return PciAddress.parse(name)
    except UsageError:
        tree.note(path, "not a PCI address")
        return None


def read_device(tree: Tree, name: str) -> PciDevice | None:
    """What is read of every function: ids, class, driver, group, and what is above it."""
    base = f"{DEVICES}/{name}"
    address = address_of(tree, base, name)
    if address is None:
        return None
    vendor, device = tree.number(f"{base}/vendor"), tree.number(f"{base}/device")
    class_code = tree.number(f"{base}/class", most=0xFFFFFF)
    if vendor is None or device is None or class_code is None:
        tree.note(base, "no vendor, device or class; left out")
        return None
    return PciDevice(
        address=address,
        vendor_id=vendor,
        device_id=device,
        class_code=class_code,
        driver=tree.link(f"{base}/driver"),
        iommu_group=_group_number(tree, f"{base}/iommu_group"),
        upstream=_upstream(tree.target(base) or ""),
    )


def with_power_state(tree: Tree, device: PciDevice) -> PciDevice:
    """The same function with the state that it is in before anything wakes it."""
    path = f"{DEVICES}/{device.address}/power_state"
    return replace(device, power_state=_one_of(tree, path, _POWER_STATES))


def with_details(tree: Tree, device: PciDevice) -> PciDevice:
    """The same function with what only those that matter are asked for.

    A function without power is let sleep. The kernel wakes it for whoever reads its config space
    (pci_read_config), and may wait a minute for one that does not wake up.
    """
    base = f"{DEVICES}/{device.address}"
    numa_node = tree.number(f"{base}/numa_node", base=10)
    d3cold = tree.number(f"{base}/d3cold_allowed", base=10, most=1)
    asleep = device.power_state == "D3cold"
    config = None if asleep else _config_space(tree, f"{base}/config")
    return replace(
        device,
        subsystem_vendor_id=tree.number(f"{base}/subsystem_vendor"),
        subsystem_device_id=tree.number(f"{base}/subsystem_device"),
        numa_node=None if numa_node is None or numa_node < 0 else numa_node,
        boot_vga=device.is_gpu and tree.number(f"{base}/boot_vga", base=10, most=1) == 1,
        reset_methods=_reset_methods(tree, f"{base}/reset_method"),
        interfaces=tuple(dict.fromkeys(map(public_interface, tree.names(f"{base}/net")))),
        config=None if config is None else parse_config_space(config),
        silent=config is not None and config[:HEADER] == b"\xff" * HEADER,
        bars=() if device.is_bridge else _bars(tree, f"{base}/resource"),
        d3cold_allowed=None if d3cold is None else d3cold == 1,
        physical_function=_physical_function(tree, base),
        virtual_functions=tree.number(f"{base}/sriov_numvfs", base=10) or 0,
        mediated_devices=_mediated_devices(tree, base),
        external=_one_of(tree, f"{base}/removable", _REMOVABLE) == "removable",
    )


def with_matching_drivers(
    tree: Tree, devices: list[PciDevice], release: str, cmdline: str
) -> list[PciDevice]:
    """The same functions; those of GPUs' slots with the modules that would take them."""
    slots = {device.address.slot for device in devices if device.is_gpu}
    asked = [device.address for device in devices if device.address.slot in slots]
    found = read_matching_modules(tree, asked, release, cmdline)
    return [replace(d, drivers_that_match=found.get(d.address, ())) for d in devices]


def _upstream(target: str) -> tuple[PciAddress, ...]:
    """The functions above, from the path in /sys/devices that the device's link says."""
    above = []
    for part in target.split("/")[:-1]:
        # A root bus is "pci0000:00": it has no dot.
        if "." in part.strip(".") and ":" in part:
            try:
                above.append(PciAddress.parse(part))
            except UsageError:
                continue  # some other device of the path, as on Arm: "1000100000.pcie"
    return tuple(above)


def _group_number(tree: Tree, path: str) -> int | None:
    target = tree.link(path)
    if target is None:
        return None
    if not target.isdecimal():
        tree.note(path, f"points to {target[:40]!r}, not to a group")
        return None
    return int(target)


def _one_of(tree: Tree, path: str, words: tuple[str, ...]) -> str | None:
    """The file's word; None, and a note, where it is none of these."""
    text = tree.text(path)
    if text is None or text in words:
        return text
    tree.note(path, f"holds {text[:40]!r}, none of {', '.join(words)}")
    return None


def _reset_methods(tree: Tree, path: str) -> tuple[str, ...] | None:
    """The words of the file, which may be empty; a note where one is no word."""
    text = tree.text(path)
    if text is None:
        return None
    if not all(map(_RESET_METHOD.fullmatch, text.split())):
        tree.note(path, f"holds {text[:40]!r}, not methods of reset")
    return tuple(text.split())


def _config_space(tree: Tree, path: str) -> bytes | None:
    """A note where not even the header is there."""
    data = tree.data(path, _CONFIG_LIMIT)
    if data is not None and len(data) < HEADER:
        tree.note(path, f"holds {len(data)} bytes, fewer than a header")
    return data


def _physical_function(tree: Tree, base: str) -> PciAddress | None:
    name = tree.link(f"{base}/physfn")
    return None if name is None else address_of(tree, f"{base}/physfn", name)


def _mediated_devices(tree: Tree, base: str) -> int | None:
    types = tree.names(f"{base}/mdev_supported_types")
    if not types:
        return None
    return sum(len(tree.names(f"{base}/mdev_supported_types/{t}/devices")) for t in types)


def _bars(tree: Tree, path: str) -> tuple[Bar, ...]:
    """Lines of `start end flags`, all three zero where there is no region."""
    text = tree.text(path)
    bars = []
    for index, line in enumerate((text or "").splitlines()[:_BARS]):
        try:
            start, end, flags = (int(word, 16) for word in line.split())
        except ValueError:
            tree.note(path, f"line {index + 1} is {line[:40]!r}, not start, end, flags")
            continue
        if not flags or end < start:
            continue
        unset = bool(flags & _UNSET) or start == 0
        bars.append(
            Bar(
                index,
                0 if unset else start,
                end - start + 1,
                io=bool(flags & _IO),
                is_64bit=bool(flags & _MEM_64),
                prefetchable=bool(flags & _MEM_PREFETCH),
                unassigned=unset,
            )
        )
    return tuple(bars)
