"""Option ROMs: what is whole and for the function goes; what is not is refused, and says why."""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.unit.values import at
from vfio_kit.analysis.rom import LARGEST, RomImage, require_rom
from vfio_kit.apply.rom import examine_rom, examine_roms, require_allowed
from vfio_kit.errors import HostError, Refused, UsageError
from vfio_kit.model.vm import DeviceIdentity, HostDevice

X86, EFI = 0, 3
NVIDIA, GM204 = 0x10DE, 0x13F1


def image(
    *,
    vendor: int = NVIDIA,
    device: int = GM204,
    blocks: int = 2,
    code_type: int = X86,
    last: bool = True,
    more_devices: tuple[int, ...] = (),
    revision: int = 3,
    npde: tuple[int, bool] | None = None,
    signature: bytes = b"\x55\xaa",
) -> bytes:
    """An image as PCI Firmware Specification 3.0, 5.1 has it; npde: true blocks, and if last."""
    data = bytearray(blocks * 512)
    data[0:3] = signature + bytes([blocks & 0xFF])
    struct.pack_into("<H", data, 0x18, 0x1C)
    devices = 0x40 if more_devices else 0
    struct.pack_into(
        "<4sHHHHB3sHHBBH", data, 0x1C, b"PCIR", vendor, device, devices, 0x18, revision,
        b"\x00\x00\x03", blocks, 1, code_type, 0x80 if last else 0, 0,
    )  # fmt: skip
    if npde is not None:  # behind the structure, at the next 16 bytes
        struct.pack_into("<4sHHHB", data, 0x40, b"NPDE", 1, 0x14, npde[0], npde[1] << 7)
    if more_devices:
        struct.pack_into(f"<{len(more_devices)}H", data, 0x1C + devices, *more_devices)
    if code_type == X86:
        data[-1] = -sum(data) & 0xFF
    return bytes(data)


def look(data: bytes, device: int = GM204) -> tuple[RomImage, ...]:
    return require_rom("card.rom", data, NVIDIA, device)


def refusal(data: bytes, device: int = GM204) -> Refused:
    with pytest.raises(Refused) as caught:
        look(data, device)
    return caught.value


def test_a_whole_rom_of_the_card() -> None:
    (found,) = look(image())
    assert (found.offset, found.length, found.kind, found.last) == (0, 1024, "x86", True)
    assert (found.vendor_id, found.device_ids) == (NVIDIA, (GM204,))


def test_x86_and_efi_in_one_file_and_padding_behind_the_last() -> None:
    data = image(last=False) + image(code_type=EFI, blocks=3) + b"\xff" * 700
    assert [(i.offset, i.kind) for i in look(data)] == [(0, "x86"), (1024, "EFI")]


def test_nvidias_own_length_and_last_image_win() -> None:
    """The standard's structure says that the first is the last; the one behind it knows better."""
    first = image(npde=(2, False), last=True)
    own = image(code_type=0xE0, signature=b"VN", npde=(2, True))
    assert [i.code_type for i in look(first + own)] == [X86, 0xE0]


def test_an_image_of_type_70_is_the_last() -> None:
    data = image(last=False) + image(code_type=0x70, last=False, device=0)
    assert [i.last for i in look(data)] == [False, True]


def test_the_list_of_devices_counts_from_revision_3_on() -> None:
    listed = image(device=0x13BA, more_devices=(0x13F0, GM204, 0))
    assert look(listed)[0].device_ids == (0x13BA, 0x13F0, GM204)
    old = image(device=0x13BA, more_devices=(0x13F0, GM204, 0), revision=0)
    assert refusal(old).message == (
        "card.rom is a ROM for 10de:13ba, and the function is 10de:13f1"
    )


def test_another_cards_rom() -> None:
    error = refusal(image(device=0x102D))
    assert error.message == "card.rom is a ROM for 10de:102d, and the function is 10de:13f1"
    assert "its own card's ROM" in error.hint


def test_another_vendors_rom() -> None:
    assert "a ROM for 1002:13f1, and" in refusal(image(vendor=0x1002)).message


def test_one_byte_that_changed() -> None:
    data = bytearray(image())
    data[500] ^= 0x10
    assert refusal(bytes(data)).message == (
        "the image at byte 0 of card.rom (x86) sums up to 10, not to 00: it is damaged"
    )


