"""Drivers of PCI functions: what is bound now, and back to what was."""

import time
from pathlib import Path

from vfio_kit.apply.command import write_elsewhere
from vfio_kit.errors import HostError

_BUS = Path("/sys/bus/pci")
_LIMIT = 30.0
"""Seconds for a driver to let go of a device, or to take it."""
_HINT = (
    "which process hangs, and where: ps -eo pid,stat,wchan:32,args | grep ' D'; dmesg | tail -50"
)


def driver_of(address: str, bus: Path = _BUS) -> str | None:
    """The driver bound to a function; None where there is none."""
    link = bus / "devices" / address / "driver"
    return link.readlink().name if link.is_symlink() else None


def ids_of(address: str, bus: Path = _BUS) -> str | None:
    """vendor:device of the function that sits there now, as `lspci -n`; None where none does."""
    device = bus / "devices" / address
    try:
        words = [(device / name).read_text().strip()[2:] for name in ("vendor", "device")]
    except OSError:
        return None
    return ":".join(words)


def restore(address: str, driver: str | None, bus: Path = _BUS, patience: float = 10) -> str | None:
    """Sees to it that a function has the driver that it had; returns what it has at the end.

    libvirt gives a managed device back by a new probe, which also finds a driver where there was
    none before; and udev acts on its own, so the state is watched until it is right.
    """
    device = bus / "devices" / address
    if not device.is_dir():
        return None
    end = time.monotonic() + patience
    asked = False
    while (now := driver_of(address, bus)) != driver and time.monotonic() < end:
        if driver is None:
            _write(device / "driver" / "unbind", address)
        elif not asked:
            asked = True
            if now is not None:
                _write(device / "driver" / "unbind", address)
            _write(device / "driver_override", driver)
            try:
                _write(bus / "drivers_probe", address)
            finally:
                _write(device / "driver_override", "\n")
        time.sleep(0.1)
    return driver_of(address, bus)


def _write(path: Path, text: str) -> None:
    wrong = write_elsewhere(path, text, _LIMIT)
    # Without its folder the driver went away by itself: what was wanted.
    if wrong is not None and path.parent.is_dir():
        raise HostError(f"cannot write {text.strip()!r} to {path}: {wrong}", _HINT)
