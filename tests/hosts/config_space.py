"""Config space of a PCI function, byte for byte where anybody looks.

Offsets and bits: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, 7.5
(capability), 7.7.11 (ACS), 9.3.3 (SR-IOV); include/uapi/linux/pci_regs.h.
"""

from dataclasses import dataclass
from struct import pack_into

PORT_TYPES = {
    "endpoint": 0x0,
    "legacy-endpoint": 0x1,
    "root-port": 0x4,
    "upstream-port": 0x5,
    "downstream-port": 0x6,
    "pcie-to-pci-bridge": 0x7,
    "pci-to-pcie-bridge": 0x8,
    "rc-endpoint": 0x9,
    "rc-event-collector": 0xA,
}
"""Device/Port Type of the PCI Express capability."""

ACS_SV, ACS_TB, ACS_RR, ACS_CR, ACS_UF, ACS_EC, ACS_DT = (1 << bit for bit in range(7))
ACS_ALL = ACS_SV | ACS_RR | ACS_CR | ACS_UF
"""What the kernel switches on where it can, and asks for."""

_PM, _MSI, _PCIE, _MSIX = 0x40, 0x50, 0x70, 0xB0
_AER, _ACS, _SRIOV = 0x100, 0x148, 0x160


@dataclass(frozen=True)
class Config:
    """What a function's config space says.

    `size`: 4096 bytes; 256 where the extended space is out of reach (conventional PCI, or a machine
    without ECAM); 64 is what an ordinary user sees.
    """

    pcie_type: int | None = None
    """Device/Port Type; None: a conventional PCI function."""
    acs: tuple[int, int] | None = None
    """Capability and control register; None: no ACS capability."""
    multifunction: bool | None = None
    """Bit 7 of the header type; None: set where the slot has more than one function."""
    msi: bool = True
    msix: bool = False
    total_vfs: int = 0
    size: int = 4096


def config_space(
    ids: tuple[str, str, str],
    config: Config,
    *,
    multifunction: bool = False,
    buses: tuple[int, int, int] | None = None,
) -> bytes:
    """The bytes. `buses`, of a bridge: primary, secondary and subordinate bus."""
    space = bytearray(4096)
    vendor, device, class_code = (int(digits, 16) for digits in ids)
    bridge = class_code >> 8 == 0x0604
    pack_into("<HHHH", space, 0x00, vendor, device, 0x0006, 0x0010)
    space[0x08] = 0xA1
    space[0x09:0x0C] = class_code.to_bytes(3, "little")
    space[0x0E] = (0x01 if bridge else 0x00) | (0x80 if multifunction else 0x00)
    space[0x34] = _standard_capabilities(space, config)
    if bridge and buses is not None:
        space[0x18:0x1B] = bytes(buses)
    elif not bridge:
        pack_into("<HH", space, 0x2C, vendor, 0x1153)
    if config.pcie_type is not None:
        _extended_capabilities(space, config)
    return bytes(space[: config.size if config.pcie_type is not None else min(config.size, 256)])


def _standard_capabilities(space: bytearray, config: Config) -> int:
    """Writes the list and returns where it starts."""
    wanted = [(_PM, 0x01)]
    if config.msi:
        wanted.append((_MSI, 0x05))
    if config.pcie_type is not None:
        wanted.append((_PCIE, 0x10))
    if config.msix:
        wanted.append((_MSIX, 0x11))
    following = [offset for offset, _ in wanted[1:]] + [0]
    for (offset, capability), after in zip(wanted, following, strict=True):
        space[offset], space[offset + 1] = capability, after
    if config.msi:
        pack_into("<H", space, _MSI + 2, 0x0080)
    if config.pcie_type is not None:
        slot = 1 if config.pcie_type in (0x4, 0x6) else 0
        pack_into("<H", space, _PCIE + 2, 0x2 | config.pcie_type << 4 | slot << 8)
    if config.msix:
        pack_into("<HII", space, _MSIX + 2, 0x0007, 0x0000_0000, 0x0000_1000)
    return wanted[0][0]


def _extended_capabilities(space: bytearray, config: Config) -> None:
    """Advanced Error Reporting comes first, as on real devices: ACS has to be looked for."""
    wanted = [(_AER, 0x0001, 2)]
    if config.acs is not None:
        wanted.append((_ACS, 0x000D, 1))
    if config.total_vfs:
        wanted.append((_SRIOV, 0x0010, 1))
    following = [offset for offset, _, _ in wanted[1:]] + [0]
    for (offset, capability, version), after in zip(wanted, following, strict=True):
        pack_into("<I", space, offset, capability | version << 16 | after << 20)
    if config.acs is not None:
        pack_into("<HH", space, _ACS + 4, *config.acs)
    if config.total_vfs:
        pack_into("<HH", space, _SRIOV + 0x0C, config.total_vfs, config.total_vfs)