def test_an_efi_image_has_no_checksum() -> None:
    data = bytearray(image(code_type=EFI))
    data[500] ^= 0x10
    assert look(bytes(data))[0].kind == "EFI"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "card.rom is empty: the card did not show its ROM"),
        (b"\xff" * 4096, "card.rom holds ff throughout, and no ROM"),
        (b"\x00" * 4096, "card.rom holds 00 throughout, and no ROM"),
        (b"\x7fELF" + b"x" * 100, "card.rom is no option ROM: it begins with 7f45, not 55aa"),
        (image()[:1000], "the image at byte 0 of card.rom has 1024 bytes, and the file has 1000"),
        (image(last=False), "card.rom ends without its last image"),
        (image(last=False) + b"\xff" * 512,
         "the image at byte 1024 of card.rom begins with ffff, not 55aa"),
        (image().replace(b"PCIR", b"PCIX"), "points to no structure PCIR: it is damaged"),
        (image().replace(b"\x1c\0\0\0PCIR", b"\x10\0\0\0PCIR"), "points to no structure PCIR"),
        (b"\x55\xaa", "points to no structure PCIR"),
        (image(npde=(0, True)), "the image at byte 0 of card.rom has no length"),
        (b"\x00" * (LARGEST + 1), "card.rom has more than 16 MiB"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    assert words in refusal(data).message


def test_a_dump_of_nvidias_flash_tool_says_where_to_cut() -> None:
    error = refusal(b"NVGI" + bytes(1532) + image())
    assert "the option ROM in it begins at byte 1536" in error.message
    assert error.hint == "cut it off: tail -c +1537 card.rom > NEW"


def test_a_rom_further_on_in_a_file_is_pointed_at() -> None:
    data = b"MZ\x55\xaa" + b"junk" * 10 + image()
    assert f"one begins at byte {len(data) - 1024}" in refusal(data).message


@settings(max_examples=few(20), deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1023), st.integers(1, 255))
def test_whatever_the_file_holds_it_is_taken_or_refused(junk: bytes, place: int, by: int) -> None:
    changed = bytearray(image())
    changed[place] = changed[place] + by & 0xFF
    for data in (junk, b"\x55\xaa" + junk, bytes(changed), bytes(changed) + junk):
        try:
            look(data)
        except Refused as error:
            assert "card.rom" in error.message and error.hint


# The files.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can look into; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="vfio-kit-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def put(folder: Path, data: bytes, mode: int = 0o644) -> Path:
    path = folder / "card.rom"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_the_file_of_a_function_is_read(open_folder: Path) -> None:
    assert examine_rom(put(open_folder, image()), "10de:13f1")[0].last
    with pytest.raises(Refused, match=" is a ROM for 10de:13f1, and the function is"):
        examine_rom(open_folder / "card.rom", "10de:0fbb")


@pytest.mark.parametrize("name", ["none", ""])
def test_no_file_and_a_folder(open_folder: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        examine_rom(open_folder / name, "10de:13f1")
    assert caught.value.message == f"no option ROM at {open_folder / name}"


def test_a_file_that_qemu_cannot_read(open_folder: Path) -> None:
    with pytest.raises(HostError, match="QEMU's user cannot read the option ROM"):
        examine_rom(put(open_folder, image(), 0o600), "10de:13f1")


def test_each_function_with_a_rom_is_looked_at_and_no_other(
    open_folder: Path, tmp_path: Path
) -> None:
    rom = str(put(open_folder, image()))
    gpu = DeviceIdentity(at("01:00.0"), "10de:13f1", None, None)
    audio = DeviceIdentity(at("01:00.1"), "10de:0fbb", None, None)

    def device(identity: DeviceIdentity, rom: str | None) -> HostDevice:
        return HostDevice(identity.address, 1, identity.address.function, False, rom)

    examine_roms((device(gpu, rom), device(audio, None)), (gpu, audio), tmp_path)
    with pytest.raises(Refused, match="is 10de:0fbb"):
        examine_roms((device(gpu, rom), device(audio, rom)), (gpu, audio), tmp_path)


_RULES = "etc/apparmor.d/local/abstractions/libvirt-qemu"


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        ({}, False),
        ({"sys/module/apparmor/parameters/enabled": "N\n"}, False),
        ({"sys/module/apparmor/parameters/enabled": "Y\n"}, True),
        ({"sys/module/apparmor/parameters/enabled": "Y\n", _RULES: "/elsewhere/** r,\n"}, True),
        ({"sys/module/apparmor/parameters/enabled": "Y\n", _RULES: "  {folder}/** r,\n"}, False),
        ({"sys/module/apparmor/parameters/enabled": "Y\n", _RULES: "# {folder}/** r,\n"}, True),
    ],
)
def test_a_file_that_libvirts_profile_keeps_from_qemu(
    open_folder: Path, tmp_path: Path, files: dict[str, str], refused: bool
) -> None:
    rom = put(open_folder, image())
    files = {"etc/apparmor.d/abstractions/libvirt-qemu": "", **files}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("{folder}", str(open_folder.resolve())))
    gpu = DeviceIdentity(at("01:00.0"), "10de:13f1", None, None)
    devices = (HostDevice(gpu.address, 1, 0, False, str(rom)),)
    if not refused:
        examine_roms(devices, (gpu,), tmp_path)
        return
    with pytest.raises(
        HostError, match="AppArmor profile keeps QEMU from the option ROM"
    ) as caught:
        examine_roms(devices, (gpu,), tmp_path)
    assert "move it into /usr/share/vgabios" in caught.value.hint


def test_a_folder_that_libvirts_profile_lets_qemu_read(tmp_path: Path) -> None:
    path = Path("/usr/share/vgabios/card.rom")
    for name, text in {
        "etc/apparmor.d/abstractions/libvirt-qemu": "",
        "sys/module/apparmor/parameters/enabled": "Y\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    require_allowed(path, tmp_path)
    with pytest.raises(HostError):
        require_allowed(Path("/usr/share/vgabios-not/card.rom"), tmp_path)
