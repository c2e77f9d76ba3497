"""What drives a card: the tables, row by row, and the answers for cards that people have."""

from itertools import pairwise
from pathlib import Path

import pytest

from vfio_kit.analysis.advice.chips import chip_of, family_of, find_gpus, short_name
from vfio_kit.analysis.advice.compatibility import advise, advise_capability
from vfio_kit.host.names import name_lookup
from vfio_kit.knowledge.branches import BRANCHES, Branch
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.knowledge.gpus import BOARDS, FAMILIES, Board, GpuFamily
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.ollama import LATEST, OLLAMA, OLLAMA_FORKS, OllamaRow
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.knowledge.provisioning import DRIVER_ROWS
from vfio_kit.model.advice import Advice, Drivable, UnknownGpu, Version, Way

MODERN = "6.12.0-amd64"

# One card of each family: device id, last branch (None: they go on), driver and CUDA to take.
CARDS: dict[str, tuple[int, int | None, int, str]] = {
    "2.0": (0x1091, 390, 390, "8.0"),  # Tesla M2090
    "2.1": (0x1201, 390, 390, "8.0"),  # GTX 560
    "3.0": (0x118F, 470, 470, "10.2"),  # Tesla K10
    "3.5": (0x1023, 470, 470, "11.4"),  # Tesla K40m
    "3.7": (0x102D, 470, 470, "11.4"),  # Tesla K80
    "5.0": (0x13BD, 580, 470, "11.4"),  # Tesla M10
    "5.2": (0x13F1, 580, 470, "11.4"),  # Quadro M4000
    "6.0": (0x15F8, 580, 470, "11.4"),  # Tesla P100
    "6.1": (0x1B38, 580, 470, "11.4"),  # Tesla P40
    "7.0": (0x1DB4, 580, 470, "11.4"),  # Tesla V100
    "7.5": (0x1EB8, None, 580, "13.0"),  # Tesla T4
    "8.0": (0x20F1, None, 580, "13.0"),  # A100
    "8.6": (0x2235, None, 580, "13.0"),  # A40
    "8.9": (0x2684, None, 580, "13.0"),  # RTX 4090
    "9.0": (0x2331, None, 580, "13.0"),  # H100
    "10.0": (0x2901, None, 580, "13.0"),  # B200
    "12.0": (0x2B85, None, 580, "13.0"),  # RTX 5090
}
# Cards that the shipped table does not name.
NAMES = {0x2901: "GB100 [B200]", 0x20F1: "GA100 [A100 PCIe 40GB]"}

# The compute capabilities that each branch drives, from NVIDIA's lists of supported products.
# 367 stands for three boards alone.
DRIVES: dict[int, str] = {
    367: "",
    390: "2.0 2.1 3.0 3.5 3.7 5.0 5.2 6.0 6.1 7.0",
    418: "3.0 3.5 3.7 5.0 5.2 6.0 6.1 7.0 7.5",
    450: "3.0 3.5 3.7 5.0 5.2 6.0 6.1 7.0 7.5 8.0",
    470: "3.0 3.5 3.7 5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6",
    510: "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6",
    535: "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0",
    550: "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0",
    570: "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0 10.0 12.0",
    580: "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0 10.0 12.0",
    595: "7.5 8.0 8.6 8.9 9.0 10.0 12.0",
}

# Newest stock Ollama: one (compute capability, branch) for every row of its table.
RUNS: dict[tuple[str, str], tuple[str, int]] = {
    (LATEST, "5.0"): ("6.1", 580),
    (LATEST, "7.0"): ("7.0", 550),
    ("0.24.0", "5.0"): ("5.2", 550),
    ("0.9.2", "5.0"): ("7.0", 470),
}


def name_of(device_id: int) -> str:
    return SHIPPED_NAMES.get((NVIDIA, device_id)) or NAMES[device_id]


def advice(device_id: int, kernel: str = MODERN) -> Advice:
    found = advise(NVIDIA, device_id, name_of(device_id), kernel)
    assert isinstance(found, Advice)
    return found


def capability(family: GpuFamily) -> str:
    return str(family.compute_capability)


# The tables


