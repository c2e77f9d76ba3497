"""Which driver and which CUDA go into a guest: the tables, and the choice from them."""

import base64
import hashlib
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.values import at, function
from vfio_kit.analysis.advice.fit import pair_misfit
from vfio_kit.analysis.provisioning import provisioning_of
from vfio_kit.analysis.software import (
    Card,
    Choice,
    Wanted,
    card_of,
    card_with,
    choose,
    choose_baked,
)
from vfio_kit.analysis.software.rows import toolkits
from vfio_kit.assets import asset_dir
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.branches import BRANCHES
from vfio_kit.knowledge.gpus import BOARDS, FAMILIES
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.knowledge.provisioning import (
    CUDA_ROWS,
    CUDAS,
    DRIVER_ROWS,
    DRIVERS,
    AptRepository,
    CudaRow,
    DriverRow,
)
from vfio_kit.model import Level, PciDevice
from vfio_kit.model.advice import Advice, Version
from vfio_kit.model.vm import BakedImage, CudaWay, Software

REPOSITORY = Path(__file__).parents[2]
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
PATTERN = re.compile(r"[a-z0-9][a-z0-9+.?*-]+")


def row_id(row: DriverRow | CudaRow) -> str:
    return f"{row.guest}-{row.name}"


each_driver = pytest.mark.parametrize("row", DRIVER_ROWS.values(), ids=row_id)
each_cuda = pytest.mark.parametrize("row", CUDA_ROWS.values(), ids=row_id)

REPOSITORIES = {row.repository.name: row.repository for row in CUDA_ROWS.values() if row.repository}


# The tables


def test_every_guest_has_a_driver_and_a_toolkit() -> None:
    assert {guest for guest, _ in DRIVER_ROWS} == set(GUESTS) == {guest for guest, _ in CUDA_ROWS}


