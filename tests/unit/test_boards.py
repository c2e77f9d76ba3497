"""GPUs of one board are told apart from GPUs that only look alike."""

import re
from pathlib import Path

import pytest

from tests.machines import E1000, K80, M4000
from tests.unit.topology import ALL, SWITCH, config, endpoint, port
from tests.unit.values import at, host
from vfio_kit.analysis.grouping.boards import board_findings, board_of
from vfio_kit.knowledge.boards import BOARDS
from vfio_kit.model import Acs, Host, PciDevice, PcieType

UP, DOWN = PcieType.UPSTREAM_PORT, PcieType.DOWNSTREAM_PORT
ROOT = "00:03.0"
PCI_IDS = Path("/usr/share/misc/pci.ids")


def half(address: str, *above: str, group: int | None = None, **fields: object) -> PciDevice:
    known = {"subsystem_vendor_id": 0x10DE, "subsystem_device_id": 0x106C, **fields}
    number = int(address[:2], 16) if group is None else group
    return endpoint(address, K80, number, *above, **known)


def board(first_bus: int, *above: str, acs: Acs | None = ALL) -> tuple[PciDevice, ...]:
    """A K80 whose switch is on `first_bus`."""
    switch = f"{first_bus:02x}:00.0"
    left, right = (f"{first_bus + 1:02x}:{slot}.0" for slot in ("08", "10"))
    return (
        port(switch, UP, None, ids=SWITCH, above=above, group=90),
        port(left, DOWN, acs, ids=SWITCH, above=(*above, switch), group=91),
        port(right, DOWN, acs, ids=SWITCH, above=(*above, switch), group=92),
        half(f"{first_bus + 2:02x}:00.0", *above, switch, left),
        half(f"{first_bus + 3:02x}:00.0", *above, switch, right),
    )


def boards(machine: Host) -> dict[str, list[str]]:
    """GPU -> the GPUs of its board, without their domain."""
    return {
        str(gpu.address)[5:]: [str(address)[5:] for address in board_of(machine, gpu)]
        for gpu in machine.gpus()
    }


def test_the_halves_of_a_k80() -> None:
    machine = host(port(ROOT), *board(0x10, ROOT))
    assert boards(machine) == {
        "12:00.0": ["12:00.0", "13:00.0"],
        "13:00.0": ["12:00.0", "13:00.0"],
    }


def test_two_boards_behind_one_switch_of_a_server() -> None:
    server = ("08:00.0", "09:00.0", "09:01.0")
    machine = host(
        port(ROOT),
        port(server[0], UP, None, above=(ROOT,)),
        port(server[1], DOWN, above=(ROOT, server[0])),
        port(server[2], DOWN, above=(ROOT, server[0])),
        *board(0x10, ROOT, server[0], server[1]),
        *board(0x20, ROOT, server[0], server[2]),
    )
    assert boards(machine) == {
        "12:00.0": ["12:00.0", "13:00.0"],
        "13:00.0": ["12:00.0", "13:00.0"],
        "22:00.0": ["22:00.0", "23:00.0"],
        "23:00.0": ["22:00.0", "23:00.0"],
    }


def test_an_ordinary_user_cannot_read_the_switch_and_sees_the_board_all_the_same() -> None:
    parts = [
        part if part.is_gpu else port(str(part.address), above=(), config=None)
        for part in board(0x10, ROOT)
    ]
    assert boards(host(port(ROOT, config=None), *parts))["12:00.0"] == ["12:00.0", "13:00.0"]


@pytest.mark.parametrize(
    "others",
    [
        # A NIC below the same switch: it is the server's.
        (endpoint("14:00.0", E1000, 14, ROOT, "10:00.0", "11:11.0"),),
        # A third one: there are two on a K80.
        (
            port("11:11.0", DOWN, above=(ROOT, "10:00.0")),
            half("14:00.0", ROOT, "10:00.0", "11:11.0"),
        ),
        # Another card of the same chip, from another maker.
        (half("14:00.0", ROOT, "10:00.0", "11:11.0", subsystem_device_id=0x1234),),
        # The second GPU of one port.
        (half("13:01.0", ROOT, "10:00.0", "11:10.0"),),
    ],
)
def test_a_switch_with_more_below_is_no_boards(others: tuple[PciDevice, ...]) -> None:
    machine = host(port(ROOT), *board(0x10, ROOT), *others)
    assert boards(machine)["12:00.0"] == []


def test_one_gpu_alone_is_no_board() -> None:
    machine = host(port(ROOT), *board(0x10, ROOT)[:-1])
    assert boards(machine) == {"12:00.0": []}


def test_gpus_whose_switch_a_hypervisor_hides() -> None:
    machine = host(
        port("00:02.0"),
        port("00:03.0"),
        half("01:00.0", "00:02.0"),
        half("02:00.0", "00:03.0"),
        half("00:05.0"),
    )
    assert set(map(tuple, boards(machine).values())) == {()}


def test_a_tree_that_lacks_a_bridge_above_claims_nothing() -> None:
    machine = host(*board(0x10, ROOT))
    assert set(map(tuple, boards(machine).values())) == {()}