def test_every_row_has_its_test_data() -> None:
    assert [capability(family) for family in FAMILIES] == list(CARDS)
    assert [branch.number for branch in BRANCHES] == list(DRIVES)
    assert {(row.version, str(row.first_capability)) for row in OLLAMA} == RUNS.keys()


@pytest.mark.parametrize("family", FAMILIES, ids=capability)
def test_a_card_of_each_family(family: GpuFamily) -> None:
    device_id, last_branch, driver, cuda = CARDS[capability(family)]
    found = advice(device_id)
    assert (found.architecture, found.compute_capability, found.last_branch) == (
        family.architecture,
        family.compute_capability,
        last_branch,
    )
    assert found.chip in family.chips
    one = found.recommendation
    assert (one.driver, str(one.cuda)) == (driver, cuda)
    assert one.way is (Way.NOT_NEEDED if last_branch is None else Way.PASSTHROUGH)
    assert family.source.startswith("https://")


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: str(branch.number))
def test_what_each_branch_drives(branch: Branch) -> None:
    driven = {
        wanted
        for wanted, (device_id, *_) in CARDS.items()
        for answer in advice(device_id).branches
        if answer.branch == branch.number and answer.answer.supported
    }
    assert driven == set(DRIVES[branch.number].split())


@pytest.mark.parametrize("row", OLLAMA, ids=lambda row: f"{row.version}-{row.first_capability}")
def test_each_row_of_ollama(row: OllamaRow) -> None:
    wanted, branch = RUNS[row.version, str(row.first_capability)]
    (answer,) = (one for one in advice(CARDS[wanted][0]).branches if one.branch == branch)
    assert answer.ollama == row.version
    assert row.source.startswith("https://")


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: str(branch.number))
def test_a_branch_names_its_sources(branch: Branch) -> None:
    assert branch.source.startswith("https://")
    assert branch.release is None or branch.release.startswith(f"{branch.number}.")
    for kernels in branch.kernels:
        assert kernels.first <= kernels.last
        assert kernels.source
    for package in branch.guests:
        assert package.package
        assert package.source.startswith("https://")


def test_branches_are_in_order_and_speak_ever_newer_cuda() -> None:
    for older, newer in pairwise(BRANCHES):
        assert older.number < newer.number
        assert older.cuda < newer.cuda


def test_a_chip_is_in_one_family() -> None:
    chips = [chip for family in FAMILIES for chip in family.chips]
    assert sorted(chips) == sorted(set(chips))
    assert all(chip_of(chip) == chip for chip in chips)


def test_last_branches_are_rows_of_the_table() -> None:
    numbers = {branch.number for branch in BRANCHES}
    assert {family.last_branch for family in FAMILIES} - {None} <= numbers
    assert {board.last_branch for board in BOARDS} <= numbers


def test_what_vfio_kit_installs_is_a_branch_that_the_guest_carries() -> None:
    carried = {(p.guest, branch.number) for branch in BRANCHES for p in branch.guests}
    assert {(row.guest, row.branch) for row in DRIVER_ROWS.values()} <= carried


def test_forks_of_ollama_are_for_families_without_stock_builds() -> None:
    for fork in OLLAMA_FORKS:
        assert str(fork.capability) in CARDS
        assert fork.capability < Version(5, 0)


# The cards of the origin story, and others that people pass through


@pytest.mark.parametrize(
    ("device_id", "summary"),
    [
        (0x102D, "Tesla K80: passthrough, driver 470.256.02 with CUDA 11.4, and nothing newer"),
        (
            0x13F1,
            "Quadro M4000: passthrough, driver 470.256.02 with CUDA 11.4, or driver 580 with CUDA "
            "up to 12.9",
        ),
        (
            0x17FD,
            "Tesla M40: passthrough, driver 470.256.02 with CUDA 11.4, or driver 580 with CUDA "
            "up to 12.9",
        ),
        (0x1091, "Tesla M2090: passthrough, driver 390.157 with CUDA 8.0, and nothing newer"),
        (0x11BF, "GRID K2: passthrough, driver 367 with CUDA 8.0, and nothing newer"),
        (
            0x1EB8,
            "Tesla T4: you don't need this tool for that card: driver 580 drives it on Linux "
            "6.12.0-amd64. Pass it through only to isolate it",
        ),
        (
            0x2684,
            "GeForce RTX 4090: you don't need this tool for that card: driver 580 drives it on "
            "Linux 6.12.0-amd64. Pass it through only to isolate it",
        ),
    ],
)
def test_the_verdict(device_id: int, summary: str) -> None:
    assert advice(device_id).recommendation.summary == summary


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_boards_that_were_dropped_before_their_family(board: Board) -> None:
    assert short_name(name_of(board.device_id)) == board.name
    found = advice(board.device_id)
    assert found.last_branch == board.last_branch
    assert [b.branch for b in found.branches if b.answer.supported] == [board.last_branch]
    assert found.source == board.source
    assert f"no kernel is known on which driver {board.last_branch} builds" in (
        found.recommendation.notes
    )


