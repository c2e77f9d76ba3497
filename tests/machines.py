"""Machines as trees of files: what scan reads, written from a short description.

A test says which functions a machine has; `write_machine` writes the sysfs and procfs that the
kernel would show for them. Data is replaced, never internals. Machines of many kinds, each with the
verdict that is due to it, are the TOML files in tests/hosts.
"""

from pathlib import Path

from tests.hosts.config_space import ACS_ALL, Config, config_space
from tests.hosts.description import (
    Block,
    Function,
    Input,
    Machine,
    Mount,
    Process,
    Region,
    VirtualInterface,
)
from tests.hosts.files import put
from tests.hosts.storage import write_storage
from tests.hosts.surroundings import write_surroundings
from tests.hosts.sysfs import write_functions

__all__ = [
    "ACS_ALL",
    "Block",
    "Config",
    "Function",
    "Input",
    "Machine",
    "Mount",
    "Process",
    "Region",
    "VirtualInterface",
    "config_space",
    "k80_pair",
    "m4000_isolated",
    "m4000_shared",
    "write_machine",
]

E1000 = ("8086", "100e", "020000")
M4000 = ("10de", "13f1", "030000")
M4000_AUDIO = ("10de", "0fbb", "040300")
K80 = ("10de", "102d", "030200")
ROOT_PORT = ("8086", "1901", "060400")
PCI_BRIDGE = ("1b36", "000e", "060400")
HOST_BRIDGE = ("8086", "29c0", "060000")
QXL = ("1b36", "0100", "030000")


def m4000_isolated() -> Machine:
    """A GPU with its audio function behind a root port of their own; another boot display."""
    port = "0000:00:01.0"
    return Machine(
        (
            Function("0000:00:00.0", HOST_BRIDGE, 0),
            Function(port, ROOT_PORT, 1, "pcieport"),
            Function("0000:00:02.0", QXL, 2, "bochs-drm", boot_vga=True),
            Function("0000:01:00.0", M4000, 6, boot_vga=False, parent=port),
            Function("0000:01:00.1", M4000_AUDIO, 6, "snd_hda_intel", reset=None, parent=port),
        )
    )


def m4000_shared() -> Machine:
    """GPU, audio and a NIC in use below one PCIe-to-PCI bridge: one group."""
    port, bridge = "0000:00:01.0", "0000:01:00.0"
    return Machine(
        (
            Function(port, ROOT_PORT, 5, "pcieport"),
            Function(bridge, PCI_BRIDGE, 6, parent=port),
            Function("0000:02:01.0", M4000, 6, boot_vga=False, parent=bridge),
            Function("0000:02:01.1", M4000_AUDIO, 6, "snd_hda_intel", parent=bridge),
            Function("0000:02:02.0", E1000, 6, "e1000", interfaces=("enp2s2",), parent=bridge),
        )
    )


def k80_pair() -> Machine:
    """The two halves of a K80 behind its switch, each in a group of its own."""
    port, switch = "0000:00:01.0", "0000:01:00.0"
    left, right = "0000:02:08.0", "0000:02:10.0"
    return Machine(
        (
            Function(port, ROOT_PORT, 3, "pcieport"),
            Function(switch, ("104c", "8232", "060400"), 4, "pcieport", parent=port),
            Function(left, ("104c", "8233", "060400"), 5, "pcieport", parent=switch),
            Function(right, ("104c", "8233", "060400"), 6, "pcieport", parent=switch),
            Function("0000:03:00.0", K80, 17, parent=left),
            Function("0000:04:00.0", K80, 42, parent=right),
        )
    )


def write_machine(root: Path, machine: Machine) -> Path:
    """Writes the machine's tree below `root` and returns `root`."""
    write_functions(root, machine.functions)
    write_storage(root, machine)
    write_surroundings(root, machine)
    for path, data in machine.files.items():
        put(root / path, data)
    return root
