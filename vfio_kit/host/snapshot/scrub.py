"""What a snapshot may tell: config space without identities, paths without UUIDs and MACs."""

import hashlib
import re

from vfio_kit.host.config_space import (
    FIRST_POINTER,
    HAS_CAPABILITIES,
    HEADER,
    HEADER_TYPE,
    STATUS,
)
from vfio_kit.host.public import public_interface

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_KEPT = {0x01: 8, 0x05: 4, 0x10: 4, 0x11: 4}
"""Bytes that are kept of a capability: PM, MSI, PCI Express, MSI-X. Of the others the head."""
_EXTENDED = 0x100
_KEPT_EXTENDED = {0x000D: 8, 0x0010: 20}
"""Of the extended ones: ACS, SR-IOV. The device serial number (0x0003) is among the others."""


def config_without_identity(data: bytes) -> bytes:
    """Config space with the registers that are read, and zeros for the rest.

    A device's serial number stands in there, of a NIC often its MAC address, and what a vendor
    puts into capabilities of its own nobody knows.
    """
    kept = bytearray(len(data))
    kept[:HEADER] = data[:HEADER]
    pointer = FIRST_POINTER.get(data[HEADER_TYPE] & 0x7F) if len(data) > HEADER else None
    if pointer is not None and data[STATUS] & HAS_CAPABILITIES:
        place, seen = data[pointer] & 0xFC, set[int]()
        while HEADER <= place <= min(len(data), _EXTENDED) - 2 and place not in seen:
            seen.add(place)
            size = _KEPT.get(data[place], 2)
            kept[place : place + size] = data[place : place + size]
            place = data[place + 1] & 0xFC
    place, seen = _EXTENDED, set()
    while _EXTENDED <= place <= len(data) - 4 and place not in seen:
        seen.add(place)
        head = int.from_bytes(data[place : place + 4], "little")
        size = _KEPT_EXTENDED.get(head & 0xFFFF, 4)
        kept[place : place + size] = data[place : place + size]
        place = (head >> 20) & 0xFFC
    return bytes(kept[: len(data)])


def nameless_path(path: str) -> str:
    """The path with every UUID (a mediated device has one for a name) told apart, not told, and
    without the MAC address that an interface may be named after."""
    folder, slash, name = path.rpartition("/")
    if folder.endswith("/net"):
        path = f"{folder}{slash}{public_interface(name)}"
    return _UUID.sub(lambda found: hashlib.sha256(found[0].encode()).hexdigest()[:12], path)
