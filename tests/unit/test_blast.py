"""What the host would lose: each thing is named, with what lies between and a way out."""

import pytest

from tests.machines import E1000, M4000, M4000_AUDIO, QXL
from tests.unit.values import at, function, host, spec
from vfio_kit.analysis.blast import blast_findings
from vfio_kit.analysis.isolation import judge
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.bmc import BMC_DISPLAYS
from vfio_kit.model import Bar, Finding, Framebuffer, Host, Level, PciDevice, Platform, Use, UseKind
from vfio_kit.plan import make_plan

NVME = ("144d", "a808", "010802")
XHCI = ("10de", "1ad8", "0c0330")
VMD = ("8086", "467f", "010400")
GPU = function("01:00.0", M4000, 6)
AUDIO = function("01:00.1", M4000_AUDIO, 6)
DISK = function("02:00.0", NVME, 6)
OTHER_DISK = function("03:00.0", NVME, 6)
NIC = function("04:00.0", E1000, 6)


def use(device: PciDevice, kind: UseKind, what: str, *through: str) -> Use:
    return Use(device.address, kind, what, through)


def lost(
    machine: Host, *foreign: PciDevice, going: tuple[PciDevice, ...] = (GPU,)
) -> list[Finding]:
    found = blast_findings(machine, going, foreign)
    assert all(f.level is Level.BLOCK for f in found)
    assert all(f.acceptable == ("--accept-loss" in f.hint) for f in found)
    return found


def only(*uses: Use, devices: tuple[PciDevice, ...] = (GPU, DISK)) -> Finding:
    (found,) = lost(host(*devices, uses=uses), *(d for d in devices if d is not GPU))
    return found


def test_a_gpu_that_nothing_hangs_on_is_no_loss() -> None:
    # What is in use elsewhere is nobody's loss either.
    assert lost(host(GPU, DISK, uses=(use(DISK, UseKind.MOUNT, "/"),))) == []


def test_filesystems_are_told_together_the_root_first() -> None:
    found = only(
        use(DISK, UseKind.MOUNT, "/boot/efi", "nvme0n1p1"),
        use(DISK, UseKind.MOUNT, "/", "nvme0n1p3", "dm-0 (crypt)", "dm-1 (lvm)"),
    )
    assert (found.code, found.device) == ("VK401", DISK.address)
    assert found.message == (
        "mounted from 0000:02:00.0: / and /boot/efi, through nvme0n1p1, nvme0n1p3, dm-0 (crypt), "
        "dm-1 (lvm)"
    )
    assert found.hint == "the host runs from it: boot it from a disk at another controller"


def test_a_filesystem_that_can_be_unmounted() -> None:
    found = only(use(DISK, UseKind.MOUNT, "/srv", "nvme0n1p1"))
    assert found.message == "mounted from 0000:02:00.0: /srv, through nvme0n1p1"
    assert found.hint == "unmount it, or move it to a disk at another controller"


def test_many_mounts_make_a_sentence_all_the_same() -> None:
    found = only(*(use(DISK, UseKind.MOUNT, f"/m{n:02}") for n in range(20)))
    assert found.message.endswith("/m10, /m11 and 8 more")


@pytest.mark.parametrize(
    ("kind", "what", "through", "code", "message"),
    [
        (UseKind.SWAP, "sda2", (), "VK402", "swap is on 0000:01:00.0: sda2"),
        (
            UseKind.DEFAULT_ROUTE,
            "br0",
            ("eth0",),
            "VK403",
            "the default route is over 0000:01:00.0: br0, through eth0",
        ),
        (
            UseKind.SSH_SESSION,
            "eth0",
            (),
            "VK404",
            "this SSH session is over 0000:01:00.0: eth0",
        ),
        (
            UseKind.KEYBOARD,
            "the only keyboard",
            (),
            "VK406",
            "the only keyboard is at 0000:01:00.0",
        ),
    ],
)
def test_each_kind_of_use_has_its_finding(
    kind: UseKind, what: str, through: tuple[str, ...], code: str, message: str
) -> None:
    (found,) = lost(host(GPU, uses=(use(GPU, kind, what, *through),)))
    assert (found.code, found.message) == (code, message)
    assert found.hint.endswith(", --accept-loss 0000:01:00.0")
    assert "; or, where " in found.hint


def test_every_kind_of_use_is_judged() -> None:
    machine = host(GPU, uses=tuple(use(GPU, kind, "x") for kind in UseKind))
    assert len(lost(machine)) == len(UseKind)


def test_a_companion_is_looked_at_and_named() -> None:
    usb = function("01:00.2", XHCI, 6)
    machine = host(GPU, usb, uses=(use(usb, UseKind.KEYBOARD, "the only keyboard"),))
    (found,) = lost(machine, going=(GPU, usb))
    assert found.device == at("01:00.2") and found.hint.endswith("--accept-loss 0000:01:00.2")