@each_driver
def test_a_driver_is_a_branch_of_the_table_that_the_guest_carries(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    assert row.guest in {package.guest for package in branch.guests}
    assert row.name == (f"{row.branch}-open" if row.open_modules else f"{row.branch}")
    assert row.version == f"{row.branch}."
    assert row.source.startswith("https://")


@each_driver
def test_a_driver_builds_for_the_kernel_of_its_guest(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    kernel = Version.leading(GUESTS[row.guest].kernel.series)
    assert kernel is not None
    assert any(known.stable and known.holds(kernel) for known in branch.kernels)


@each_driver
def test_a_driver_is_held_and_nothing_that_it_needs_is_kept_away(row: DriverRow) -> None:
    assert set(row.packages) & set(row.hold)
    for name in (*row.packages, *row.hold):
        assert not any(fnmatchcase(name, pattern) for pattern in row.never), name
    assert all(PACKAGE.fullmatch(name) for name in (*row.packages, *row.hold, *row.compilers))
    assert all(PATTERN.fullmatch(name) for name in row.never)
    assert {"cuda", "cuda-drivers*"} <= set(row.never)


@each_driver
def test_the_toolkit_that_comes_with_a_driver_is_one_that_it_speaks(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    assert row.default_cuda is not None
    assert CUDA_ROWS[row.guest, row.default_cuda].version <= branch.cuda


@each_driver
def test_the_manual_has_every_driver_with_its_toolkits(row: DriverRow) -> None:
    others = [
        toolkit.name
        for toolkit in reversed(toolkits(row.guest))
        if toolkit.name != row.default_cuda and not pair_misfit(row.branch, toolkit.version)
    ]
    line = f"| {row.guest} | {row.name} | {row.default_cuda} | {', '.join(others) or '–'} |"
    assert line in (REPOSITORY / "docs/spec.md").read_text("utf-8").splitlines()


@each_cuda
def test_a_toolkit_is_packages_of_its_version_and_no_metapackage(row: CudaRow) -> None:
    dashed = row.name.replace(".", "-")
    assert all(name.endswith(f"-{dashed}") for name in row.packages)
    assert not {f"cuda-{dashed}", f"cuda-runtime-{dashed}", f"cuda-toolkit-{dashed}"} & set(
        row.packages
    )
    assert row.include.startswith(row.home) and row.lib.startswith(row.home)
    assert row.ways[0] is CudaWay.PACKAGES
    assert row.source.startswith("https://")


@each_cuda
def test_a_runfile_has_a_checksum_that_two_agree_on(row: CudaRow) -> None:
    assert (CudaWay.RUNFILE in row.ways) is (row.runfile is not None)
    if row.runfile:
        assert re.fullmatch(r"[0-9a-f]{64}", row.runfile.sha256)
        assert len(row.runfile.sources) >= 2
        assert row.runfile.uri.endswith(f"/{row.runfile.file}")
        assert f"/{row.name}." in row.runfile.uri
        assert "--driver" not in row.runfile.arguments


@pytest.mark.parametrize("repository", REPOSITORIES.values(), ids=REPOSITORIES)
def test_nothing_of_a_driver_comes_from_a_repository_of_toolkits(repository: AptRepository) -> None:
    assert {"nvidia-*", "libnvidia-*", "cuda-drivers*"} <= set(repository.never)
    assert repository.uri.startswith(f"https://{repository.origin}/")
    assert repository.uri.endswith("/")


@pytest.mark.parametrize("repository", REPOSITORIES.values(), ids=REPOSITORIES)
def test_the_key_of_a_repository_is_the_one_of_its_fingerprint(repository: AptRepository) -> None:
    assert repository.key_asset == f"keys/{repository.key_fingerprint}.asc"
    armour = (asset_dir("cloud-init") / repository.key_asset).read_text("ascii")
    assert fingerprint(armour) == repository.key_fingerprint


def fingerprint(armour: str) -> str:
    """Of the first packet, a version 4 key in the old format with two bytes of length (RFC 4880,
    4.2.1 and 12.2)."""
    _, _, body = armour.partition("\n\n")
    data = base64.b64decode(body[: body.index("\n=")])
    assert data[0] == 0x99
    length = int.from_bytes(data[1:3], "big")
    assert data[3] == 4
    return hashlib.sha1(data[: 3 + length], usedforsecurity=False).hexdigest().upper()


# The choice

K80, M4000, T4, ADA, H100, BLACKWELL = 0x102D, 0x13F1, 0x1EB8, 0x2684, 0x2331, 0x2B85
K10, FERMI, GRID_K2 = 0x118F, 0x1091, 0x11BF
NOBODY = 0x9999
RUNFILE = CudaWay.RUNFILE


def device(ids: int | tuple[int, int], slot: int = 1, **fields: Any) -> PciDevice:
    """A GPU of NVIDIA's by its device id, of others by vendor and device; without a name."""
    vendor, number = (NVIDIA, ids) if isinstance(ids, int) else ids
    return function(f"{slot:02x}:00.0", (f"{vendor:04x}", f"{number:04x}", "030000"), **fields)


def cards(*ids: int | tuple[int, int]) -> tuple[Card, ...]:
    return tuple(card_of(device(one, slot)) for slot, one in enumerate(ids, 1))


def chosen(*ids: int | tuple[int, int], guest: str = "ubuntu-22.04", **wish: Any) -> Choice:
    return choose(Wanted(guest=guest, **wish), cards(*ids))


def refusal(*ids: int | tuple[int, int], **wish: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        chosen(*ids, **wish)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("ids", "wish", "driver", "cuda"),
    [
        ((K80,), {}, "470", "11.4"),
        ((M4000,), {}, "470", "11.4"),
        ((T4,), {}, "470", "11.4"),
        ((M4000,), {"cuda": "none"}, "470", None),
        ((M4000,), {"cuda": "auto"}, "470", "11.4"),
        # A driver that is named comes with its own toolkit, or with an older one.
        ((M4000,), {"driver": "580"}, "580", "12.9"),
        ((M4000,), {"driver": "580", "cuda": "11.4"}, "580", "11.4"),
        ((T4,), {"driver": "580-open"}, "580-open", "12.9"),
        ((M4000,), {"driver": "535", "guest": "debian-12"}, "535", "12.2"),
        # The newest that the card takes, of the guest, with the toolkit that is asked for.
        ((K80,), {"driver": "auto"}, "470", "11.4"),
        ((M4000,), {"driver": "auto"}, "580", "12.9"),
        ((M4000,), {"driver": "auto", "cuda": "11.4"}, "580", "11.4"),
        ((M4000,), {"driver": "auto", "cuda": "none"}, "580", None),
        ((M4000,), {"driver": "auto", "cuda": "auto"}, "580", "12.9"),
        ((M4000,), {"driver": "auto", "cuda_way": RUNFILE}, "470", "11.4"),
        ((M4000,), {"driver": "auto", "guest": "debian-12"}, "535", "12.2"),
        ((T4,), {"driver": "auto"}, "580-open", "12.9"),
        ((H100,), {"driver": "auto"}, "580-open", "12.9"),
        ((BLACKWELL,), {"driver": "auto"}, "580-open", "12.9"),
        # Several cards: what all of them take.
        ((M4000, T4), {"driver": "auto"}, "580", "12.9"),
        ((K80, M4000), {"driver": "auto"}, "470", "11.4"),
        ((T4, BLACKWELL), {"driver": "auto"}, "580-open", "12.9"),
        ((K80, K80), {}, "470", "11.4"),
    ],
)
def test_what_is_chosen(
    ids: tuple[int, ...], wish: dict[str, Any], driver: str, cuda: str | None
) -> None:
    choice = chosen(*ids, **wish)
    assert (choice.software.driver, choice.software.cuda) == (driver, cuda)
    assert choice.findings == ()


@pytest.mark.parametrize(
    ("ids", "wish", "message", "hint"),
    [
        (
            (K80,),
            {"driver": "535", "guest": "debian-12"},
            "driver 535 does not go: 0000:01:00.0 (Tesla K80): 470 is the last branch for this "
            "card",
            "possible in debian-12: --driver 470 with --cuda 11.4",
        ),
        (
            (M4000,),
            {"driver": "580-open"},
            "driver 580-open does not go: 0000:01:00.0 (Quadro M4000): the open modules: they "
            "begin with Turing",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4; "
            "--driver 580 with --cuda 11.4 or 12.9",
        ),
        (
            (M4000,),
            {"cuda": "12.9"},
            "driver 470 (the default) goes, its CUDA does not: CUDA 12.x wants driver 525 or "
            "newer, and 470 speaks CUDA 11.4",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4; "
            "--driver 580 with --cuda 11.4 or 12.9",
        ),
        (
            (H100,),
            {},
            "driver 470 (the default) does not go: 0000:01:00.0 (H100 PCIe): speaks CUDA 11.4; "
            "this chip wants CUDA 11.8",
            "possible in ubuntu-22.04: --driver 580 with --cuda 12.9; "
            "--driver 580-open with --cuda 12.9",
        ),
        (
            (H100,),
            {"driver": "580", "cuda": "11.4"},
            "driver 580 goes, its CUDA does not: CUDA 11.4 does not compile for 0000:01:00.0 "
            "(H100 PCIe): the first for compute capability 9.0 is CUDA 11.8",
            "possible in ubuntu-22.04: --driver 580 with --cuda 12.9; "
            "--driver 580-open with --cuda 12.9",
        ),
        (
            (K80,),
            {"driver": "auto", "cuda": "12.9"},
            "ubuntu-22.04 has no driver for this: driver 580-open, 580: 0000:01:00.0 (Tesla K80): "
            "470 is the last branch for this card; driver 470: CUDA 12.x wants driver 525 or "
            "newer, and 470 speaks CUDA 11.4",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4",
        ),
        (
            (K10,),
            {},
            "driver 470 (the default) goes, its CUDA does not: CUDA 11.4 does not compile for "
            "0000:01:00.0 (Tesla K10): the last for compute capability 3.0 is CUDA 10.2",
            "possible in ubuntu-22.04: --driver 470 with --cuda none",
        ),
        (
            (M4000,),
            {"driver": "580", "guest": "debian-12"},
            "vfio-kit does not install driver 580 in debian-12",
            "possible in debian-12: --driver 470 with --cuda 11.4; "
            "--driver 535 with --cuda 11.4 or 12.2 or 12.9",
        ),
        (
            (M4000,),
            {"driver": "580", "cuda": "12.2"},
            "driver 580 goes, its CUDA does not: vfio-kit does not install CUDA 12.2 in "
            "ubuntu-22.04",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4; "
            "--driver 580 with --cuda 11.4 or 12.9",
        ),
        (
            (M4000,),
            {"driver": "580", "cuda_way": RUNFILE},
            "driver 580 goes, its CUDA does not: CUDA 12.9 comes by packages alone, not by runfile",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4; "
            "--driver 580 with --cuda 11.4 or 12.9",
        ),
        (
            (BLACKWELL,),
            {"driver": "580"},
            "driver 580 does not go: 0000:01:00.0 (GeForce RTX 5090): only the open modules drive "
            "this chip",
            "possible in ubuntu-22.04: --driver 580-open with --cuda 12.9",
        ),
        # Where this guest has none, another that has one, and else what is to be done by hand.
        (
            (BLACKWELL,),
            {"driver": "auto", "guest": "debian-12"},
            "debian-12 has no driver for this: driver 535: 0000:01:00.0 (GeForce RTX 5090): "
            "speaks CUDA 12.2; this chip wants CUDA 12.8; driver 470: 0000:01:00.0 (GeForce RTX "
            "5090): speaks CUDA 11.4; this chip wants CUDA 12.8",
            "possible with --guest ubuntu-22.04: --driver 580-open with --cuda 12.9",
        ),
        (
            (FERMI,),
            {"driver": "auto"},
            "ubuntu-22.04 has no driver for this: driver 580-open, 580, 470: 0000:01:00.0 (Tesla "
            "M2090): 390 is the last branch for this card",
            "take --driver none, and install in the guest: driver 390 with CUDA up to 8.0",
        ),
        (
            (GRID_K2,),
            {},
            "driver 470 (the default) does not go: 0000:01:00.0 (GRID K2): 367 is the last branch "
            "for this card",
            "take --driver none, and install in the guest: driver 367 with CUDA up to 8.0",
        ),
        # Several cards in one guest.
        (
            (FERMI, T4),
            {},
            "no driver drives all of these cards: 0000:01:00.0 (Tesla M2090) takes driver 390 "
            "alone; 0000:02:00.0 (Tesla T4) takes driver 418 or newer",
            "give them to several guests",
        ),
        (
            (K80, ADA),
            {"driver": "auto"},
            "no driver drives all of these cards: 0000:01:00.0 (Tesla K80) takes driver 390 to "
            "470; 0000:02:00.0 (GeForce RTX 4090) takes driver 535 or newer",
            "give them to several guests",
        ),
        (
            (BLACKWELL, M4000),
            {"driver": "580"},
            "no driver drives all of these cards: 0000:01:00.0 (GeForce RTX 5090) takes driver "
            "570 or newer, with the open modules; 0000:02:00.0 (Quadro M4000) takes driver 390 to "
            "580",
            "give them to several guests",
        ),
        (
            (K80, M4000),
            {"driver": "580"},
            "driver 580 does not go: 0000:01:00.0 (Tesla K80): 470 is the last branch for this "
            "card",
            "possible in ubuntu-22.04: --driver 470 with --cuda 11.4",
        ),
        # Nobody knows.
        (
            (NOBODY,),
            {"driver": "auto"},
            "no driver can be chosen for 0000:01:00.0 (10de:9999): no list of names has this id",
            "name it, as in --driver 470, or --driver none",
        ),
        (
            (T4, (0x1002, 0x73BF)),
            {"driver": "auto"},
            "no driver can be chosen for 0000:02:00.0 (1002:73bf): not a GPU of NVIDIA's",
            "name it, as in --driver 470, or --driver none",
        ),
        # Another maker's: whether the driver is the default, named, or to be chosen.
        *(
            (
                ((0x1002, 0x73BF),),
                wish,
                "NVIDIA's drivers drive no card of another maker: 0000:01:00.0 (1002:73bf)",
                "take --driver none, and install in the guest what drives it",
            )
            for wish in ({}, {"driver": "580"}, {"driver": "auto"})
        ),
        # A package that would undo the choice.
        (
            (M4000,),
            {"packages": ("nvtop", "cuda-drivers-470")},
            "the package cuda-drivers-470 would replace driver 470",
            "leave it out",
        ),
    ],
)
def test_an_impossible_wish_is_refused_with_its_reason_and_what_is_possible(
    ids: tuple[int, ...], wish: dict[str, Any], message: str, hint: str
) -> None:
    error = refusal(*ids, **wish)
    assert error.message.startswith(message)
    assert error.hint.startswith(hint)


def test_a_refusal_says_who_says_so() -> None:
    sources = refusal(K80, driver="535").hint.splitlines()[1:]
    assert sources == [
        "source: https://docs.nvidia.com/datacenter/tesla/drivers/"
        "cuda-toolkit-driver-and-architecture-matrix.html"
    ]


def test_a_card_that_nobody_knows_gets_what_is_asked_for_and_a_warning() -> None:
    choice = chosen(NOBODY)
    assert (choice.software.driver, choice.software.cuda) == ("470", "11.4")
    assert choice.software.capabilities == ()
    (found,) = choice.findings
    assert (found.code, found.level, found.device) == ("VK601", Level.WARN, at("01:00.0"))
    assert "whether driver 470 drives 0000:01:00.0 (" in found.message


def test_another_makers_card_may_go_beside_one_of_nvidias_or_without_a_driver() -> None:
    radeon = (0x1002, 0x73BF)
    (found,) = chosen(K80, radeon).findings
    assert (found.code, found.device) == ("VK601", at("02:00.0"))
    assert chosen(radeon, driver="none").findings == ()


def test_a_virtual_function_is_no_card_that_is_known() -> None:
    virtual = card_of(device(T4, physical_function=at("02:00.0"), name="TU104GL [Tesla T4]"))
    with pytest.raises(Refused, match="a virtual function takes the drivers of vGPU"):
        choose(Wanted("ubuntu-22.04", driver="auto"), (virtual,))


def test_the_known_one_of_two_cards_still_counts() -> None:
    assert "470 is the last branch" in refusal(K80, NOBODY, driver="580").message
    choice = chosen(K80, NOBODY)
    assert [found.device for found in choice.findings] == [at("02:00.0")]
    assert choice.software.capabilities == ("3.7",)


def test_without_a_driver_nothing_is_chosen_and_nothing_refused() -> None:
    choice = chosen(FERMI, T4, NOBODY, driver="none", packages=("nvtop",), bundle="/srv/bundle")
    assert choice == Choice(
        Software("none", capabilities=("2.0", "7.5"), packages=("nvtop",), bundle="/srv/bundle")
    )


def test_a_toolkit_that_is_newer_than_its_driver_speaks_is_said_to_be() -> None:
    choice = chosen(ADA, driver="535", cuda="12.9", guest="debian-12")
    assert (choice.software.driver, choice.software.cuda) == ("535", "12.9")
    (found,) = choice.findings
    assert (found.code, found.level, found.device) == ("VK602", Level.WARN, None)
    assert "CUDA 12.9 is newer than the 12.2 that driver 535 speaks" in found.message


def test_auto_never_takes_a_toolkit_that_is_newer_than_the_driver_speaks() -> None:
    software = chosen(ADA, driver="535", cuda="auto", guest="debian-12").software
    assert software.cuda == "12.2"


def test_the_capabilities_of_the_cards_each_once_and_in_order() -> None:
    assert chosen(T4, M4000, T4).software.capabilities == ("5.2", "7.5")


def test_a_wish_is_kept() -> None:
    wish: dict[str, Any] = {
        "cuda_way": RUNFILE,
        "packages": ("nvtop=1.2",),
        "bundle": "/srv/bundle",
    }
    assert chosen(M4000, **wish).software == Software(
        "470", "11.4", RUNFILE, ("5.2",), ("nvtop=1.2",), "/srv/bundle"
    )


# One card of each family; the boards that were dropped before theirs; and one that nobody knows.
ALL_CARDS = (
    *(f"{family.chips[0]} [{family.architecture}]" for family in FAMILIES),
    *(board.name for board in BOARDS),
    "nobody knows",
)


def any_card(name: str, slot: int) -> Card:
    ids = next((board.device_id for board in BOARDS if board.name == name), NOBODY)
    named = device(ids, slot) if ids != NOBODY else device(NOBODY, slot, name=name)
    return card_of(named)


@given(
    names=st.lists(st.sampled_from(ALL_CARDS), min_size=1, max_size=3),
    guest=st.sampled_from(list(GUESTS)),
    driver=st.sampled_from([None, *DRIVERS]),
    cuda=st.sampled_from([None, *CUDAS]),
    way=st.sampled_from(CudaWay),
)
def test_what_is_chosen_drives_every_card_or_a_reason_is_given(
    names: list[str], guest: str, driver: str | None, cuda: str | None, way: CudaWay
) -> None:
    several = tuple(any_card(name, slot) for slot, name in enumerate(names, 1))
    wanted = Wanted(guest, driver, cuda, way)
    try:
        software = choose(wanted, several).software
    except Refused as error:
        assert error.message and error.hint
        return
    assert software.driver == driver or driver in (None, "auto")
    if software.driver == "none":
        return
    row = DRIVER_ROWS[guest, software.driver]
    toolkit = CUDA_ROWS[guest, software.cuda] if software.cuda else None
    assert toolkit is None or way in toolkit.ways
    for card in several:
        if not isinstance(card.known, Advice):
            assert driver != "auto"
            continue
        (branch,) = (one for one in card.known.branches if one.branch == row.branch)
        assert branch.answer.supported
        assert card.known.open_modules.supported or not row.open_modules
        if toolkit:
            assert toolkit.version >= card.known.first_cuda
            assert toolkit.version <= (card.known.last_cuda or toolkit.version)
            assert toolkit.version.major <= branch.native_cuda.major


@given(guest=st.sampled_from(list(GUESTS)), name=st.sampled_from(ALL_CARDS))
def test_what_a_refusal_calls_possible_is_possible(guest: str, name: str) -> None:
    several = (any_card(name, 1),)
    for driver in (row.name for row in DRIVER_ROWS.values()):
        try:
            choose(Wanted(guest, driver), several)
        except Refused as error:
            first = error.hint.splitlines()[0]
            where = re.search(r"--guest (\S+):", first)
            for proposed, cudas in re.findall(r"--driver (\S+) with --cuda ([\w. ]+)", first):
                for cuda in cudas.split(" or "):
                    system = where[1] if where else guest
                    choose(Wanted(system, proposed, cuda), several)


# Images are made for compute capabilities, and without cards.


def test_an_image_is_made_for_a_compute_capability() -> None:
    choice = choose(Wanted("ubuntu-22.04", "auto"), (card_with("5.2"), card_with("3.7")))
    assert (choice.software.driver, choice.software.cuda) == ("470", "11.4")
    assert choice.software.capabilities == ("3.7", "5.2")


def test_an_image_for_a_card_that_its_driver_does_not_drive_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        choose(Wanted("ubuntu-22.04", "580"), (card_with("3.7"),))
    assert caught.value.message == (
        "driver 580 does not go: a card of compute capability 3.7: 470 is the last branch for "
        "this card"
    )


def test_an_image_for_no_card_takes_a_driver_by_name() -> None:
    assert choose(Wanted("ubuntu-22.04", "580-open"), ()).software.driver == "580-open"
    with pytest.raises(UsageError, match="no card is named"):
        choose(Wanted("ubuntu-22.04", "auto"), ())


def test_a_compute_capability_that_nobody_knows_is_warned_about() -> None:
    (found,) = choose(Wanted("ubuntu-22.04"), (card_with("9.9"),)).findings
    assert "the table has no compute capability 9.9" in found.message


BAKED = BakedImage(
    guest="ubuntu-22.04",
    driver="580",
    driver_version="580.126.09",
    cuda="12.9",
    cuda_way=CudaWay.PACKAGES,
    capabilities=("5.2",),
    packages=("nvtop=1.2.2", "htop"),
)


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"driver": "580", "cuda": "12.9"},
        {"driver": "auto", "cuda": "auto"},
        {"packages": ("nvtop", "htop")},
        {"packages": ("nvtop=1.2.2",)},
    ],
)
def test_an_image_that_was_made_for_it_is_taken_as_it_is(wish: dict[str, Any]) -> None:
    choice = choose_baked(Wanted("ubuntu-22.04", **wish), BAKED, cards(M4000))
    assert choice == Choice(
        Software("580", "12.9", capabilities=("5.2",), packages=BAKED.packages, baked=True)
    )


