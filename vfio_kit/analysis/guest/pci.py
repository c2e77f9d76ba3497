"""Reads the list of PCI functions that the probe makes from a guest's sysfs."""

import re
from dataclasses import dataclass

from vfio_kit.errors import UsageError
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.model import PciAddress
from vfio_kit.model.health import LinkHealth

_DISPLAY = 0x03
_RED_HAT = 0x1B36
_QEMU_ROOT_PORT = 0x000C
_ONES = "63"
# A width that is not known reads as 0, as 63 with all bits set, and as 255 in sysfs.
_WIDTHS = frozenset((1, 2, 4, 8, 12, 16, 32))


@dataclass(frozen=True, slots=True)
class GuestBar:
    """A line of `resource`: addresses as the kernel sees them; size in bytes, 0 for none."""

    start: int
    size: int
    is_64bit: bool = False
    """It takes two registers: the line behind it is empty."""


@dataclass(frozen=True, slots=True)
class Port:
    """The port above a function."""

    address: str
    emulated: bool
    """QEMU's: its link says what the device below says, within limits that are no hardware's."""
    link: LinkHealth


@dataclass(frozen=True, slots=True)
class GuestFunction:
    """A PCI function as a guest's kernel sees it."""

    address: str
    vendor: int
    device: int
    class_code: int
    driver: str | None
    override: str | None
    """The only driver that may take it, by `driver_override`; None where any may."""
    answers: bool
    """False where its registers read as ones: it has fallen off the bus."""
    link: LinkHealth
    bars: tuple[GuestBar, ...]
    port: Port | None

    @property
    def ids(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def aperture(self) -> GuestBar | None:
        """What NVIDIA calls BAR 1, the way into the memory: the second BAR that there is.

        The kernel's number for it is 1 up to Ada, and 2 from Hopper on, whose BAR 0 has 64 bits.
        None where the kernel names no such line.
        """
        number = 2 if self.bars and self.bars[0].is_64bit else 1
        return self.bars[number] if number < len(self.bars) else None

    @property
    def is_nvidia(self) -> bool:
        return self.vendor == NVIDIA

    @property
    def is_display(self) -> bool:
        return self.class_code >> 16 == _DISPLAY

    @property
    def is_gpu(self) -> bool:
        """NVIDIA's display controllers: 0300, 0302 and 0380; a VM's own VGA is none of them."""
        return self.is_nvidia and self.is_display

    def __str__(self) -> str:
        return f"{self.address} [{self.ids}]"


def parse_functions(text: str) -> tuple[GuestFunction, ...]:
    """The functions in the output of the pci probe; what cannot be read is left out."""
    blocks: list[dict[str, list[str]]] = []
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "function":
            blocks.append({})
        if blocks:
            blocks[-1].setdefault(key, []).append(value.strip())
    found = (_function({key: tuple(v) for key, v in block.items()}) for block in blocks)
    return tuple(function for function in found if function is not None)


_Block = dict[str, tuple[str, ...]]


def _function(block: _Block) -> GuestFunction | None:
    vendor, device = _hex(block, "vendor", 4), _hex(block, "device", 4)
    class_code = _hex(block, "class", 6)
    try:
        address = PciAddress.parse(block["function"][0])
    except UsageError:
        return None
    if vendor is None or device is None or class_code is None:
        return None
    override = _first(block, "driver_override")
    return GuestFunction(
        address=str(address),
        vendor=vendor,
        device=device,
        class_code=class_code,
        driver=_first(block, "driver"),
        override=None if override == "(null)" else override,
        answers=not _gone(block),
        link=_link(block, ""),
        bars=tuple(_bar(line) for line in block.get("bar", ())),
        port=_port(block),
    )


def _gone(block: _Block) -> bool:
    """Whether revision and class, or the widths of the link, are all ones."""
    config = (_first(block, "config") or "").split()
    widths = {_first(block, f"{which}_link_width") for which in ("current", "max")}
    return config == ["ff"] * 4 or widths == {_ONES}


def _port(block: _Block) -> Port | None:
    address = _first(block, "port")
    if address is None:
        return None
    ids = (_hex(block, "port_vendor", 4), _hex(block, "port_device", 4))
    return Port(address, ids == (_RED_HAT, _QEMU_ROOT_PORT), _link(block, "port_"))


def _link(block: _Block, prefix: str) -> LinkHealth:
    return LinkHealth(
        speed=_speed(_first(block, f"{prefix}current_link_speed")),
        width=_width(_first(block, f"{prefix}current_link_width")),
        max_speed=_speed(_first(block, f"{prefix}max_link_speed")),
        max_width=_width(_first(block, f"{prefix}max_link_width")),
    )


def _first(block: _Block, key: str) -> str | None:
    values = block.get(key)
    return values[0] or None if values else None


def _hex(block: _Block, key: str, digits: int) -> int | None:
    match = re.fullmatch(rf"0x([0-9a-f]{{{digits}}})", _first(block, key) or "")
    return int(match[1], 16) if match else None


def _speed(text: str | None) -> float | None:
    """GT/s of `8.0 GT/s PCIe`, of `8 GT/s` as old kernels have it; None of `Unknown speed`."""
    match = re.match(r"(\d{1,3}(?:\.\d)?) GT/s", text or "")
    return float(match[1]) if match else None


def _width(text: str | None) -> int | None:
    match = re.fullmatch(r"x?(\d{1,3})", text or "", re.ASCII)
    return int(match[1]) if match and int(match[1]) in _WIDTHS else None


_BAR = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})")
_64BIT = 0x0010_0000  # IORESOURCE_MEM_64 of the kernel's include/linux/ioport.h


def _bar(line: str) -> GuestBar:
    match = _BAR.fullmatch(line)
    if match is None:
        return GuestBar(0, 0)
    start, end, flags = (int(part, 16) for part in match.groups())
    return GuestBar(start, end - start + 1 if end > start else 0, bool(flags & _64BIT))