def test_the_guest_is_one_of_vfio_kits_that_carries_the_driver() -> None:
    assert advice(0x102D).recommendation.guest == "ubuntu-22.04"
    assert advice(0x102D).recommendation.installed
    fermi = advice(0x1091).recommendation
    assert (fermi.guest, fermi.installed) == ("ubuntu-22.04", False)
    assert "--driver none" in fermi.notes[0]
    assert advice(0x11BF).recommendation.guest is None
    for device_id, *_ in CARDS.values():
        assert advice(device_id).recommendation.guest in {*GUESTS, None}


def test_a_chip_whose_toolkits_end_before_the_driver() -> None:
    (branch,) = (one for one in advice(0x118F).branches if one.branch == 470)
    assert (branch.native_cuda, branch.cuda) == (Version(11, 4), Version(10, 2))
    assert branch.answer.reason == "speaks CUDA 11.4; the last toolkit for this chip is 10.2"
    assert advice(0x118F).recommendation.notes == (
        "the CUDA 11.4 that vfio-kit installs does not compile for this chip: take --cuda none, "
        "and the toolkit 10.2",
    )


@pytest.mark.parametrize(
    ("device_id", "supported", "reason"),
    [
        (0x13F1, False, "they begin with Turing"),
        (0x1EB8, True, "they drive Turing and all that came later"),
        (0x2B85, True, "the proprietary ones do not drive this chip"),
    ],
)
def test_the_open_modules(device_id: int, supported: bool, reason: str) -> None:
    answer = advice(device_id).open_modules
    assert (answer.supported, answer.reason) == (supported, reason)


def test_blackwell_takes_a_branch_with_the_open_modules_only() -> None:
    (branch,) = (one for one in advice(0x2B85).branches if one.branch == 580)
    assert branch.answer.reason == "speaks CUDA 13.0; with the open modules only"


@pytest.mark.parametrize("card", CARDS)
def test_nouveau_has_no_cuda(card: str) -> None:
    assert advice(CARDS[card][0]).nouveau.supported is False


@pytest.mark.parametrize(
    ("device_id", "version", "says"),
    [
        (0x102D, None, "stock builds begin with compute capability 5.0; the fork ollama37"),
        (0x118F, None, "stock builds begin with compute capability 5.0"),
        (0x13F1, "0.9.2", "0.9.3 left CUDA 11 out"),
        (0x1EB8, "latest", "0.30 and newer want driver 550"),
    ],
)
def test_ollama_on_the_recommended_driver(device_id: int, version: str | None, says: str) -> None:
    answer = advice(device_id).ollama
    assert answer.version == version
    assert answer.reason.startswith(says)


def test_no_stock_ollama_is_known_on_a_driver_older_than_470() -> None:
    old = {one.branch: one.ollama for one in advice(0x13F1).branches}
    assert (old[390], old[450], old[470]) == (None, None, "0.9.2")


# The host's kernel


