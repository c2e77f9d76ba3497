"""Devices that are more or less than a card: SR-IOV, mdev, VMD, Thunderbolt."""

import pytest

from tests.machines import M4000, M4000_AUDIO
from tests.unit.topology import endpoint, port
from tests.unit.values import at, function, host
from vfio_kit.analysis.grouping.upstream import path, vmd_above
from vfio_kit.analysis.grouping.virtual import virtual_findings
from vfio_kit.model import Finding, Level, PciDevice

A16 = ("10de", "25b6", "030200")
VMD = ("8086", "467f", "010400")


def only(*devices: PciDevice, of: PciDevice) -> Finding:
    machine = host(*devices)
    (found,) = virtual_findings(machine, machine.slot_of(of))
    assert found.message and found.hint
    return found


def virtual(**fields: object) -> PciDevice:
    return endpoint("01:02.0", A16, 9, physical_function=at("01:00.0"), **fields)


@pytest.mark.parametrize(
    ("driver", "hint"),
    [
        ("nvidia", "driver nvidia of 0000:01:00.0 must stay while the guest runs"),
        ("vfio-pci", "no driver of the host runs 0000:01:00.0, vfio-pci has it"),
        (None, "no driver of the host runs 0000:01:00.0: without its own driver"),
    ],
)
def test_a_virtual_function_needs_the_driver_of_its_physical_one(
    driver: str | None, hint: str
) -> None:
    physical = endpoint("01:00.0", A16, 8, driver=driver)
    found = only(physical, virtual(), of=virtual())
    assert (found.code, found.level, found.device) == ("VK110", Level.INFO, at("01:02.0"))
    assert "is an SR-IOV virtual function of 0000:01:00.0 3D controller [10de:25b6]" in (
        found.message
    )
    assert found.hint.startswith(hint)


def test_a_virtual_function_whose_physical_one_is_not_there() -> None:
    found = only(virtual(), of=virtual())
    assert found.message.endswith("an SR-IOV virtual function of 0000:01:00.0")
    assert found.hint == "the driver of 0000:01:00.0 must stay while the guest runs"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 SR-IOV virtual function is switched on at 0000:01:00.0: 0000:01:02.0; with its"),
        (4, "4 SR-IOV virtual functions are switched on at 0000:01:00.0; with its driver"),
    ],
)
def test_virtual_functions_that_are_switched_on_go_with_the_driver(count: int, words: str) -> None:
    physical = endpoint("01:00.0", A16, 8, virtual_functions=count)
    found = only(physical, virtual(), of=physical)
    assert (found.code, found.level, found.acceptable) == ("VK111", Level.BLOCK, True)
    assert found.device == at("01:00.0")
    assert found.message.startswith(words)
    assert "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs" in found.hint
    assert found.hint.endswith("--accept-loss 0000:01:00.0")


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 mediated device (vGPU) exists on"), (3, "3 mediated devices (vGPU) exist on")],
)
def test_mediated_devices_go_with_the_driver(count: int, words: str) -> None:
    gpu = endpoint("01:00.0", M4000, 8, mediated_devices=count)
    found = only(gpu, of=gpu)
    assert (found.code, found.level, found.acceptable) == ("VK112", Level.BLOCK, True)
    assert found.message.startswith(words)
    assert found.hint.endswith("--accept-loss 0000:01:00.0")


@pytest.mark.parametrize("count", [None, 0])
def test_an_mdev_parent_without_mediated_devices_is_a_card_like_others(count: int | None) -> None:
    gpu = endpoint("01:00.0", M4000, 8, mediated_devices=count)
    assert virtual_findings(host(gpu), (gpu,)) == []


@pytest.mark.parametrize("ids", [VMD, ("8086", "9999", "010400"), ("8086", "28c0", "088000")])
def test_behind_a_vmd_controller_above_ffff(ids: tuple[str, str, str]) -> None:
    above = ("00:0e.0", "10000:e0:01.0")
    gpu = endpoint("10000:e1:00.0", M4000, 8, *above)
    audio = endpoint("10000:e1:00.1", M4000_AUDIO, 8, *above)
    vmd = function("00:0e.0", ids, 8, driver="vmd")
    found = only(vmd, port(above[1], above=above[:1]), gpu, audio, of=gpu)
    assert (found.code, found.level) == ("VK113", Level.WARN)
    assert str(found.device) == "10000:e1:00.0"
    assert found.message.startswith("10000:e1:00.0 sits behind the Intel VMD controller 0000:00:0e")


@pytest.mark.parametrize(
    ("ids", "address"),
    [
        (VMD, "0000:01:00.0"),
        (("1022", "467f", "010400"), "10000:01:00.0"),
        (("8086", "1901", "060400"), "10000:01:00.0"),
    ],
)
def test_what_is_no_vmd_controller(ids: tuple[str, str, str], address: str) -> None:
    gpu = endpoint(address, M4000, 8, "00:0e.0")
    machine = host(function("00:0e.0", ids, 8), gpu)
    assert vmd_above(machine, gpu) is None
    assert virtual_findings(machine, (gpu,)) == []


def test_a_card_that_can_be_unplugged_is_said_once() -> None:
    gpu = endpoint("01:00.0", M4000, 8, external=True)
    audio = endpoint("01:00.1", M4000_AUDIO, 8, external=True)
    found = only(gpu, audio, of=gpu)
    assert (found.code, found.level, found.device) == ("VK114", Level.WARN, gpu.address)


def test_of_an_ordinary_card_nothing_is_said() -> None:
    gpu = endpoint("01:00.0", M4000, 8, "00:01.0")
    assert virtual_findings(host(port("00:01.0"), gpu), (gpu,)) == []


def test_a_path_that_leads_back_to_the_device_is_cut() -> None:
    gpu = endpoint("01:00.0", M4000, 8, "00:01.0", "01:00.0", "00:01.0", "00:07.0")
    root = port("00:01.0", above=("01:00.0",))
    assert path(host(root, gpu), gpu) == (root,)