@pytest.mark.parametrize(
    ("ids", "wish", "message"),
    [
        (
            (M4000,),
            {"guest": "debian-12"},
            "the spec asks for guest debian-12, and the image was made with guest ubuntu-22.04",
        ),
        (
            (M4000,),
            {"driver": "470"},
            "the spec asks for driver 470, and the image was made with driver 580",
        ),
        (
            (M4000,),
            {"cuda": "none"},
            "the spec asks for cuda none, and the image was made with cuda 12.9",
        ),
        (
            (M4000,),
            {"packages": ("nvtop=9", "htop", "mc")},
            "the spec asks for nvtop=9, mc, and the image was made without",
        ),
        (
            (K80,),
            {},
            "the image is not for 0000:01:00.0 (Tesla K80): its driver is 580, and 470 is the last "
            "branch for this card",
        ),
        (
            (M4000, BLACKWELL),
            {},
            "the image is not for 0000:02:00.0 (GeForce RTX 5090): its driver is 580, and only the "
            "open modules drive this chip",
        ),
    ],
)
def test_an_image_that_was_made_for_something_else_is_refused(
    ids: tuple[int, ...], wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_baked(Wanted(**{"guest": "ubuntu-22.04", **wish}), BAKED, cards(*ids))
    assert caught.value.message == message
    assert "vfio-kit bake" in caught.value.hint


@pytest.mark.parametrize(
    ("image", "ids", "reason"),
    [
        (
            replace(BAKED, driver="470", cuda="11.4", capabilities=()),
            K10,
            "its CUDA is 11.4, and the last for compute capability 3.0 is CUDA 10.2",
        ),
        (
            replace(BAKED, driver="580-open", capabilities=()),
            M4000,
            "its driver is 580-open, and the open modules: they begin with Turing",
        ),
        (
            replace(BAKED, driver="470", cuda="11.4"),
            K80,
            "its samples are built for 5.2, and the card has 3.7",
        ),
    ],
)
def test_an_image_is_for_the_cards_that_it_was_made_for(
    image: BakedImage, ids: int, reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_baked(Wanted("ubuntu-22.04"), image, cards(ids))
    assert caught.value.message.endswith(f"): {reason}")


def test_an_image_serves_newer_cards_than_it_was_made_for() -> None:
    assert choose_baked(Wanted("ubuntu-22.04"), BAKED, cards(T4)).software.capabilities == ("7.5",)


def test_an_image_without_a_driver_is_for_any_card() -> None:
    image = replace(BAKED, driver="none", driver_version=None, cuda=None, capabilities=())
    software = choose_baked(Wanted("ubuntu-22.04"), image, cards(FERMI, NOBODY)).software
    assert (software.driver, software.cuda, software.baked) == ("none", None, True)


# What the templates of a seed take.


def test_nothing_is_provisioned_where_nothing_is_installed() -> None:
    assert provisioning_of("ubuntu-22.04", Software("none")) is None
    assert provisioning_of("ubuntu-22.04", Software("470", "11.4", baked=True)) is None


def test_packages_alone_are_provisioned_without_a_driver() -> None:
    made = provisioning_of("debian-12", Software("none", packages=("nvtop",), bundle="/srv/b"))
    assert made is not None
    assert (made.driver, made.cuda, made.cuda_packages, made.runfile) == (None, None, (), None)
    assert (made.packages, made.from_bundle) == (("nvtop",), True)


@each_cuda
@pytest.mark.parametrize("way", CudaWay)
def test_a_toolkit_comes_by_one_way_alone(row: CudaRow, way: CudaWay) -> None:
    driver = next(name for guest, name in DRIVER_ROWS if guest == row.guest)
    made = provisioning_of(row.guest, Software(driver, row.name, way))
    assert made is not None and made.driver is not None
    assert made.cuda is row
    by_packages = way is CudaWay.PACKAGES
    assert made.cuda_packages == (row.packages if by_packages else ())
    assert made.cuda_repository is (row.repository if by_packages else None)
    assert made.runfile is (None if by_packages else row.runfile)
