"""PURE: whether a file is an option ROM, whole, and one for the function that it is meant for.

A guest's firmware runs what it is given. Half a ROM, or another card's, shows a black screen at
best, and nobody says why.

Offsets: PCI Firmware Specification 3.0, 5.1 (the header and the structure "PCIR"); the structure
"NPDE" behind it is NVIDIA's own, with the true length of an image and whether it is the last:
drivers/gpu/drm/nouveau/nvkm/subdev/bios/{image,npde}.c. Those of Linux: drivers/pci/rom.c.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from vfio_kit.analysis.describe import listed
from vfio_kit.errors import Refused

LARGEST = 16 << 20
"""Bytes: the largest ROM that a function's expansion ROM BAR can show (PCI 3.0, 6.2.5.2)."""

_BLOCK = 512
_HEADER, _STRUCTURE = 0x1A, 0x18
_SIGNATURE = b"\x55\xaa"
_NVIDIA_SIGNATURES = (_SIGNATURE, b"\x77\xbb", b"VN")
_FLASH_HEADERS = (b"NVGI", b"NVMH")
_X86, _NVIDIA_LAST = 0x00, 0x70
_KINDS = {0x00: "x86", 0x01: "Open Firmware", 0x02: "PA-RISC", 0x03: "EFI"}
_DUMP = (
    "read it anew on a host where another card is the boot display, with the card's driver "
    "unbound: cd /sys/bus/pci/devices/ADDR; echo 1 > rom; cat rom > FILE; echo 0 > rom"
)


@dataclass(frozen=True, slots=True)
class RomImage:
    """One image of an option ROM; `offset` and `length` in bytes from the file's start."""

    offset: int
    length: int
    vendor_id: int
    device_ids: tuple[int, ...]
    """The device id of the structure, and those of its device list."""
    code_type: int
    """0 x86, 1 Open Firmware, 3 EFI; vendors have their own above."""
    last: bool

    @property
    def kind(self) -> str:
        return _KINDS.get(self.code_type, f"type {self.code_type:02x}")


def require_rom(name: str, data: bytes, vendor_id: int, device_id: int) -> tuple[RomImage, ...]:
    """The images of an option ROM for a function with these ids.

    name  what to call the file in an error.

    Raises Refused that says what is wrong with it.
    """
    images = tuple(_images(name, data))
    # NVIDIA's own images, beyond those of the standard, are not the firmware's to run.
    standard = [image for image in images if image.code_type in _KINDS]
    if not any(i.vendor_id == vendor_id and device_id in i.device_ids for i in standard):
        ids = dict.fromkeys(f"{i.vendor_id:04x}:{d:04x}" for i in images for d in i.device_ids)
        raise Refused(
            f"{name} is a ROM for {listed(list(ids))}, and the function is "
            f"{vendor_id:04x}:{device_id:04x}",
            "give each function its own card's ROM; or none: a guest that only computes needs none",
        )
    return images


def _images(name: str, data: bytes) -> Iterator[RomImage]:
    """Image after image, to the one that says that it is the last."""
    _require_beginning(name, data)
    offset = 0
    while True:
        image = _image(name, data, offset)
        yield image
        if image.last:
            return
        offset += image.length
        if offset >= len(data):
            raise Refused(f"{name} ends without its last image: half of it is missing", _DUMP)


def _require_beginning(name: str, data: bytes) -> None:
    if len(data) > LARGEST:
        raise Refused(
            f"{name} has more than {LARGEST >> 20} MiB, the most that an option ROM can have",
            "give the file with the card's option ROM",
        )
    if data.startswith(_SIGNATURE):
        return
    if not data.strip(b"\xff\x00"):
        what = "is empty" if not data else f"holds {data[0]:02x} throughout, and no ROM"
        raise Refused(f"{name} {what}: the card did not show its ROM when it was read", _DUMP)
    start = _first_image(data)
    if data.startswith(_FLASH_HEADERS) and start is not None:
        raise Refused(
            f"{name} begins with the header of NVIDIA's flash tool; the option ROM in it begins "
            f"at byte {start}",
            f"cut it off: tail -c +{start + 1} {shlex.quote(name)} > NEW",
        )
    raise Refused(
        f"{name} is no option ROM: it begins with {data[:2].hex()}, not 55aa"
        + ("" if start is None else f"; one begins at byte {start}"),
        _DUMP,
    )


def _first_image(data: bytes) -> int | None:
    """Where the first header begins that points to a structure "PCIR"."""
    start = data.find(_SIGNATURE)
    while start >= 0:
        at = start + _word(data, start + _STRUCTURE)
        if data[at : at + 4] == b"PCIR":
            return start
        start = data.find(_SIGNATURE, start + 1)
    return None


def _image(name: str, data: bytes, offset: int) -> RomImage:
    where = f"the image at byte {offset} of {name}"
    if data[offset : offset + 2] not in (_NVIDIA_SIGNATURES if offset else (_SIGNATURE,)):
        raise Refused(
            f"{where} begins with {data[offset : offset + 2].hex()}, not 55aa, and the one before "
            "it is not the last",
            _DUMP,
        )
    at = offset + _word(data, offset + _STRUCTURE)
    if at < offset + _HEADER or data[at : at + 4] not in (b"PCIR", b"NPDS", b"RGIS"):
        raise Refused(f"{where} points to no structure PCIR: it is damaged", _DUMP)
    code_type = _byte(data, at + 0x14)
    length, last = _extent(data, at, code_type)
    if length == 0:
        raise Refused(f"{where} has no length: it is damaged", _DUMP)
    if offset + length > len(data):
        raise Refused(
            f"{where} has {length} bytes, and the file has {len(data) - offset} of them", _DUMP
        )
    if code_type == _X86 and (rest := _checksum(data, offset)):
        raise Refused(f"{where} (x86) sums up to {rest:02x}, not to 00: it is damaged", _DUMP)
    return RomImage(
        offset, length, _word(data, at + 4), tuple(_device_ids(data, at)), code_type, last
    )


def _extent(data: bytes, at: int, code_type: int) -> tuple[int, bool]:
    """Length in bytes and whether it is the last, by NVIDIA's structure where there is one."""
    length, last = _word(data, at + 0x10), bool(_byte(data, at + 0x15) & 0x80)
    if code_type == _NVIDIA_LAST:
        return length * _BLOCK, True
    own = (at + _word(data, at + 0x0A) + 0x0F) & ~0x0F
    if data[own : own + 4] == b"NPDE":
        length, last = _word(data, own + 0x08), bool(_byte(data, own + 0x0A) & 0x80)
    return length * _BLOCK, last


def _checksum(data: bytes, offset: int) -> int:
    """Of the part that an x86 image loads: the third byte has its length in blocks."""
    return sum(data[offset : offset + _byte(data, offset + 2) * _BLOCK]) & 0xFF


def _device_ids(data: bytes, at: int) -> Iterator[int]:
    """The structure's device, and from revision 3 on those of its list, which ends with 0."""
    yield _word(data, at + 6)
    revision, start = _byte(data, at + 0x0C), _word(data, at + 8)
    if revision < 3 or start == 0:
        return
    for place in range(at + start, len(data), 2):
        device = _word(data, place)
        if device == 0:
            return
        yield device


def _byte(data: bytes, offset: int) -> int:
    return data[offset] if offset < len(data) else 0


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")
