"""What is made of the bytes of a config space, whole or torn."""

from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.config_space import PORT_TYPES, Config, config_space
from tests.machines import M4000, ROOT_PORT
from vfio_kit.host.config_space import parse_config_space
from vfio_kit.model import Acs, ConfigSpace, PcieType


def header(
    kind: int = 0, *, pointer: int = 0x40, status: int = 0x10, size: int = 4096
) -> bytearray:
    """A config space with a header and nothing else."""
    data = bytearray(size)
    pack_into("<HHHH", data, 0, 0x10DE, 0x13F1, 6, status)
    data[0x0E] = kind
    data[0x14 if kind & 0x7F == 2 else 0x34] = pointer
    return data


def parse(data: bytes | bytearray) -> ConfigSpace:
    parsed = parse_config_space(bytes(data))
    assert parsed is not None
    return parsed


def test_an_endpoint() -> None:
    data = config_space(M4000, Config(PcieType.ENDPOINT, msi=True, msix=False))
    assert parse(data) == ConfigSpace(False, True, True, PcieType.ENDPOINT, msi=True)


def test_a_root_port_with_acs_behind_other_capabilities() -> None:
    data = config_space(ROOT_PORT, Config(PcieType.ROOT_PORT, acs=(0x1F, 0x1D), msix=True))
    assert parse(data) == ConfigSpace(
        False, True, True, PcieType.ROOT_PORT, Acs(0x1F, 0x1D), msi=True, msix=True
    )


@pytest.mark.parametrize(("name", "number"), PORT_TYPES.items())
def test_every_port_type_has_its_name(name: str, number: int) -> None:
    parsed = parse(config_space(ROOT_PORT, Config(number)))
    assert parsed.pcie_type is not None
    assert PcieType(parsed.pcie_type).name.lower().replace("_", "-") in (
        name,
        name.replace("rc-endpoint", "rc-integrated-endpoint"),
    )


def test_a_multifunction_device() -> None:
    data = config_space(M4000, Config(PcieType.ENDPOINT), multifunction=True)
    assert parse(data).multifunction


def test_a_conventional_function_has_no_port_type() -> None:
    parsed = parse(config_space(M4000, Config(None)))
    assert parsed.capabilities_read and parsed.pcie_type is None


def test_an_ordinary_user_sees_the_header() -> None:
    data = config_space(ROOT_PORT, Config(PcieType.ROOT_PORT, acs=(0x1F, 0x1D)), multifunction=True)
    assert parse(data[:64]) == ConfigSpace(True, False, False)
    assert parse(data[:255]) == ConfigSpace(True, False, False)


def test_without_the_extended_space_acs_is_unknown() -> None:
    data = config_space(ROOT_PORT, Config(PcieType.ROOT_PORT, acs=(0x1F, 0x1D), size=256))
    assert parse(data) == ConfigSpace(False, True, False, PcieType.ROOT_PORT, msi=True)


@pytest.mark.parametrize(
    "data", [b"", b"\x10\xde", b"\xff" * 63, b"\xff" * 64, b"\xff" * 4096, bytes(64), bytes(4096)]
)
def test_a_device_that_does_not_answer_says_nothing(data: bytes) -> None:
    assert parse_config_space(data) is None


def test_a_virtual_function_has_no_ids_of_its_own_and_is_read_all_the_same() -> None:
    """SR-IOV 1.1, 3.4.1.1: vendor and device id of a VF read ffff."""
    data = bytearray(config_space(M4000, Config(PcieType.ENDPOINT)))
    data[:4] = b"\xff" * 4
    assert parse(data).pcie_type == PcieType.ENDPOINT


def test_a_device_that_drops_off_the_bus_while_it_is_read() -> None:
    data = config_space(ROOT_PORT, Config(PcieType.ROOT_PORT, acs=(0x1F, 0x1D)))
    gone = parse(data[:64] + b"\xff" * 4032)
    assert gone == ConfigSpace(False, False, False)
    later = parse(data[:256] + b"\xff" * 3840)
    assert later == ConfigSpace(False, True, False, PcieType.ROOT_PORT, msi=True)


def test_a_cardbus_bridge_keeps_its_pointer_elsewhere() -> None:
    data = header(2, pointer=0x80)
    data[0x80:0x82] = b"\x05\x00"
    assert parse(data).msi


def test_of_an_unknown_kind_of_header_nothing_is_read() -> None:
    assert parse(header(0x83)) == ConfigSpace(True, False, False)


def test_a_function_that_says_it_has_no_list_has_none() -> None:
    data = header(status=0)
    data[0x40:0x42] = b"\x05\x00"
    assert not parse(data).msi


@pytest.mark.parametrize("following", [0x40, 0x41, 0x43, 0x10, 0x3C])
def test_a_list_that_loops_or_leads_into_the_header_ends(following: int) -> None:
    data = header(pointer=0x42)
    data[0x40:0x42] = bytes((0x11, following))
    parsed = parse(data)
    assert parsed.msix and not parsed.msi


def test_a_capability_at_the_very_end() -> None:
    data = header(pointer=0xFC, size=256)
    data[0xFC:0x100] = bytes((0x10, 0x00, 0x62, 0x00))
    assert parse(data).pcie_type == PcieType.DOWNSTREAM_PORT


def test_the_first_of_two_alike_capabilities_counts() -> None:
    data = header()
    data[0x40:0x44] = bytes((0x10, 0x50, 0x42, 0x00))
    data[0x50:0x54] = bytes((0x10, 0x00, 0x62, 0x00))
    assert parse(data).pcie_type == PcieType.ROOT_PORT


def test_an_extended_list_that_loops_ends() -> None:
    data = header()
    pack_into("<I", data, 0x100, 0x0001 | 1 << 16 | 0x148 << 20)
    pack_into("<I", data, 0x148, 0x0003 | 1 << 16 | 0x100 << 20)
    parsed = parse(data)
    assert parsed.extended_read and parsed.acs is None


@pytest.mark.parametrize("size", [0x100, 0x103, 0x147, 0x14A, 0x14D, 0x14F])
def test_a_list_that_leads_out_of_what_was_read_tells_nothing_of_acs(size: int) -> None:
    data = config_space(ROOT_PORT, Config(PcieType.ROOT_PORT, acs=(0x1F, 0x1D)))
    parsed = parse(data[:size])
    assert not parsed.extended_read and parsed.acs is None
    assert parse(data[:0x150]).acs == Acs(0x1F, 0x1D)


@settings(deadline=None)
@given(st.binary(max_size=4200))
def test_any_bytes_are_tolerated(data: bytes) -> None:
    parsed = parse_config_space(data)
    assert parsed is None or isinstance(parsed, ConfigSpace)


@settings(deadline=None)
@given(st.binary(min_size=256, max_size=4096), st.integers(0, 2), st.integers(0, 255))
def test_any_capabilities_are_tolerated(data: bytes, kind: int, pointer: int) -> None:
    whole = bytes(header(kind, pointer=pointer, size=64)) + data[64:]
    parsed = parse(whole)
    assert parsed.acs is None or parsed.extended_read
    assert parsed.pcie_type is None or 0 <= parsed.pcie_type <= 15