@pytest.mark.parametrize(
    ("device_id", "kernel", "drivable", "newest"),
    [
        (0x102D, "5.15.0-100-generic", Drivable.YES, 470),
        (0x102D, "6.8.0-45-generic", Drivable.YES, 470),
        (0x102D, "6.12.0-amd64", Drivable.PATCHED, 470),
        (0x102D, "7.9.1", Drivable.NOT_KNOWN, None),
        (0x102D, "", Drivable.KERNEL_UNKNOWN, None),
        (0x102D, "mainline", Drivable.KERNEL_UNKNOWN, None),
        (0x13F1, "6.12.0-amd64", Drivable.YES, 580),
        (0x13F1, "7.2.0", Drivable.PATCHED, 535),
        (0x1091, "6.1.0-41-amd64", Drivable.YES, 390),
        (0x11BF, "5.15.0", Drivable.NOT_KNOWN, None),
        (0x1EB8, "6.12.0-amd64", Drivable.YES, 595),
    ],
)
def test_whether_the_host_could_drive_the_card(
    device_id: int, kernel: str, drivable: Drivable, newest: int | None
) -> None:
    host = advice(device_id, kernel).host
    assert host.drivable is drivable
    assert (host.branches[-1] if host.branches else None) == newest
    assert bool(host.source) is bool(host.branches)


def test_a_host_that_could_drive_an_old_card_would_be_held_to_its_last_branch() -> None:
    assert advice(0x13F1).host.reason == (
        "driver 580 builds on Linux 6.12: the host could drive the card itself, and would be held "
        "to branch 580, the card's last"
    )


def test_nothing_is_said_to_fail_that_nobody_tried() -> None:
    found = advice(0x1EB8, "7.9.1")
    assert found.host.reason == ("no driver that supports the card is known to build on Linux 7.9")
    assert found.recommendation.way is Way.UNDECIDED
    assert found.recommendation.summary == (
        "Tesla T4: no driver of a stable release is known to build on Linux 7.9.1; if none does, "
        "passthrough, driver 580.173.02 with CUDA 13.0"
    )


@pytest.mark.parametrize(("device_id", "driver"), [(0x1EB8, "580"), (0x2B85, "580-open")])
def test_a_driver_that_is_not_the_default_is_to_be_asked_for(device_id: int, driver: str) -> None:
    one = advice(device_id, "7.9.1").recommendation
    assert (one.installed, one.guest) == (True, "ubuntu-22.04")
    assert one.notes == (f"ask for it: --driver {driver}",)


def test_a_compute_capability_stands_for_its_cards() -> None:
    for capability, (device_id, *_) in CARDS.items():
        found = advise_capability(capability)
        assert isinstance(found, Advice)
        card = advice(device_id)
        assert (found.branches, found.last_branch) == (card.branches, card.last_branch)
        assert (found.first_cuda, found.last_cuda) == (card.first_cuda, card.last_cuda)
    assert isinstance(advise_capability("4.0"), UnknownGpu)


def test_a_current_card_on_a_kernel_that_is_not_known() -> None:
    one = advice(0x1EB8, "").recommendation
    assert one.way is Way.NOT_NEEDED
    assert "driver 580 drives it on a modern kernel" in one.summary


def test_the_driver_that_builds_is_named_where_the_recommended_one_is_not_known_to() -> None:
    one = advice(0x1EB8, "3.16.0").recommendation
    assert (one.way, one.driver) == (Way.NOT_NEEDED, 580)
    assert "driver 550 drives it on Linux 3.16.0" in one.summary


# Names


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("GM204GL [Quadro M4000]", "GM204"),
        ("GK110BGL [Tesla K40m]", "GK110B"),
        ("GP107GLM [Quadro P620]", "GP107"),
        ("AD103M / GN21-X11 [GeForce RTX 4090 Laptop GPU]", "AD103"),
        ("GA107BM / GN20-P0-R-K2 [GeForce RTX 3050 6GB Laptop GPU]", "GA107B"),
        ("GH100", "GH100"),
        ("GH100[H100 SXM5 80GB]", "GH100"),  # as pci.ids had it in 2023
        ("GM204 High Definition Audio Controller", None),
        ("GM107 High Definition Audio Controller [GeForce 940MX]", None),
        ("TU104 USB Type-C UCSI Controller", None),
        ("GH100 [H100 NVSwitch]", None),
        ("MCP79 [GeForce 9400M]", None),
        ("G92 [GeForce 9800 GT]", None),
        ("Ellesmere [Radeon RX 470/480]", None),
        ("", None),
    ],
)
def test_the_chip_of_a_name(name: str, chip: str | None) -> None:
    assert chip_of(name) == chip


