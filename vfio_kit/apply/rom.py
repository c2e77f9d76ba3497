"""Option ROM files: those of a plan are looked at before a guest's firmware runs them."""

from pathlib import Path

from vfio_kit.analysis.rom import LARGEST, RomImage, require_rom
from vfio_kit.apply.files import cannot, require_reachable
from vfio_kit.errors import UsageError
from vfio_kit.model.vm import DeviceIdentity, HostDevice


def examine_roms(devices: tuple[HostDevice, ...], identities: tuple[DeviceIdentity, ...]) -> None:
    """Looks at the ROM file of each function that has one.

    Raises UsageError where there is no such file, HostError where it cannot be read, Refused where
    it is no ROM, damaged, or another card's.
    """
    ids = {identity.address: identity.ids for identity in identities}
    for device in devices:
        if device.rom is not None:
            examine_rom(Path(device.rom), ids[device.source])


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
