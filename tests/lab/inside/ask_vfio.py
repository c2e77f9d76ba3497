"""Asks VFIO itself whether the functions of a slot could go: `python3 - ADDRESS... < ask_vfio.py`

Binds them to vfio-pci, attaches their IOMMU group to a container, and puts all back. Prints JSON:
viable, what the kernel says of the group; refused, the error with which it denies the attachment.
No device is opened, so none is reset.  The interface: include/uapi/linux/vfio.h.
"""

import errno
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PCI = Path("/sys/bus/pci")
_SET_IOMMU, _GET_STATUS, _SET_CONTAINER = 0x3B66, 0x3B67, 0x3B68
_TYPE1_V2 = 3
_VIABLE = 1


def main(addresses: list[str]) -> None:
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    group = (_PCI / "devices" / addresses[0] / "iommu_group").readlink().name
    with _bound(addresses):
        print(json.dumps(ask(Path("/dev/vfio") / group)))


@contextmanager
def _bound(addresses: list[str]) -> Iterator[None]:
    before = {address: _driver(address) for address in addresses}
    try:
        for address in addresses:
            _move(address, "vfio-pci")
        yield
    finally:
        for address, driver in before.items():
            _move(address, driver)


def _driver(address: str) -> str | None:
    link = _PCI / "devices" / address / "driver"
    return link.readlink().name if link.exists() else None


def _move(address: str, driver: str | None) -> None:
    """Give a function to a driver, or to none."""
    device = _PCI / "devices" / address
    if _driver(address) is not None:
        (device / "driver/unbind").write_text(address)
    (device / "driver_override").write_text("vfio-pci" if driver == "vfio-pci" else "\n")
    if driver is not None:
        (_PCI / "drivers" / driver / "bind").write_text(address)


def ask(group: Path) -> dict[str, object]:
    container, file = os.open("/dev/vfio/vfio", os.O_RDWR), os.open(group, os.O_RDWR)
    try:
        status = fcntl.ioctl(file, _GET_STATUS, struct.pack("II", 8, 0))
        viable = bool(struct.unpack("II", status)[1] & _VIABLE)
        try:
            fcntl.ioctl(file, _SET_CONTAINER, struct.pack("i", container))
            fcntl.ioctl(container, _SET_IOMMU, _TYPE1_V2)
        except OSError as error:
            return {"viable": viable, "refused": errno.errorcode[error.errno or 0]}
        return {"viable": viable, "refused": None}
    finally:
        os.close(file)
        os.close(container)


if __name__ == "__main__":
    main(sys.argv[1:])