def test_what_is_above_must_be_a_switch() -> None:
    parts = [
        port("10:00.0", above=(ROOT,), config=config(PcieType.PCIE_TO_PCI_BRIDGE)),
        *board(0x10, ROOT)[1:],
    ]
    assert boards(host(port(ROOT), *parts))["12:00.0"] == []
    parts[0] = endpoint("10:00.0", E1000, 3, ROOT)
    assert boards(host(port(ROOT), *parts))["12:00.0"] == []


def test_like_cards_of_one_gpu_each_are_no_board() -> None:
    left, right = (ROOT, "10:00.0", "11:08.0"), (ROOT, "10:00.0", "11:10.0")
    machine = host(
        port(ROOT),
        *board(0x10, ROOT)[:3],
        endpoint("12:00.0", M4000, 12, *left),
        endpoint("13:00.0", M4000, 13, *right),
    )
    assert set(map(tuple, boards(machine).values())) == {()}


def said(machine: Host, address: str) -> tuple[str, str]:
    gpu = machine.device(at(address))
    assert gpu is not None
    (found,) = board_findings(machine, gpu, board_of(machine, gpu))
    assert (found.code, found.device) == ("VK109", gpu.address)
    return found.message, found.hint


def test_halves_with_groups_of_their_own_may_go_to_different_guests() -> None:
    message, hint = said(host(port(ROOT), *board(0x10, ROOT)), "12:00.0")
    assert message == (
        "0000:12:00.0 is one of 2 GPUs on a Tesla K80 board: 0000:12:00.0 (group 18), 0000:13:00.0 "
        "(group 19); each has a group of its own, so they may go to different guests; a bus reset "
        "of one stays below its own port, power and cooling they share"
    )
    assert hint == "for one guest with the whole board: --gpu 0000:12:00.0 --gpu 0000:13:00.0"


def test_halves_behind_a_switch_without_acs_may_reach_each_other() -> None:
    message, hint = said(host(port(ROOT), *board(0x10, ROOT, acs=None)), "12:00.0")
    assert message.endswith("past the IOMMU: their switch has no ACS capability")
    assert hint.startswith("give them to guests that trust each other; ")


def test_halves_of_one_group_go_together() -> None:
    parts = [
        half(str(part.address)[5:], *map(str, part.upstream), group=7) if part.is_gpu else part
        for part in board(0x10, ROOT)
    ]
    message, hint = said(host(port(ROOT), *parts), "13:00.0")
    assert "those that share a group go to one guest, together" in message
    assert hint == "--gpu 0000:12:00.0 --gpu 0000:13:00.0"


def m10(*groups: int | None) -> Host:
    ids = ("10de", "13bd", "030000")
    parts = [
        part
        for number, group in enumerate(groups)
        for part in (
            port(f"11:{number:02x}.0", DOWN, above=(ROOT, "10:00.0")),
            endpoint(f"{18 + number:02x}:00.0", ids, group, ROOT, "10:00.0", f"11:{number:02x}.0"),
        )
    ]
    return host(port(ROOT), port("10:00.0", UP, None, above=(ROOT,)), *parts)


def test_of_a_board_with_four_some_may_be_missing_and_some_share_a_group() -> None:
    machine = m10(5, 5, 6)
    message, hint = said(machine, "12:00.0")
    assert message.startswith(
        "0000:12:00.0 is one of 4 GPUs on a Tesla M10 board, of which 1 cannot be seen: "
        "0000:12:00.0 (group 5), 0000:13:00.0 (group 5), 0000:14:00.0 (group 6); those that share"
    )
    assert hint == "--gpu 0000:12:00.0 --gpu 0000:13:00.0"
    assert said(machine, "14:00.0")[1] == ""


def test_without_groups_no_half_can_go() -> None:
    message, hint = said(m10(None, None, None, None), "12:00.0")
    assert "0000:12:00.0 (in no group)" in message
    assert message.endswith("none can go without a group") and hint == ""


def test_of_a_gpu_alone_nothing_is_said() -> None:
    machine = m10(1, 2)
    gpu = endpoint("01:00.0", M4000, 3)
    assert board_findings(machine, gpu, ()) == []
    (first, _) = machine.gpus()
    assert board_findings(machine, first, ()) == []


@pytest.mark.skipif(not PCI_IDS.exists(), reason="no pci.ids on this machine")
@pytest.mark.parametrize("ids", BOARDS, ids=lambda ids: f"{ids[0]:04x}:{ids[1]:04x}")
def test_every_row_is_named_as_in_pci_ids(ids: tuple[int, int]) -> None:
    row = BOARDS[ids]
    assert row.gpus in (2, 4)
    text = PCI_IDS.read_text(encoding="utf-8", errors="replace")
    vendor = re.search(rf"^{ids[0]:04x} .*\n((?:[\t#].*\n|\n)*)", text, re.MULTILINE)
    assert vendor is not None
    name = re.search(rf"^\t{ids[1]:04x}  (.*)$", vendor[1], re.MULTILINE)
    assert name is not None
    assert row.name.rpartition(" ")[2].lower() in name[1].lower()
