"""The emulated cards: PCI functions with real ids, and config space built field by field.

A card has no silicon behind it.  What the host's kernel can see of it without a driver is
real: ids, class, capabilities, BAR sizes, and that it has no function level reset.
Offsets and bits: PCI Local Bus 3.0 chapter 6, PCIe Base 3.0 chapter 7, PCI PM 1.2 chapter 3.
"""

import struct
from dataclasses import dataclass, field

MIB = 1 << 20
CONFIG_SIZE = 256

PM_CAPABILITY = 0x60
EXPRESS_CAPABILITY = 0x78
MULTIFUNCTION = 0x80
ENDPOINT, LEGACY_ENDPOINT = 0, 1


@dataclass(frozen=True, slots=True)
class Bar:
    """A 32-bit base address register: `size` in bytes, a power of two."""

    index: int
    size: int
    io: bool = False
    prefetchable: bool = False

    @property
    def flags(self) -> int:
        """Return the read-only low bits: 0x1 for I/O space, 0x8 for prefetchable memory."""
        return (0x1 if self.io else 0) | (0x8 if self.prefetchable else 0)

    @property
    def address_mask(self) -> int:
        """Return the bits that software can set, from which it learns the size."""
        return ~(self.size - 1) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function of a card.  `registers` are read-only dwords of BAR 0."""

    model: str
    vendor: int
    device: int
    subsystem: tuple[int, int]
    class_code: int
    revision: int
    interrupt_pin: int
    express_type: int
    bars: tuple[Bar, ...]
    registers: dict[int, int] = field(default_factory=dict)


# Ids: https://pci-ids.ucw.cz.  Register 0 of an NVIDIA GPU is PMC_BOOT_0, the chip's id, which
# nouveau reads first.  From Maxwell on NVIDIA's driver reads PMC_BOOT_42 (0xa00) as well, the same
# architecture (0x12), implementation (4) and revision (a1) in other places: NV_PMC_BOOT_42 in
# nv_ref.h of NVIDIA/open-gpu-kernel-modules.  Where that reads 0, driver 470 says that the card is
# not supported; so it takes the card, and misses its video BIOS.  BAR sizes of the K80 are cut
# down (really 16 GiB): QEMU's proxy device has 32-bit BARs only, and all of them share about
# 1 GiB below 4 GiB.
M4000 = Function(
    model="m4000",
    vendor=0x10DE,
    device=0x13F1,
    subsystem=(0x10DE, 0x1153),
    class_code=0x030000,
    revision=0xA1,
    interrupt_pin=1,
    express_type=LEGACY_ENDPOINT,
    bars=(
        Bar(0, 16 * MIB),
        Bar(1, 256 * MIB, prefetchable=True),
        Bar(3, 32 * MIB, prefetchable=True),
        Bar(5, 128, io=True),
    ),
    registers={0x0: 0x124020A1, 0xA00: 0x124A1000},
)
M4000_AUDIO = Function(
    model="m4000-audio",
    vendor=0x10DE,
    device=0x0FBB,
    subsystem=(0x10DE, 0x1153),
    class_code=0x040300,
    revision=0xA1,
    interrupt_pin=2,
    express_type=ENDPOINT,
    bars=(Bar(0, 16 * 1024),),
    # An HDA 1.0 controller that never finds a codec: GCAP and VMIN/VMAJ, GCTL, STATESTS,
    # CORBCTL, RIRBCTL, and the immediate command's status.
    registers={0x00: 0x01004401, 0x0C: 0, 0x24: 0, 0x4C: 0, 0x58: 0, 0x5C: 0, 0x68: 0},
)
K80_HALF = Function(
    model="k80",
    vendor=0x10DE,
    device=0x102D,
    subsystem=(0x10DE, 0x106C),
    class_code=0x030200,
    revision=0xA1,
    interrupt_pin=1,
    express_type=ENDPOINT,
    bars=(
        Bar(0, 16 * MIB),
        Bar(1, 64 * MIB, prefetchable=True),
        Bar(3, 32 * MIB, prefetchable=True),
    ),
    registers={0x0: 0x0F22D0A1},
)
MODELS = {f.model: f for f in (M4000, M4000_AUDIO, K80_HALF)}


class ConfigSpace:
    """256 bytes of config space, each bit either read-only or writable."""

    def __init__(self, function: Function, *, multifunction: bool) -> None:
        self._values = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._header(function, multifunction)
        self._power_management(PM_CAPABILITY, next_capability=EXPRESS_CAPABILITY)
        self._express(EXPRESS_CAPABILITY, function.express_type)
        self._initial = bytes(self._values)

    def read(self, offset: int, size: int) -> int:
        """Return `size` bytes at `offset`; all ones beyond the end, as a bus does."""
        if offset + size > CONFIG_SIZE:
            return (1 << 8 * size) - 1
        return int.from_bytes(self._values[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the writable bits of `size` bytes at `offset`."""
        for i in range(offset, min(offset + size, CONFIG_SIZE)):
            mask = self._writable[i]
            byte = value >> 8 * (i - offset) & 0xFF
            self._values[i] = (self._values[i] & ~mask) | (byte & mask)

    def reset(self) -> None:
        """Go back to the state after power on."""
        self._values[:] = self._initial

    def bar_address(self, bar: Bar) -> int:
        """Return where the BAR was put; 0 before that."""
        return self.read(0x10 + 4 * bar.index, 4) & bar.address_mask

    def _set(self, offset: int, kind: str, value: int, writable: int = 0) -> None:
        struct.pack_into(f"<{kind}", self._values, offset, value)
        struct.pack_into(f"<{kind}", self._writable, offset, writable)

    def _header(self, function: Function, multifunction: bool) -> None:
        self._set(0x00, "H", function.vendor)
        self._set(0x02, "H", function.device)
        # command: I/O space, memory space, bus master, parity, SERR, INTx disable
        self._set(0x04, "H", 0, writable=0x0547)
        self._set(0x06, "H", 0x0010)  # status: has a capability list
        self._set(0x08, "I", function.class_code << 8 | function.revision)
        self._set(0x0C, "B", 0, writable=0xFF)  # cache line size
        self._set(0x0D, "B", 0, writable=0xFF)  # latency timer
        self._set(0x0E, "B", MULTIFUNCTION if multifunction else 0)
        for bar in function.bars:
            self._set(0x10 + 4 * bar.index, "I", bar.flags, writable=bar.address_mask)
        self._set(0x2C, "H", function.subsystem[0])
        self._set(0x2E, "H", function.subsystem[1])
        self._set(0x34, "B", PM_CAPABILITY)
        self._set(0x3C, "B", 0, writable=0xFF)  # interrupt line
        self._set(0x3D, "B", function.interrupt_pin)

    def _power_management(self, at: int, next_capability: int) -> None:
        self._set(at, "B", 0x01)
        self._set(at + 1, "B", next_capability)
        self._set(at + 2, "H", 0x0003)  # version 1.2, neither D1 nor D2, no PME
        self._set(at + 4, "H", 0x0008, writable=0x0003)  # No_Soft_Reset: D3hot is no reset

    def _express(self, at: int, express_type: int) -> None:
        self._set(at, "B", 0x10)
        self._set(at + 1, "B", 0x00)  # the list ends here
        self._set(at + 2, "H", 0x0002 | express_type << 4)  # capability version 2
        self._set(at + 4, "I", 0x002C8DE1)  # device capabilities; bit 28 clear: no FLR
        self._set(at + 8, "H", 0x2910, writable=0x7FFF)  # device control: 512-byte reads
        self._set(at + 12, "I", 0x00453D03)  # link capabilities: x16, 8 GT/s, L0s and L1
        self._set(at + 16, "H", 0x0140, writable=0x01FB)  # link control: common clock
        self._set(at + 18, "H", 0x1101)  # link status: x16 at 2.5 GT/s, idle