@pytest.mark.parametrize("ids", SHIPPED_NAMES, ids=lambda ids: f"{ids[1]:04x}")
def test_every_shipped_name_is_a_gpu_that_the_table_has(ids: tuple[int, int]) -> None:
    name = SHIPPED_NAMES[ids]
    chip = chip_of(name)
    assert "Audio" in name or (chip is not None and family_of(chip) is not None)


@pytest.mark.parametrize(
    ("vendor_id", "name", "reason"),
    [
        (0x1002, "Ellesmere [Radeon RX 470/480]", "not a GPU of NVIDIA's, and the table knows"),
        (NVIDIA, None, "no list of names has this id"),
        (NVIDIA, "GM204 High Definition Audio Controller", "the name begins with no codename"),
        (NVIDIA, "GT200 [GeForce GTX 280]", "the table does not have the chip GT200"),
        (NVIDIA, "GB110", "the table does not have the chip GB110"),
    ],
)
def test_an_unknown_device_is_not_guessed_at(vendor_id: int, name: str | None, reason: str) -> None:
    found = advise(vendor_id, 0x1234, name, MODERN)
    assert isinstance(found, UnknownGpu)
    assert found.reason.startswith(reason)


LISTED = {
    0x102D: "GK210GL [Tesla K80]",
    0x13BD: "GM107GL [Tesla M10]",
    0x13F1: "GM204GL [Quadro M4000]",
    0x13FA: "GM204GLM [Quadro M4000M]",
    0x17FD: "GM200GL [Tesla M40]",
    0x2684: "AD102 [GeForce RTX 4090]",
    0x2757: "AD103M / GN21-X11 [GeForce RTX 4090 Laptop GPU]",
    0x0FBB: "GM204 High Definition Audio Controller",
    0x11BF: "GK104GL [GRID K2]",
    0x118B: "GK104GL [GRID K2 GeForce USM]",
    0x06D1: "GF100GL [Tesla C2050 / C2070]",
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("Tesla K80", {0x102D}),
        ("nvidia TESLA  k80", {0x102D}),
        ("k80", {0x102D}),
        ("M4000", {0x13F1}),
        ("M40", {0x17FD}),
        ("RTX 4090", {0x2684}),
        ("4090", {0x2684, 0x2757}),
        ("k2", {0x11BF}),
        ("tesla", {0x102D, 0x13BD, 0x17FD, 0x06D1}),
        ("C2070", {0x06D1}),
        ("gm204", {0x13F1, 0x13FA}),
        ("audio", set()),
        ("Voodoo 2", set()),
    ],
)
def test_gpus_are_found_by_the_best_match(wanted: str, found: set[int]) -> None:
    assert find_gpus(LISTED, wanted).keys() == found


# The machine's own pci.ids, where it has one: it is newer than the table, or older.

# Chips before Fermi, chipsets and switches, and chips that the table's sources do not have yet.
LEFT_OUT = {"CK804", "GT200", "GT215", "GT216", "GT218", "NF200", "GB110", "GB120"}


@pytest.mark.skipif(
    not Path("/usr/share/misc/pci.ids").exists(), reason="this machine has no pci.ids"
)
def test_every_chip_of_pci_ids_is_in_the_table_or_left_out_on_purpose() -> None:
    listed = name_lookup(Path("/")).of_vendor(NVIDIA)
    chips = {chip for name in listed.values() if (chip := chip_of(name))}
    assert len(chips) > 40
    assert {chip for chip in chips if family_of(chip) is None} <= LEFT_OUT


@pytest.mark.skipif(
    not Path("/usr/share/misc/pci.ids").exists(), reason="this machine has no pci.ids"
)
def test_the_shipped_names_have_the_chips_of_pci_ids() -> None:
    listed = name_lookup(Path("/")).of_vendor(NVIDIA)
    shipped = {device: name for (_, device), name in SHIPPED_NAMES.items()}
    assert {d: chip_of(listed[d]) for d in shipped} == {d: chip_of(n) for d, n in shipped.items()}
