"""PCI functions as sysfs shows them."""

from collections.abc import Mapping
from pathlib import Path

from tests.hosts.config_space import Config, config_space
from tests.hosts.description import IO, UNSET, Function
from tests.hosts.files import link, put

_KEYBOARD = ("120013", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe")
_MOUSE = ("17", "ff0000 0 0 0 0")


def device_folders(functions: tuple[Function, ...]) -> dict[str, str]:
    """Address -> the function's folder below the root of the machine."""
    known = {function.address: function for function in functions}
    folders: dict[str, str] = {}

    def folder(address: str) -> str:
        if address not in folders:
            one = known[address]
            if one.parent is None:
                above = f"sys/devices/{one.root}"
            else:
                above = folder(one.parent)
                domain, bus, _ = address.split(":")
                if domain != one.parent.split(":")[0]:
                    # Behind a VMD controller begins another domain.
                    above += f"/pci{domain}:{bus}"
            folders[address] = f"{above}/{address}"
        return folders[address]

    for function in functions:
        folder(function.address)
    return folders


def write_functions(root: Path, functions: tuple[Function, ...]) -> None:
    folders = device_folders(functions)
    slots: dict[str, int] = {}
    for function in functions:
        if function.physfn is None:
            slot = function.address.rpartition(".")[0]
            slots[slot] = slots.get(slot, 0) + 1
    for function in functions:
        device = root / folders[function.address]
        _write_attributes(device, function)
        _write_config(device, function, functions, slots)
        _write_links(root, device, function)
        _write_children(root, device, function)
    _write_virtual_functions(root, functions, folders)
    (root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)


def _write_attributes(device: Path, function: Function) -> None:
    vendor, device_id, class_code = function.ids
    sub_vendor, sub_device = function.subsystem or (vendor, "1153")
    attributes = {
        "vendor": f"0x{vendor}",
        "device": f"0x{device_id}",
        "class": f"0x{class_code}",
        "subsystem_vendor": f"0x{sub_vendor}",
        "subsystem_device": f"0x{sub_device}",
        "numa_node": str(function.numa_node),
        "modalias": modalias(function),
        "irq": "0",
        "revision": "0xa1",
        "boot_vga": None if function.boot_vga is None else str(int(function.boot_vga)),
        "reset_method": function.reset,
        "power_state": function.power_state,
        "removable": function.removable,
        "d3cold_allowed": (
            None if function.d3cold_allowed is None else str(int(function.d3cold_allowed))
        ),
        "resource": None if function.regions is None else _resource(function),
    }
    for name, value in attributes.items():
        if value is not None:
            put(device / name, value)
    if function.mdev is not None:
        for kind, uuids in function.mdev.items():
            folder = device / "mdev_supported_types" / kind
            put(folder / "available_instances", "1")
            (folder / "devices").mkdir()
            for uuid in uuids:
                (device / uuid).mkdir()
                link(folder / "devices" / uuid, device / uuid)


def modalias(function: Function) -> str:
    vendor, device_id, class_code = (digits.upper() for digits in function.ids)
    sub_vendor, sub_device = function.subsystem or (function.ids[0], "1153")
    return (
        f"pci:v0000{vendor}d0000{device_id}sv0000{sub_vendor.upper()}sd0000{sub_device.upper()}"
        f"bc{class_code[:2]}sc{class_code[2:4]}i{class_code[4:]}"
    )


def _resource(function: Function) -> str:
    """13 lines: six BARs, the ROM, six for SR-IOV; of a bridge four windows come after those."""
    lines = ["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * 13
    for region in function.regions or ():
        start = 0 if region.flags & UNSET else region.start
        low = 0x40101 & ~IO if region.flags & IO else 0x40000
        flags = region.flags | low
        lines[region.index] = f"{start:#018x} {start + region.size - 1:#018x} {flags:#018x}"
    return "\n".join(lines)


def _write_config(
    device: Path, function: Function, functions: tuple[Function, ...], slots: Mapping[str, int]
) -> None:
    config = function.config
    if config is None:
        return
    if isinstance(config, Config):
        several = slots.get(function.address.rpartition(".")[0], 0) > 1
        below = [int(f.address.split(":")[1], 16) for f in functions if f.parent == device.name]
        bus = int(function.address.split(":")[1], 16)
        config = config_space(
            function.ids,
            config,
            multifunction=several if config.multifunction is None else config.multifunction,
            buses=(bus, min(below, default=bus + 1), max(below, default=bus + 1)),
        )
    put(device / "config", config)


def _write_links(root: Path, device: Path, function: Function) -> None:
    link(root / "sys/bus/pci/devices" / function.address, device)
    link(device / "subsystem", root / "sys/bus/pci")
    if function.driver:
        driver = root / "sys/bus/pci/drivers" / function.driver
        driver.mkdir(parents=True, exist_ok=True)
        link(device / "driver", driver)
        link(driver / function.address, device)
    if function.group is not None:
        group = root / "sys/kernel/iommu_groups" / str(function.group)
        link(group / "devices" / function.address, device)
        link(device / "iommu_group", group)


def _write_children(root: Path, device: Path, function: Function) -> None:
    for interface in function.interfaces:
        folder = device / "net" / interface
        folder.mkdir(parents=True)
        link(folder / "device", device)
        link(root / "sys/class/net" / interface, folder)
    for card in function.cards:
        folder = device / "drm" / card
        folder.mkdir(parents=True)
        link(folder / "device", device)
        link(root / "sys/class/drm" / card, folder)
    if function.nvidia_minor is not None:
        put(
            root / f"proc/driver/nvidia/gpus/{function.address}/information",
            f"Model: \t\t Quadro\nIRQ:   \t\t 45\nGPU UUID: \t GPU-0\n"
            f"Bus Location: \t {function.address}\nDevice Minor: \t {function.nvidia_minor}",
        )
    for one in function.inputs:
        port = device / f"usb1/1-{one.number}/1-{one.number}:1.0/0003:046D:C31C.0001"
        write_input(root, port / f"input/input{one.number}", one.name, keyboard=one.keyboard)


def write_input(root: Path, folder: Path, name: str, *, keyboard: bool) -> None:
    events, keys = _KEYBOARD if keyboard else _MOUSE
    put(folder / "name", name)
    put(folder / "capabilities/ev", events)
    put(folder / "capabilities/key", keys)
    number = folder.name.removeprefix("input")
    (folder / f"event{number}").mkdir()
    link(folder / "device", folder.parent.parent)
    link(root / "sys/class/input" / folder.name, folder)
    link(root / "sys/class/input" / f"event{number}", folder / f"event{number}")


def _write_virtual_functions(
    root: Path, functions: tuple[Function, ...], folders: Mapping[str, str]
) -> None:
    of: dict[str, list[str]] = {}
    for function in functions:
        if function.physfn is not None:
            of.setdefault(function.physfn, []).append(function.address)
    for function in functions:
        physical = root / folders[function.address]
        virtual = of.get(function.address, [])
        for number, address in enumerate(virtual):
            link(physical / f"virtfn{number}", root / folders[address])
            link(root / folders[address] / "physfn", physical)
        if isinstance(function.config, Config) and function.config.total_vfs:
            put(physical / "sriov_totalvfs", str(function.config.total_vfs))
        if virtual or (isinstance(function.config, Config) and function.config.total_vfs):
            put(physical / "sriov_numvfs", str(len(virtual)))
