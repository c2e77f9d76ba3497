"""Machines as trees of files: what scan reads, written from a short description.

A test says which functions a machine has; `write_machine` writes the sysfs and procfs that the
kernel would show for them. Data is replaced, never internals.
"""

from dataclasses import dataclass, field
from pathlib import Path

E1000 = ("8086", "100e", "020000")
M4000 = ("10de", "13f1", "030000")
M4000_AUDIO = ("10de", "0fbb", "040300")
K80 = ("10de", "102d", "030200")
ROOT_PORT = ("8086", "1901", "060400")
PCI_BRIDGE = ("1b36", "000e", "060400")
HOST_BRIDGE = ("8086", "29c0", "060000")
QXL = ("1b36", "0100", "030000")


@dataclass(frozen=True)
class Function:
    """One PCI function; `group` None: the kernel put it into no IOMMU group."""

    address: str
    ids: tuple[str, str, str]
    """Vendor, device, class: hex digits without 0x."""
    group: int | None = None
    driver: str | None = None
    boot_vga: bool | None = None
    reset: str | None = "bus"
    interfaces: tuple[str, ...] = ()
    numa_node: int = -1


@dataclass(frozen=True)
class Machine:
    """A host. `acpi` holds names of ACPI tables."""

    functions: tuple[Function, ...]
    cmdline: str = "root=/dev/vda1 ro"
    cpu: str = "GenuineIntel"
    acpi: tuple[str, ...] = ("APIC", "DMAR", "FACP")
    iommus: tuple[str, ...] = ("dmar0",)
    files: dict[str, bytes] = field(default_factory=dict)
    """More files, or other contents for those above: path -> bytes."""


def m4000_isolated() -> Machine:
    """A GPU with its audio function behind a root port of their own; another boot display."""
    return Machine(
        (
            Function("0000:00:00.0", HOST_BRIDGE, 0),
            Function("0000:00:01.0", ROOT_PORT, 1, "pcieport"),
            Function("0000:00:02.0", QXL, 2, "bochs-drm", boot_vga=True),
            Function("0000:01:00.0", M4000, 6, boot_vga=False),
            Function("0000:01:00.1", M4000_AUDIO, 6, "snd_hda_intel", reset=None),
        )
    )


def m4000_shared() -> Machine:
    """GPU, audio and a NIC in use below one PCIe-to-PCI bridge: one group."""
    return Machine(
        (
            Function("0000:00:01.0", ROOT_PORT, 5, "pcieport"),
            Function("0000:01:00.0", PCI_BRIDGE, 6),
            Function("0000:02:01.0", M4000, 6, boot_vga=False),
            Function("0000:02:01.1", M4000_AUDIO, 6, "snd_hda_intel"),
            Function("0000:02:02.0", E1000, 6, "e1000", interfaces=("enp2s2",)),
        )
    )


def k80_pair() -> Machine:
    """The two halves of a K80 behind its switch, each in a group of its own."""
    return Machine(
        (
            Function("0000:00:01.0", ROOT_PORT, 3, "pcieport"),
            Function("0000:01:00.0", ("104c", "8232", "060400"), 4, "pcieport"),
            Function("0000:02:08.0", ("104c", "8233", "060400"), 5, "pcieport"),
            Function("0000:02:10.0", ("104c", "8233", "060400"), 6, "pcieport"),
            Function("0000:03:00.0", K80, 17),
            Function("0000:04:00.0", K80, 42),
        )
    )


def write_machine(root: Path, machine: Machine) -> Path:
    """Writes the machine's tree below `root` and returns `root`."""
    for function in machine.functions:
        _write_function(root, function)
    (root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
    for name in machine.iommus:
        (root / "sys/class/iommu" / name).mkdir(parents=True)
    for name in machine.acpi:
        _put(root / "sys/firmware/acpi/tables" / name, b"")
    _put(root / "proc/cmdline", machine.cmdline.encode() + b"\n")
    _put(root / "proc/cpuinfo", f"processor\t: 0\nvendor_id\t: {machine.cpu}\n".encode())
    _put(root / "proc/sys/kernel/osrelease", b"6.12.0-amd64\n")
    for path, data in machine.files.items():
        _put(root / path, data)
    return root


def _write_function(root: Path, function: Function) -> None:
    device = root / "sys/devices/pci0000:00" / function.address
    vendor, device_id, class_code = function.ids
    attributes = {
        "vendor": f"0x{vendor}",
        "device": f"0x{device_id}",
        "class": f"0x{class_code}",
        "subsystem_vendor": f"0x{vendor}",
        "subsystem_device": "0x1153",
        "numa_node": str(function.numa_node),
    }
    if function.boot_vga is not None:
        attributes["boot_vga"] = str(int(function.boot_vga))
    if function.reset is not None:
        attributes["reset_method"] = function.reset
    for name, value in attributes.items():
        _put(device / name, value.encode() + b"\n")
    for interface in function.interfaces:
        (device / "net" / interface).mkdir(parents=True)
    _link(root / "sys/bus/pci/devices" / function.address, device)
    if function.driver:
        driver = root / "sys/bus/pci/drivers" / function.driver
        driver.mkdir(parents=True, exist_ok=True)
        _link(device / "driver", driver)
    if function.group is not None:
        group = root / "sys/kernel/iommu_groups" / str(function.group)
        _link(group / "devices" / function.address, device)
        _link(device / "iommu_group", group)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
