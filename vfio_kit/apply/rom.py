"""Option ROM files: those of a plan are looked at before a guest's firmware runs them."""

import re
from pathlib import Path

from vfio_kit.analysis.rom import LARGEST, RomImage, require_rom
from vfio_kit.apply.files import cannot, require_reachable
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.vm import DeviceIdentity, HostDevice

_SHARE = Path("/usr/share")
_READABLE = ("vgabios", "qemu", "qemu-kvm", "kvm", "seabios")
"""Folders below it that libvirt's profile for its guests lets QEMU read. virt-aa-helper adds a rule
for a guest's disks, and none for its ROMs (libvirt 11.3: "failed to find romfile")."""
_PROFILE = "etc/apparmor.d/abstractions/libvirt-qemu"
_OWN_RULES = "etc/apparmor.d/local/abstractions/libvirt-qemu"


def examine_roms(
    devices: tuple[HostDevice, ...],
    identities: tuple[DeviceIdentity, ...],
    root: Path = Path("/"),
) -> None:
    """Looks at the ROM file of each function that has one.

    Raises UsageError where there is no such file, HostError where QEMU could not read it, Refused
    where it is no ROM, damaged, or another card's. root: where AppArmor's files are.
    """
    ids = {identity.address: identity.ids for identity in identities}
    for device in devices:
        if device.rom is not None:
            examine_rom(Path(device.rom), ids[device.source])
            require_allowed(Path(device.rom).resolve(), root)


def examine_rom(path: Path, ids: str) -> tuple[RomImage, ...]:
    """The images in a ROM file for a function with these ids (vendor:device); raises as above."""
    if not path.is_file():
        raise UsageError(f"no option ROM at {path}", "give the path of a file that is there")
    require_reachable(path, "option ROM")
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise cannot("read", path, error) from None
    vendor, device = (int(digits, 16) for digits in ids.split(":"))
    return require_rom(str(path), data, vendor, device)


def require_allowed(path: Path, root: Path) -> None:
    """Raises HostError where libvirt's AppArmor profile would keep QEMU from the file.

    A rule of the host's owner that begins as the path does is taken as one that allows it.
    """
    confined = _text(root / "sys/module/apparmor/parameters/enabled") == "Y\n"
    if not confined or not (root / _PROFILE).exists():
        return
    own = re.findall(r"""^\s*"?(/[^"\s*?{\[]+)""", _text(root / _OWN_RULES), re.MULTILINE)
    allowed = (*(f"{_SHARE / name}/" for name in _READABLE), *own)
    if str(path).startswith(allowed):
        return
    raise HostError(
        f"libvirt's AppArmor profile keeps QEMU from the option ROM {path}",
        f"move it into {_SHARE / _READABLE[0]}, which QEMU may read; or allow it by a rule in "
        f"/{_OWN_RULES}",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
