"""Block devices, what they are made of, and what is mounted on them."""

from pathlib import Path

from tests.hosts.description import Block, Machine
from tests.hosts.files import link, put
from tests.hosts.sysfs import device_folders


def write_storage(root: Path, machine: Machine) -> None:
    functions = device_folders(machine.functions)
    folders: dict[str, Path] = {}
    for block in machine.blocks:
        folder = folders[block.name] = root / _folder(block, functions, folders, root)
        put(folder / "dev", block.number)
        put(folder / "size", "2000409264")
        link(root / "sys/class/block" / block.name, folder)
        link(root / "sys/dev/block" / block.number, folder)
        if block.partition_of:
            put(folder / "partition", block.name.rpartition("p")[2][-1])
        else:
            link(root / "sys/block" / block.name, folder)
            (folder / "slaves").mkdir()
        (folder / "holders").mkdir()
        for slave in block.slaves:
            link(folder / "slaves" / slave, folders[slave])
            link(folders[slave] / "holders" / block.name, folder)
        if block.dm:
            put(folder / "dm/name", block.dm[0])
            put(folder / "dm/uuid", block.dm[1])
        if block.md_level:
            put(folder / "md/level", block.md_level)
        if block.multipath and block.function:
            _write_paths(root, root / functions[block.function], block)
    for uuid, names in machine.btrfs.items():
        for name in names:
            link(root / "sys/fs/btrfs" / uuid / "devices" / name, folders[name])
    _write_mounts(root, machine)


def _folder(
    block: Block, functions: dict[str, str], folders: dict[str, Path], root: Path
) -> Path | str:
    if block.partition_of:
        return folders[block.partition_of] / block.name
    if block.multipath:
        return f"sys/devices/virtual/nvme-subsystem/nvme-subsys0/{block.name}"
    if block.function is None:
        return f"sys/devices/virtual/block/{block.name}"
    above = functions[block.function]
    if block.name.startswith("nvme"):
        return f"{above}/nvme/{block.name.rpartition('n')[0]}/{block.name}"
    return f"{above}/ata1/host0/target0:0:0/0:0:0:0/block/{block.name}"


def _write_paths(root: Path, function: Path, block: Block) -> None:
    """The controller, its hidden path to the disk, and the subsystem that knows the controller."""
    controller, _, number = block.name.rpartition("n")
    folder = function / "nvme" / controller
    put(folder / f"{controller}c0n{number}" / "dev", "0:0")
    subsystem = root / "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    link(folder / "device", function)
    link(folder / "subsystem", root / "sys/class/nvme")
    link(root / "sys/class/nvme" / controller, folder)
    link(subsystem / controller, folder)
    link(root / "sys/class/nvme-subsystem/nvme-subsys0", subsystem)


def _write_mounts(root: Path, machine: Machine) -> None:
    if machine.mounts:
        lines = [
            "22 29 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw",
            "23 29 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:6 - sysfs sysfs rw",
        ]
        lines += [
            f"{number} 1 {mount.number} / {mount.point} rw,relatime shared:{number} - "
            f"{mount.filesystem} {mount.source} rw"
            for number, mount in enumerate(machine.mounts, 29)
        ]
        put(root / "proc/self/mountinfo", "\n".join(lines))
    if machine.swaps:
        lines = ["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"]
        lines += [f"/dev/{name:<35}partition\t8388604\t\t0\t\t-2" for name in machine.swaps]
        put(root / "proc/swaps", "\n".join(lines))
