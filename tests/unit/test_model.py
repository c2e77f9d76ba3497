"""The nouns: addresses as the kernel writes them, classes of functions, names of VMs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import E1000, HOST_BRIDGE, K80, M4000, M4000_AUDIO, PCI_BRIDGE, QXL, ROOT_PORT
from tests.unit.values import at, function, host
from vfio_kit.errors import UsageError
from vfio_kit.model import PciAddress
from vfio_kit.model.health import Check, CheckStatus, GpuHealth, VerifyReport
from vfio_kit.model.vm import RenderedFile, SeedKeys, check_name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:01:00.0", PciAddress(0, 1, 0, 0)),
        ("01:00.1", PciAddress(0, 1, 0, 1)),
        ("ffff:ff:1f.7", PciAddress(0xFFFF, 0xFF, 0x1F, 7)),
        # Intel VMD numbers its domains from 10000 up; Hyper-V uses all 32 bits.
        ("10000:01:00.0", PciAddress(0x10000, 1, 0, 0)),
        ("b8cd0000:00:02.0", PciAddress(0xB8CD0000, 0, 2, 0)),
        # nvidia-smi writes eight digits, in capitals.
        ("00000000:0A:1C.0", PciAddress(0, 0x0A, 0x1C, 0)),
        ("  0000:01:00.0\n", PciAddress(0, 1, 0, 0)),
    ],
)
def test_an_address_is_read_as_the_tools_write_it(text: str, address: PciAddress) -> None:
    assert PciAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu0",
        "01:00",
        "01:00.8",
        "01:20.0",
        "1:00.0",
        "000:01:00.0",
        "123456789:01:00.0",
        "0000:01:00.0.0",
        "0000:01:00,0",
        "0000-01-00.0",
        "0x0000:01:00.0",
        "-001:01:00.0",
        "0000:01:00.0 0000:01:00.1",
        "0000:01:00.0\n0000:01:00.1",
        "٠١:٠٠.٠",
    ],
)
def test_anything_else_is_refused_and_repeated_in_the_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        PciAddress.parse(text)
    assert caught.value.message == f"{text!r} is not a PCI address"
    assert "01:00.0" in caught.value.hint


addresses = st.builds(
    PciAddress,
    domain=st.integers(0, 0xFFFFFFFF),
    bus=st.integers(0, 0xFF),
    device=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)


@given(addresses)
def test_what_is_printed_can_be_read_back(address: PciAddress) -> None:
    assert PciAddress.parse(str(address)) == address
    assert PciAddress.parse(str(address).upper()) == address


@given(addresses, addresses)
def test_addresses_sort_by_domain_bus_device_function(one: PciAddress, two: PciAddress) -> None:
    assert (one < two) == ((*one.slot, one.function) < (*two.slot, two.function))


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = PciAddress.parse(text)
    except UsageError:
        return
    assert str(address).endswith(text.strip().lower())


def test_a_domain_prints_with_as_many_digits_as_it_needs() -> None:
    assert str(PciAddress(0, 1, 0, 0)) == "0000:01:00.0"
    assert str(PciAddress(0x10000, 0xA, 0x1F, 7)) == "10000:0a:1f.7"


@pytest.mark.parametrize(
    ("ids", "is_gpu", "is_bridge"),
    [
        (M4000, True, False),
        (K80, True, False),  # 0302, a 3D controller: not VGA and a GPU all the same
        (QXL, True, False),
        (("1002", "66a1", "038000"), True, False),
        (M4000_AUDIO, False, False),
        (E1000, False, False),
        (HOST_BRIDGE, False, True),
        (ROOT_PORT, False, True),
        (PCI_BRIDGE, False, True),
        (("104c", "ac56", "060700"), False, True),
        (("10b5", "8724", "060940"), False, True),
        # An ISA bridge is an endpoint to the IOMMU: it can do DMA.
        (("8086", "a305", "060100"), False, False),
        (("8086", "a3a1", "058000"), False, False),
    ],
)
def test_gpus_and_bridges_are_told_by_their_class(
    ids: tuple[str, str, str], is_gpu: bool, is_bridge: bool
) -> None:
    device = function("01:00.0", ids)
    assert (device.is_gpu, device.is_bridge) == (is_gpu, is_bridge)


def test_ids_and_class_print_as_lspci_does() -> None:
    device = function("01:00.0", ("10de", "00f1", "030200"))
    assert (device.ids, device.pci_class) == ("10de:00f1", "0302")


def test_a_slot_is_all_functions_of_one_device() -> None:
    gpu = function("01:00.0", M4000)
    audio = function("01:00.1", M4000_AUDIO)
    elsewhere = [
        function("0001:01:00.0", M4000),
        function("02:00.0", M4000),
        function("01:01.0", M4000),
    ]
    machine = host(*elsewhere, audio, gpu)
    assert machine.slot_of(audio) == (gpu, audio)
    assert machine.device(at("01:00.1")) is audio
    assert machine.device(at("09:00.0")) is None


@pytest.mark.parametrize(
    "name", ["a", "7", "gpu-vm", "gpu.lab.example", "a--b", "a" * 63, "0", "node-01"]
)
def test_names_that_a_vm_can_have(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "A",
        "a_b",
        "a b",
        "a/b",
        "..",
        "../etc",
        "a" * 64,
        "a\n",
        "é",
        "a$(id)",
        "a'b",
        "a\0",
    ],
)
def test_names_that_it_cannot_have(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert repr(name) in caught.value.message


def test_secrets_do_not_appear_where_values_are_printed() -> None:
    keys = SeedKeys(host_private="THE-SECRET", host_public="ssh-ed25519 AAAA", authorized=())
    file = RenderedFile("user-data", "THE-SECRET", 0o600)
    assert "THE-SECRET" not in repr(keys) + repr(file)


def _report(gpus: int, *statuses: CheckStatus) -> VerifyReport:
    health = GpuHealth("Quadro M4000", "470.256.02", "11.4", 8127, "5.2", "PASS")
    checks = tuple(Check(f"check-{n}", status, "") for n, status in enumerate(statuses))
    return VerifyReport("vm", (health,) * gpus, checks)


@pytest.mark.parametrize(
    ("report", "healthy"),
    [
        (_report(1, CheckStatus.OK, CheckStatus.OK), True),
        (_report(2, CheckStatus.OK), True),
        (_report(0, CheckStatus.OK), False),
        (_report(1, CheckStatus.OK, CheckStatus.FAILED), False),
        (_report(1, CheckStatus.OK, CheckStatus.NOT_RUN), False),
    ],
)
def test_healthy_is_a_gpu_and_every_check_ok(report: VerifyReport, healthy: bool) -> None:
    assert report.healthy is healthy
