"""Machines of any size: every tenth function is a GPU behind a root port of its own."""

from collections.abc import Iterator

from tests.hosts.config_space import ACS_ALL, Config
from tests.machines import M4000, M4000_AUDIO, ROOT_PORT, Function, Machine, Region

_NIC = ("8086", "1521", "020000")
_NVME = ("144d", "a808", "010802")
_PER_CARD = 10
_CARDS_PER_DOMAIN = 30

_MEM, _MEM_64_PREFETCH = 0x200, 0x102200
_REGIONS = (
    Region(0, 0xF600_0000, 16 << 20, _MEM),
    Region(1, 0x380_0000_0000, 256 << 20, _MEM_64_PREFETCH),
    Region(3, 0x380_1000_0000, 32 << 20, _MEM_64_PREFETCH),
)


def machine_of(functions: int) -> Machine:
    """A host with this many PCI functions: GPUs with audio, root ports, NICs and NVMe disks."""
    return Machine(tuple(_functions(functions)), acpi=("DMAR", "APIC"))


def _functions(count: int) -> Iterator[Function]:
    for card in range(count // _PER_CARD):
        domain, place = divmod(card, _CARDS_PER_DOMAIN)
        root = f"pci{domain:04x}:00"
        port = f"{domain:04x}:00:{place + 1:02x}.0"
        bus = f"{domain:04x}:{place * 8 + 1:02x}"
        group = card * _PER_CARD
        yield Function(
            port,
            ROOT_PORT,
            group,
            "pcieport",
            root=root,
            config=Config(pcie_type=4, acs=(0x1F, ACS_ALL)),
        )
        yield Function(
            f"{bus}:00.0",
            M4000,
            group + 1,
            "nouveau",
            parent=port,
            numa_node=0,
            config=Config(pcie_type=1, msi=True),
            regions=_REGIONS,
        )
        yield Function(f"{bus}:00.1", M4000_AUDIO, group + 1, "snd_hda_intel", parent=port)
        for other in range(_PER_CARD - 3):
            nic = other % 2 == 0
            yield Function(
                f"{domain:04x}:{place * 8 + 2 + other:02x}:00.0",
                _NIC if nic else _NVME,
                group + 2 + other,
                "igb" if nic else "nvme",
                root=root,
                interfaces=(f"enp{card}s{other}",) if nic else (),
            )
