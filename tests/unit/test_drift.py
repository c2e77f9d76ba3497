"""What has changed between the plan and now: a sentence for each thing, and none for the rest."""

from dataclasses import replace
from typing import Any

import pytest

from tests.machines import K80, M4000, M4000_AUDIO, ROOT_PORT
from tests.unit.values import at, function, host
from vfio_kit.analysis.drift import drift, new_obstacles
from vfio_kit.knowledge.findings import HELD_OPEN, finding
from vfio_kit.model import Holder, Host, PciDevice
from vfio_kit.model.vm import DeviceIdentity
from vfio_kit.plan import identity_of

PORT = function("00:01.0", ROOT_PORT, 6, driver="pcieport")
NIC = ("8086", "1521", "020000")


def card(address: str = "01:00.0", group: int = 6, **fields: Any) -> PciDevice:
    known: dict[str, Any] = {
        "upstream": (at("00:01.0"),),
        "name": "Quadro M4000",
        "subsystem_vendor_id": 0x10DE,
        "subsystem_device_id": 0x1153,
        "numa_node": 0,
    }
    return function(address, M4000, group, **{**known, **fields})


def audio(address: str = "01:00.1", **fields: Any) -> PciDevice:
    return function(address, M4000_AUDIO, 6, **{"driver": "snd_hda_intel", **fields})


def planned(*functions: PciDevice) -> tuple[DeviceIdentity, ...]:
    return tuple(map(identity_of, functions))


def test_the_same_host_has_no_drift() -> None:
    assert drift(planned(card(), audio()), host(PORT, card(), audio())) == ()


def test_a_bridge_in_the_group_and_a_virtual_function_are_none() -> None:
    virtual = function("01:00.2", M4000, 9, physical_function=at("01:00.0"))
    assert drift(planned(card(), audio()), host(PORT, card(), audio(), virtual)) == ()


def test_a_card_that_is_gone() -> None:
    assert drift(planned(card()), host(PORT)) == (
        "there is no 0000:01:00.0 (10de:13f1 Quadro M4000) any more",
    )


def test_a_card_that_moved_is_named_with_its_new_place() -> None:
    nic = function("01:00.0", NIC, 6, driver="igb")
    moved = card("02:00.0", 7, upstream=(at("00:02.0"),))
    assert drift(planned(card()), host(PORT, nic, moved))[0] == (
        "the card that was at 0000:01:00.0 (10de:13f1 Quadro M4000) is at 0000:02:00.0 now, "
        "and in its place there is 0000:01:00.0 Ethernet controller [8086:1521] (driver igb)"
    )


def test_of_several_that_it_may_be_all_are_named() -> None:
    others = (card("02:00.0", 7), card("03:00.0", 8))
    assert drift(planned(card()), host(*others)) == (
        "there is no 0000:01:00.0 (10de:13f1 Quadro M4000) any more; such a card is at each of "
        "0000:02:00.0 and 0000:03:00.0",
    )


def test_two_cards_of_different_kinds_that_changed_places() -> None:
    other = function("02:00.0", K80, 7)
    now = host(card("02:00.0", 7), function("01:00.0", K80, 6))
    first, second = drift(planned(card(), other), now)
    assert first.startswith("the card that was at 0000:01:00.0 (10de:13f1 Quadro M4000) is at 0000")
    assert second.startswith("the card that was at 0000:02:00.0 (10de:102d) is at 0000:01:00.0 now")


def test_a_planned_card_that_is_at_home_is_no_place_for_another() -> None:
    twin = card("02:00.0", 7)
    assert drift(planned(card(), twin), host(twin)) == (
        "there is no 0000:01:00.0 (10de:13f1 Quadro M4000) any more",
    )


WHO = "0000:01:00.0 (10de:13f1 Quadro M4000)"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"subsystem_device_id": 0x1234},
         f"{WHO} is another card now: its subsystem is 10de:1234, was 10de:1153"),
        ({"subsystem_device_id": None},
         f"{WHO} is another card now: its subsystem is none, was 10de:1153"),
        ({"class_code": 0x030200}, f"{WHO} is another card now: its class is 030200, was 030000"),
        ({"silent": True},
         f"{WHO} does not answer any more: its config space reads 0xff throughout"),
        ({"upstream": (at("00:03.0"),)},
         f"{WHO} hangs below 0000:00:03.0 now, was below 0000:00:01.0"),
        ({"upstream": ()}, f"{WHO} hangs on the root bus now, was below 0000:00:01.0"),
        ({"numa_node": 1}, f"{WHO} is on NUMA node 1 now, was on node 0"),
        ({"numa_node": None}, f"{WHO} is on no NUMA node now, was on node 0"),
        ({"driver": "nouveau"}, f"{WHO} has driver nouveau now, had none"),
        ({"iommu_group": None}, f"{WHO} is in no IOMMU group now, was in group 6"),
    ],
)  # fmt: skip
def test_each_thing_that_changes_is_said(changed: dict[str, Any], sentence: str) -> None:
    assert drift(planned(card()), host(PORT, replace(card(), **changed))) == (sentence,)