def test_what_cannot_be_handed_over_cannot_be_accepted_either() -> None:
    found = only(use(DISK, UseKind.SWAP, "nvme0n1p2"))
    assert found.hint == "swapoff, and take it out of fstab"


def test_disks_behind_a_vmd_controller_go_with_it() -> None:
    vmd = function("00:0e.0", VMD, 6)
    disk = function("10000:e1:00.0", NVME, upstream=(vmd.address, at("10000:e0:06.0")))
    machine = host(GPU, vmd, disk, uses=(use(disk, UseKind.MOUNT, "/", "nvme0n1p1"),))
    (found,) = lost(machine, vmd)
    assert (found.code, found.device) == ("VK401", vmd.address)


def test_a_use_of_a_function_that_is_not_there_is_nobodys() -> None:
    assert lost(host(GPU, uses=(use(DISK, UseKind.SWAP, "sda2"),))) == []


# Arrays


@pytest.mark.parametrize(
    ("array", "fate"),
    [
        ("md0 (raid1, 1 of 2)", "md0 loses 1 of 2 members and lives on with less redundancy"),
        ("md0 (raid1, 2 of 2)", "md0 loses 2 of 2 members and fails"),
        ("md0 (raid5, 1 of 4)", "md0 loses 1 of 4 members and lives on with less redundancy"),
        ("md0 (raid5, 2 of 4)", "md0 loses 2 of 4 members and fails"),
        ("md0 (raid6, 2 of 4)", "md0 loses 2 of 4 members and lives on with less redundancy"),
        ("md0 (raid6, 3 of 4)", "md0 loses 3 of 4 members and fails"),
        ("md0 (raid10, 1 of 4)", "md0 loses 1 of 4 members and lives on with less redundancy"),
        ("md0 (raid10, 2 of 4)", "md0 loses 2 of 4 members and fails"),
    ],
)
def test_an_array_fails_or_lives_on(array: str, fate: str) -> None:
    found = only(use(DISK, UseKind.MOUNT, "/srv", "nvme0n1", array))
    assert found.message == f"mounted from 0000:02:00.0: /srv, through nvme0n1, {array}; {fate}"


@pytest.mark.parametrize("array", ["md0 (raid0)", "md0 (raid1, degraded)", "md_… (raid1, 1 of 2)"])
def test_of_an_array_without_redundancy_or_name_nothing_is_promised(array: str) -> None:
    assert only(use(DISK, UseKind.MOUNT, "/srv", array)).message.endswith(f"through {array}")


def test_both_halves_of_a_mirror_in_one_group_go_together() -> None:
    mirror = "md0 (raid1, 1 of 2)"
    machine = host(
        GPU,
        DISK,
        OTHER_DISK,
        uses=(
            use(DISK, UseKind.MOUNT, "/", "nvme0n1", mirror),
            use(DISK, UseKind.SWAP, "md0", "nvme0n1", mirror),
            use(OTHER_DISK, UseKind.MOUNT, "/", "nvme1n1", mirror),
        ),
    )
    found = lost(machine, DISK, OTHER_DISK)
    assert [f.code for f in found] == ["VK401", "VK402", "VK401"]
    assert all(f.message.endswith("; md0 loses 2 of 2 members and fails") for f in found)


def test_a_bond_keeps_its_other_interface() -> None:
    found = only(
        use(NIC, UseKind.DEFAULT_ROUTE, "bond0", "eth0", "bond0 (bond, 1 of 2)"),
        devices=(GPU, NIC),
    )
    assert found.message.endswith("; bond0 loses 1 of 2 members and lives on with less redundancy")


# Displays


def test_the_boot_display_goes_with_its_console() -> None:
    gpu = function("01:00.0", M4000, 6, boot_vga=True)
    (found,) = lost(host(gpu), going=(gpu,))
    assert found.code == "VK301"
    assert found.message == (
        "0000:01:00.0 is the display that firmware booted with; the console goes with it"
    )
    assert found.hint == (
        "choose another primary display in the firmware set-up; or, where you have another "
        "console, --accept-loss 0000:01:00.0"
    )


def test_a_boot_display_in_the_group_counts_as_well() -> None:
    display = function("02:00.0", QXL, 6, boot_vga=True)
    (found,) = lost(host(GPU, display), display)
    assert (found.code, found.device) == ("VK301", display.address)
    assert found.hint.endswith("--accept-loss 0000:02:00.0")


@pytest.mark.parametrize("ids", BMC_DISPLAYS)
def test_the_console_of_a_bmc(ids: tuple[int, int]) -> None:
    display = function("02:00.0", (f"{ids[0]:x}", f"{ids[1]:x}", "030000"), 6)
    (found,) = lost(host(GPU, display), display)
    assert found.code == "VK405"
    assert BMC_DISPLAYS[ids] in found.message


