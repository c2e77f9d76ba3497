"""The udev hardware database, asked by ids: names of devices that this machine need not have."""

import ctypes
from functools import cache
from typing import Any

_PROPERTY = "ID_MODEL_FROM_DATABASE"


def hwdb_name(vendor_id: int, device_id: int) -> str | None:
    """What the hwdb calls a PCI device; None without libudev, without a hwdb, or if it is silent.

    pyudev asks by device alone: its interface has no hwdb, so libudev is called itself. See
    udev_hwdb_new(3) in libudev's reference; the pattern is that of systemd's 20-pci-vendor-model.
    """
    lib = _libudev()
    if lib is None:
        return None
    # bc, sc and i (class, subclass, interface) are part of the key and matched by nobody.
    modalias = f"pci:v{vendor_id:08X}d{device_id:08X}sv00000000sd00000000bc03sc00i00"
    udev = lib.udev_new()
    hwdb = lib.udev_hwdb_new(udev) if udev else None
    try:
        return _property(lib, hwdb, modalias) if hwdb else None
    finally:
        if hwdb:
            lib.udev_hwdb_unref(hwdb)
        if udev:
            lib.udev_unref(udev)


def _property(lib: Any, hwdb: int, modalias: str) -> str | None:
    entry = lib.udev_hwdb_get_properties_list_entry(hwdb, modalias.encode(), 0)
    while entry:
        if lib.udev_list_entry_get_name(entry) == _PROPERTY.encode():
            value = lib.udev_list_entry_get_value(entry)
            return value.decode("utf-8", "replace") if value else None
        entry = lib.udev_list_entry_get_next(entry)
    return None


@cache
def _libudev() -> Any:
    try:
        lib = ctypes.CDLL("libudev.so.1")
    except OSError:
        return None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[list[Any], Any]] = {
        "udev_new": ([], pointer),
        "udev_unref": ([pointer], pointer),
        "udev_hwdb_new": ([pointer], pointer),
        "udev_hwdb_unref": ([pointer], pointer),
        "udev_hwdb_get_properties_list_entry": ([pointer, text, ctypes.c_uint], pointer),
        "udev_list_entry_get_next": ([pointer], pointer),
        "udev_list_entry_get_name": ([pointer], text),
        "udev_list_entry_get_value": ([pointer], text),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(lib, name)
        function.argtypes, function.restype = arguments, result
    return lib
