"""Config space: bytes of sysfs `config` -> what matters of them.

An ordinary user is given 64 bytes (of a CardBus bridge 128), root 256 of a conventional function
and 4096 of a PCI Express one. A device that is off the bus or in D3cold gives 0xff everywhere.
Layout: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, chapter 7.
"""

from vfio_kit.model import Acs, ConfigSpace

HEADER = 64
_CONVENTIONAL = 256
STATUS, HEADER_TYPE = 0x06, 0x0E
HAS_CAPABILITIES = 0x10
FIRST_POINTER = {0: 0x34, 1: 0x34, 2: 0x14}
"""Header type (function, PCI-to-PCI bridge, CardBus bridge) -> where the list of capabilities is
said to begin."""
_MSI, _PCI_EXPRESS, _MSIX = 0x05, 0x10, 0x11
_EXTENDED_ACS = 0x000D


def parse_config_space(data: bytes) -> ConfigSpace | None:
    """None where not even the header is there, or the device did not answer (all 0xff, or all 0).

    Never raises: lists that loop, or lead out of the config space, end there, as in the kernel.
    """
    if len(data) < HEADER or len(set(data[:HEADER])) == 1:
        return None
    header_type = data[HEADER_TYPE]
    multifunction = bool(header_type & 0x80)
    pointer = FIRST_POINTER.get(header_type & 0x7F)
    places = None if pointer is None else _capabilities(data, pointer)
    if places is None:
        return ConfigSpace(multifunction, capabilities_read=False, extended_read=False)
    express = places.get(_PCI_EXPRESS)
    extended_read, acs = _acs(data)
    return ConfigSpace(
        multifunction,
        capabilities_read=True,
        extended_read=extended_read,
        pcie_type=None if express is None else data[express + 2] >> 4,
        acs=acs,
        msi=_MSI in places,
        msix=_MSIX in places,
    )


def _capabilities(data: bytes, pointer: int) -> dict[int, int] | None:
    """Id of every capability in the first 256 bytes -> where it first stands.

    None where they were not read, or the device dropped off the bus meanwhile (0xff).
    """
    places: dict[int, int] = {}
    if len(data) < _CONVENTIONAL:
        return None
    if not data[STATUS] & HAS_CAPABILITIES:
        return places
    seen = set()
    position = data[pointer] & ~3
    while position >= HEADER and position not in seen:
        seen.add(position)
        identity, following = data[position], data[position + 1]
        if identity == 0xFF:
            return None
        places.setdefault(identity, position)
        position = following & ~3
    return places


def _acs(data: bytes) -> tuple[bool, Acs | None]:
    """Whether the extended config space could be read to the end of its list, and ACS in it."""
    seen = set()
    position = _CONVENTIONAL
    while position >= _CONVENTIONAL and position not in seen:
        seen.add(position)
        header = _number(data, position, 4)
        if header is None or header == 0xFFFFFFFF:
            return False, None
        if header & 0xFFFF == _EXTENDED_ACS:
            capability, control = _number(data, position + 4, 2), _number(data, position + 6, 2)
            if capability is None or control is None:
                return False, None
            return True, Acs(capability, control)
        position = header >> 20 & ~3
    return True, None


def _number(data: bytes, position: int, size: int) -> int | None:
    """A little-endian number; None where it is not within what was read."""
    part = data[position : position + size]
    return int.from_bytes(part, "little") if len(part) == size else None