def test_a_matrox_card_is_no_bmc() -> None:
    assert lost(host(GPU, card := function("02:00.0", ("102b", "0520", "030000"), 6)), card) == []


BAR = Bar(1, 0xC0000000, 0x1000_0000, prefetchable=True)


def with_framebuffer(start: int, end: int, *bars: Bar) -> list[Finding]:
    gpu = function("01:00.0", M4000, 6, bars=bars or (BAR,))
    names = ("BOOTFB", "simplefb", "simplefb")
    framebuffers = tuple(Framebuffer(name, start, end) for name in names)
    return lost(host(gpu, platform=Platform(framebuffers=framebuffers)), going=(gpu,))


def test_a_framebuffer_in_a_bar() -> None:
    (found,) = with_framebuffer(0xC0000000, 0xC07E8FFF)
    assert found.code == "VK309"
    assert found.message == (
        "the framebuffer that firmware set up is in BAR 1 (BOOTFB, simplefb) of 0000:01:00.0: "
        'vfio-pci may fail to reserve that ("BAR N: can\'t reserve")'
    )
    for word in ("initcall_blacklist=sysfb_init", "video=efifb:off", "simpledrm", "Linux 6.0"):
        assert word in found.hint
    assert found.hint.endswith("--accept-loss 0000:01:00.0")


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [
        (0xC0000000, 0xC0000000, True),
        (0xCFFFFFFF, 0xD0000000, True),
        (0xBFFFFFFF, 0xBFFFFFFF, False),
        (0xD0000000, 0xD0000FFF, False),
    ],
)
def test_a_framebuffer_at_the_edge(start: int, end: int, inside: bool) -> None:
    assert bool(with_framebuffer(start, end)) is inside


@pytest.mark.parametrize(
    "bar", [Bar(1, 0xC0000000, 0x1000, io=True), Bar(1, 0xC0000000, 0x1000, unassigned=True)]
)
def test_a_region_that_is_no_memory_holds_no_framebuffer(bar: Bar) -> None:
    assert with_framebuffer(0xC0000000, 0xC0000FFF, bar) == []


# What that means for the verdict and the plan


def busy(*uses: Use) -> Host:
    return host(GPU, AUDIO, function("02:00.0", QXL, 6, boot_vga=True), uses=uses)


def test_a_gpu_that_the_host_needs_cannot_go_by_itself() -> None:
    (report,) = judge(host(GPU, uses=(use(GPU, UseKind.SWAP, "sda2"),)))
    assert not report.can_go


@pytest.mark.parametrize("kind", UseKind)
def test_a_loss_blocks_until_it_is_accepted(kind: UseKind) -> None:
    machine = host(GPU, AUDIO, uses=(use(AUDIO, kind, "x"),))
    for accepted in ([], ["01:00.0"]):
        with pytest.raises(Refused) as caught:
            make_plan(machine, spec("01:00.0", accept_loss=accepted))
        assert caught.value.hint.endswith("--accept-loss 0000:01:00.1")
    made = make_plan(machine, spec("01:00.0", accept_loss=["01:00.1"]))
    assert [found.device for found in made.findings] == [AUDIO.address]


def test_two_gpus_of_a_group_are_accepted_one_by_one() -> None:
    # Each is foreign to the other: its loss is told twice, and accepted once.
    machine = busy(use(GPU, UseKind.DEFAULT_ROUTE, "eth0"))
    both = ("01:00.0", "02:00.0")
    for accepted, missing in ((["01:00.0"], "02:00.0"), (["02:00.0"], "01:00.0")):
        with pytest.raises(Refused) as caught:
            make_plan(machine, spec(*both, accept_loss=accepted))
        assert caught.value.hint.count("--accept-loss") == 1
        assert caught.value.hint.endswith(f"--accept-loss 0000:{missing}")
    assert make_plan(machine, spec(*both, accept_loss=list(both))).gpus == tuple(map(at, both))


def test_one_of_two_gpus_is_not_helped_by_accepting_the_other() -> None:
    with pytest.raises(UsageError):
        make_plan(busy(), spec("01:00.0", accept_loss=["02:00.0"]))
    with pytest.raises(Refused) as caught:
        make_plan(busy(), spec("01:00.0"))
    assert "also holds 0000:02:00.0" in caught.value.message


def test_a_foreign_disk_blocks_whatever_is_accepted() -> None:
    machine = host(GPU, DISK, uses=(use(DISK, UseKind.MOUNT, "/"),))
    with pytest.raises(Refused) as caught:
        make_plan(machine, spec("01:00.0"))
    assert "also holds 0000:02:00.0" in caught.value.message
    assert "mounted from 0000:02:00.0: /" in caught.value.message
    with pytest.raises(UsageError):
        make_plan(machine, spec("01:00.0", accept_loss=["02:00.0"]))