def test_another_device_in_the_place() -> None:
    now = host(PORT, function("01:00.0", K80, 6))
    assert drift(planned(card()), now) == (
        f"{WHO} is another device now: 0000:01:00.0 3D controller [10de:102d] (no driver)",
    )


def test_all_changes_are_told_not_the_first_alone() -> None:
    now = host(PORT, card(driver="nouveau", numa_node=1), audio(driver=None))
    assert len(drift(planned(card(), audio()), now)) == 3


def test_drivers_do_not_count_where_a_vm_has_the_devices() -> None:
    now = host(PORT, card(driver="vfio-pci"), audio(driver="vfio-pci"))
    assert drift(planned(card(), audio()), now, drivers=False) == ()
    assert len(drift(planned(card(), audio()), now)) == 2


def test_the_same_group_may_have_another_number() -> None:
    then = planned(card(), audio())
    now = host(PORT, card(group=17), replace(audio(), iommu_group=17))
    assert drift(then, now) == ()


def test_two_that_go_and_share_a_group_no_more_or_only_now() -> None:
    both = "0000:01:00.0 and 0000:01:00.1 are"
    together, apart = (card(), audio()), (card(group=5), audio())
    assert drift(planned(*together), host(PORT, *apart)) == (
        f"{both} not in one IOMMU group any more",
    )
    assert drift(planned(*apart), host(PORT, *together)) == (f"{both} in one IOMMU group now",)


def test_a_newcomer_in_a_group_that_was_numbered_anew_is_told() -> None:
    nic = function("02:02.0", NIC, 17, driver="igb")
    (sentence,) = drift(planned(card()), host(PORT, card(group=17), nic))
    assert sentence.startswith("group 17 holds 0000:02:02.0")


def test_a_newcomer_in_the_group_is_told() -> None:
    nic = function("02:02.0", NIC, 6, driver="igb")
    assert drift(planned(card()), host(PORT, card(), nic)) == (
        "group 6 holds 0000:02:02.0 Ethernet controller [8086:1521] (driver igb) now, "
        "which does not go along",
    )


def test_a_newcomer_that_cannot_be_read_is_told() -> None:
    machine = Host(devices=(card(),), iommu_groups={6: (at("01:00.0"), at("02:02.0"))})
    assert drift(planned(card()), machine) == (
        "group 6 holds 0000:02:02.0, which could not be read now, which does not go along",
    )


def test_one_more_function_of_the_card_in_another_group_is_told() -> None:
    usb = function("01:00.2", ("10de", "1ad8", "0c0330"), 8)
    (sentence,) = drift(planned(card(), audio()), host(PORT, card(), audio(), usb))
    assert sentence.startswith(
        "the card has one more function now, which does not go: 0000:01:00.2"
    )


def test_what_an_older_record_does_not_know_is_not_compared() -> None:
    old = DeviceIdentity(at("01:00.0"), "10de:13f1", None, "Quadro M4000")
    assert drift((old,), host(PORT, card())) == ()
    assert drift((old,), host(PORT, card(driver="nouveau"))) != ()


def test_nothing_planned_cannot_drift() -> None:
    assert drift((), host(card())) == ()


# What blocks now, and did not when the plan was made.


def held(pid: int = 900) -> Host:
    holder = Holder(at("01:00.0"), "/dev/nvidia0", pid, "python3")
    return host(PORT, card(driver="nvidia"), holders=(holder,))


def test_a_process_that_has_opened_the_device_since_is_named() -> None:
    (found,) = new_obstacles(held(), [at("01:00.0")], ())
    assert found.code == "VK310"
    assert "python3 (PID 900: /dev/nvidia0)" in found.message


def test_what_the_plan_knew_and_the_operator_accepted_is_no_news() -> None:
    known = finding(HELD_OPEN, at("01:00.0"), "it is open on the host", "")
    assert new_obstacles(held(), [at("01:00.0")], (known,)) == ()


def test_a_warning_is_no_obstacle() -> None:
    assert new_obstacles(host(PORT, card(driver="nouveau")), [at("01:00.0")], ()) == ()


def test_newcomers_of_a_group_are_told_once_by_the_drift() -> None:
    nic = function("02:02.0", NIC, 6, driver="igb")
    assert new_obstacles(host(PORT, card(), nic), [at("01:00.0")], ()) == ()
