"""Host and spec become a plan: where each function goes, what is done, and what undoes it."""

import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import (
    E1000,
    K80,
    M4000,
    M4000_AUDIO,
    QXL,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from tests.unit.values import at, function, host, public_key, spec
from vfio_kit.errors import Refused, UsageError
from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import read_host
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.knowledge.guest_memory import CARD_MEMORY, CardMemory
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.model import Bar, Holder, Host, Level, Platform
from vfio_kit.model.placement import Claim, Hugepages
from vfio_kit.model.vm import (
    BakedImage,
    Boot,
    BootMode,
    CudaWay,
    HostDevice,
    Software,
    StepKind,
    UpPlan,
)
from vfio_kit.plan import make_bake_plan, make_plan, place
from vfio_kit.spec import BakeSpec

M4000_HOST = host(
    function("00:02.0", QXL, 2, boot_vga=True),
    function("01:00.0", M4000, 6, name="GM204GL [Quadro M4000]"),
    function("01:00.1", M4000_AUDIO, 6, driver="snd_hda_intel"),
)


def plan(*gpus: str, machine: Host = M4000_HOST, **fields: Any) -> UpPlan:
    return make_plan(machine, spec(*gpus, **fields))


def guest_places(devices: tuple[HostDevice, ...]) -> list[str]:
    """host function -> guest bus.function, with a + for multifunction."""
    return [
        f"{d.source} -> {d.guest_bus}.{d.guest_function}{'+' if d.multifunction else ''}"
        for d in devices
    ]


def test_the_whole_of_a_plan() -> None:
    made = plan("01:00.0", image="/images/jammy.img", disk=20)
    domain = made.domain
    assert (domain.name, domain.memory_mib, domain.cpus) == ("gpu-vm", 8192, 4)
    assert domain.hugepages == Hugepages(2048, 4096, 4)
    assert domain.boot == Boot(BootMode.BIOS)
    assert domain.disk == "/var/lib/libvirt/images/gpu-vm.qcow2"
    assert domain.seed == "/var/lib/libvirt/images/gpu-vm-seed.iso"
    assert domain.console_log == "/var/log/libvirt/qemu/gpu-vm.console"
    assert domain.network == "default"
    assert domain.root_ports == (1,)
    assert (made.guest, made.user, made.software.driver) == ("ubuntu-22.04", "ubuntu", "470")
    assert (made.image, made.disk_gib) == ("/images/jammy.img", 20)
    assert made.state_dir == "/var/lib/vfio-kit/gpu-vm"
    assert made.gpus == (at("01:00.0"),)
    assert [(d.address, d.ids, d.driver, d.name) for d in made.devices] == [
        (at("01:00.0"), "10de:13f1", None, "GM204GL [Quadro M4000]"),
        (at("01:00.1"), "10de:0fbb", "snd_hda_intel", None),
    ]
    assert {finding.level for finding in made.findings} == {Level.INFO}


def test_every_step_says_what_it_does_and_what_undoes_it() -> None:
    steps = plan("01:00.0", image="/images/jammy.img").steps
    assert [(step.kind.value, step.what, step.undo) for step in steps] == [
        (
            "state",
            "record the VM in /var/lib/vfio-kit/gpu-vm",
            "none: it stays to be read; down --purge",
        ),
        (
            "hugepages",
            "make 4096 hugepages of 2 MiB free (8192 MiB)",
            "give back the pages that were added",
        ),
        ("keys", "generate the guest's SSH host key and a client key", "remove the keys"),
        (
            "disk",
            "create the overlay /var/lib/libvirt/images/gpu-vm.qcow2 on /images/jammy.img",
            "remove the overlay",
        ),
        (
            "seed",
            "write the cloud-init seed /var/lib/libvirt/images/gpu-vm-seed.iso",
            "remove the seed",
        ),
        ("define", "define the libvirt domain gpu-vm", "undefine the domain"),
        (
            "start",
            "start it; libvirt binds to vfio-pci: 0000:01:00.0 from no driver, "
            "0000:01:00.1 from snd_hda_intel",
            "stop it; libvirt gives back: 0000:01:00.0 to no driver, 0000:01:00.1 to snd_hda_intel",
        ),
        (
            "wait",
            "wait for SSH with the host key made above, and for cloud-init, which installs "
            "driver 470, CUDA 11.4 from the network",
            "",
        ),
    ]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"driver": "none"}, "for cloud-init"),
        (
            {"driver": "none", "packages": ["nvtop", "htop"]},
            "installs nvtop, htop from the network",
        ),
        ({"cuda": "none", "bundle": "/srv/470"}, "which installs driver 470 from /srv/470"),
    ],
)
def test_the_last_step_says_what_is_installed(fields: dict[str, Any], end: str) -> None:
    assert plan("01:00.0", **fields).steps[-1].what.endswith(end)


@pytest.mark.parametrize(
    ("fields", "disk"),
    [
        ({}, 20),
        ({"disk": 8}, 8),
        ({"cuda_way": "runfile"}, 30),
        ({"cuda_way": "runfile", "cuda": "none"}, 20),
        ({"driver": "none"}, None),
        ({"driver": "none", "disk": 3}, 3),
        ({"driver": "none", "packages": ["nvtop"]}, 20),
    ],
)
def test_what_is_installed_does_not_fit_into_a_cloud_image(
    fields: dict[str, Any], disk: int | None
) -> None:
    assert plan("01:00.0", **fields).disk_gib == disk


# The software is chosen from the spec and the cards (test_software.py has the rules).


def test_the_software_of_a_plan() -> None:
    made = plan(
        "01:00.0",
        driver="580",
        cuda="11.4",
        cuda_way="runfile",
        packages=["nvtop"],
        bundle="/srv/bundle",
    )
    assert made.software == Software(
        "580", "11.4", CudaWay.RUNFILE, ("5.2",), ("nvtop",), "/srv/bundle"
    )


def test_an_impossible_driver_is_refused_before_anything_is_done() -> None:
    with pytest.raises(Refused, match="the open modules: they begin with Turing"):
        plan("01:00.0", driver="580-open")


def test_all_gpus_that_go_have_a_say_in_the_driver() -> None:
    machine = host(function("01:00.0", M4000, 6), function("02:00.0", K80, 7))
    assert plan("01:00.0", machine=machine, driver="auto").software.driver == "580"
    assert plan("01:00.0", "02:00.0", machine=machine, driver="auto").software.driver == "470"


def test_a_card_that_nobody_knows_is_warned_of_in_the_plan() -> None:
    machine = host(function("01:00.0", ("10de", "9999", "030000"), 6))
    made = plan("01:00.0", machine=machine)
    codes = [("VK601", Level.WARN), ("VK709", Level.INFO)]
    assert [(f.code, f.level) for f in made.findings] == codes
    assert plan("01:00.0", machine=machine, driver="none", memory=4096).findings == ()


def test_a_bundle_is_a_disk_of_its_own() -> None:
    made = plan("01:00.0", bundle="/srv/bundle")
    assert made.domain.bundle == "/var/lib/libvirt/images/gpu-vm-bundle.iso"
    (seed,) = (step for step in made.steps if step.kind is StepKind.SEED)
    assert seed.what == (
        "write the cloud-init seed /var/lib/libvirt/images/gpu-vm-seed.iso, and /srv/bundle as "
        "/var/lib/libvirt/images/gpu-vm-bundle.iso"
    )
    assert seed.undo == "remove the seed and the bundle"
    assert plan("01:00.0").domain.bundle is None


BAKED = BakedImage("ubuntu-22.04", "580", "580.126.09", "12.9", CudaWay.PACKAGES, ("5.2",), ())


def test_an_image_that_has_it_all_gets_nothing_more() -> None:
    made = make_plan(M4000_HOST, spec("01:00.0", bundle="/srv/bundle"), baked=BAKED)
    assert made.software == Software("580", "12.9", capabilities=("5.2",), baked=True)
    assert made.steps[-1].what.endswith("the image has all its software")
    assert (made.disk_gib, made.domain.bundle) == (None, None)


def test_a_driver_that_is_named_is_the_one_of_the_image() -> None:
    with pytest.raises(UsageError, match=r"asks for driver 470, .* was made with driver 580"):
        make_plan(M4000_HOST, spec("01:00.0", driver="470"), baked=BAKED)


def test_a_manifest_that_was_edited_is_told() -> None:
    with pytest.raises(UsageError, match="names a driver that there is none of: 'new'"):
        make_plan(M4000_HOST, spec("01:00.0"), baked=replace(BAKED, driver="new"))


def test_only_waiting_leaves_nothing_to_undo() -> None:
    steps = plan("01:00.0", autostart=True).steps
    assert {step.kind for step in steps if not step.undo} == {StepKind.WAIT}
    assert {step.kind for step in steps} == set(StepKind)


def test_without_hugepages_there_is_no_such_step() -> None:
    made = plan("01:00.0", hugepages="off", memory=1025)
    assert made.domain.hugepages is None
    assert StepKind.HUGEPAGES not in {step.kind for step in made.steps}


@pytest.mark.parametrize(
    ("size", "memory", "cpus", "pages", "words"),
    [
        ("2M", 8192, 4, Hugepages(2048, 4096, 4), "4096 hugepages of 2 MiB free (8192 MiB)"),
        ("2M", 256, 1, Hugepages(2048, 128, 1), "128 hugepages of 2 MiB free (256 MiB)"),
        ("1G", 16384, 16, Hugepages(1048576, 16, 16), "16 hugepages of 1 GiB free (16384 MiB)"),
        # More threads than 16 gain nothing.
        ("1G", 1024, 64, Hugepages(1048576, 1, 16), "1 hugepages of 1 GiB free (1024 MiB)"),
    ],
)
def test_hugepages_hold_the_guests_memory(
    size: str, memory: int, cpus: int, pages: Hugepages, words: str
) -> None:
    made = plan("01:00.0", hugepages=size, memory=memory, cpus=cpus)
    assert made.domain.hugepages == pages
    assert words in made.steps[1].what


@given(st.integers(128, 1 << 20), st.sampled_from(["2M", "1G"]))
def test_hugepages_are_the_guests_memory_exactly(pages_of_2m: int, size: str) -> None:
    memory = pages_of_2m * 2 if size == "2M" else (pages_of_2m % 1024 + 1) * 1024
    pages = plan("01:00.0", hugepages=size, memory=memory).domain.hugepages
    assert pages is not None
    assert pages.size_kib * pages.count == memory * 1024


# Memory follows the cards, where the spec does not say (knowledge/guest_memory.py).

P40 = ("10de", "1b38", "030200")
M40 = ("10de", "17fd", "030200")  # made with 12 and with 24 GiB


@pytest.mark.parametrize(
    ("ids", "memory", "unknown"),
    [
        ([M4000], 8192, 0),
        ([K80], 12288, 0),
        ([K80, K80], 24576, 0),
        ([P40], 24576, 0),
        ([P40, M4000], 32768, 0),
        ([("10de", "1c30", "030000")], 8192, 0),  # a P2000 with 5 GiB: the least
        ([M40], 8192, 1),
        ([QXL], 8192, 1),
        ([P40, M40], 32768, 1),
        ([("1002", "1b38", "030000")], 8192, 1),  # somebody else's number
    ],
)
def test_a_guest_has_as_much_memory_as_its_gpus(
    ids: list[tuple[str, str, str]], memory: int, unknown: int
) -> None:
    cards = [function(f"0{n}:00.0", one, n) for n, one in enumerate(ids, 1)]
    addresses = [str(card.address) for card in cards]
    made = plan(*addresses, machine=host(*cards), driver="none", hugepages="1G")
    assert made.domain.memory_mib == memory
    assert made.domain.hugepages == Hugepages(1 << 20, memory // 1024, 4)
    assert [f.code for f in made.findings].count("VK709") == unknown
    said = plan(*addresses, machine=host(*cards), driver="none", memory=2048)
    assert said.domain.memory_mib == 2048
    assert "VK709" not in [f.code for f in said.findings]


def test_nobody_says_how_much_memory_a_virtual_function_has() -> None:
    machine = host(function("01:00.1", P40, 6, physical_function=at("01:00.0")))
    made = plan("01:00.1", machine=machine, driver="none")
    assert made.domain.memory_mib == 8192
    assert "VK709" in [f.code for f in made.findings]


@pytest.mark.parametrize("row", CARD_MEMORY.values(), ids=lambda row: row.name)
def test_a_row_of_the_table_of_memory_is_of_a_card_that_has_that_name(row: CardMemory) -> None:
    assert f"[{row.name}]" in SHIPPED_NAMES[0x10DE, row.device_id]
    assert 1 <= row.gib <= 256 and row.source
    for size in re.findall(r"(\d+)GB", row.name):
        assert int(size) == row.gib


# Option ROMs, windows, and what other VMs have.


def test_an_option_rom_is_for_the_function_that_it_names() -> None:
    made = plan("01:00.0", roms={"01:00.0": "/srv/m4000.rom"})
    assert [(str(d.source), d.rom) for d in made.domain.host_devices] == [
        ("0000:01:00.0", "/srv/m4000.rom"),
        ("0000:01:00.1", None),
    ]
    assert {d.rom for d in plan("01:00.0").domain.host_devices} == {None}


def test_an_option_rom_for_what_stays_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        plan("01:00.0", roms={"02:00.0": "/srv/m4000.rom"})
    assert "/srv/m4000.rom is for 0000:02:00.0, which is not handed over" in caught.value.message
    assert "0000:01:00.0, 0000:01:00.1" in caught.value.hint


@pytest.mark.parametrize(
    ("gib", "cards", "window"),
    [(16, 1, 64 << 30), (16, 2, 128 << 30), (0.25, 1, 0), (4, 1, 16 << 30)],
)
def test_large_bars_take_a_window_of_their_own(gib: float, cards: int, window: int) -> None:
    """One that firmware opens by itself is not narrowed down."""
    bars = (
        Bar(0, 0, 16 << 20),
        Bar(1, 0, int(gib * (1 << 30)), is_64bit=True, prefetchable=True),
        Bar(3, 0, 32 << 20, is_64bit=True, prefetchable=True),
    )
    both = [function(f"0{n}:00.0", K80, n, bars=bars) for n in range(1, cards + 1)]
    made = plan(*(str(card.address) for card in both), machine=host(*both))
    assert made.domain.mmio_window == window


def test_a_gpu_that_another_vm_has_is_refused_with_the_name_of_that() -> None:
    claims = (Claim("other", frozenset({at("05:00.0")})), Claim("a40", frozenset({at("01:00.1")})))
    with pytest.raises(Refused) as caught:
        make_plan(M4000_HOST, spec("01:00.0"), claims=claims)
    assert caught.value.message == "0000:01:00.1 (10de:0fbb): the VM a40 has it"
    assert "vfio-kit down a40" in caught.value.hint
    assert make_plan(M4000_HOST, spec("01:00.0"), claims=claims[:1]).gpus == (at("01:00.0"),)


def test_of_a_gpu_that_runs_in_a_vm_of_ours_that_is_named_and_not_its_process() -> None:
    """Without the claim, as for another user or for a VM of somebody else's, it is the process."""
    qemu = Holder(at("01:00.0"), "/dev/vfio/6", 4242, "qemu-system-x86")
    running = replace(M4000_HOST, holders=(qemu,))
    claims = (Claim("a40", frozenset({at("01:00.0")})),)
    with pytest.raises(Refused, match="the VM a40 has it"):
        make_plan(running, spec("01:00.0"), claims=claims)
    with pytest.raises(Refused, match=r"a VM has it already: qemu-system-x86 \(PID 4242"):
        make_plan(running, spec("01:00.0"))


@pytest.mark.parametrize(
    ("addresses", "places"),
    [
        (["01:00.0"], ["0000:01:00.0 -> 1.0"]),
        (["01:00.0", "01:00.1"], ["0000:01:00.0 -> 1.0+", "0000:01:00.1 -> 1.1"]),
        # Numbers are kept, with their gaps.
        (["01:00.3", "01:00.0"], ["0000:01:00.0 -> 1.0+", "0000:01:00.3 -> 1.3"]),
        # A guest that finds no function 0 looks no further.
        (["01:00.2", "01:00.1"], ["0000:01:00.1 -> 1.0+", "0000:01:00.2 -> 1.1"]),
        (["01:00.7"], ["0000:01:00.7 -> 1.0"]),
        # One root port a slot, in the order of addresses.
        (
            ["02:00.0", "01:00.0", "01:00.1"],
            ["0000:01:00.0 -> 1.0+", "0000:01:00.1 -> 1.1", "0000:02:00.0 -> 2.0"],
        ),
        (["01:00.0", "01:01.0"], ["0000:01:00.0 -> 1.0", "0000:01:01.0 -> 2.0"]),
        (["0001:01:00.0", "01:00.0"], ["0000:01:00.0 -> 1.0", "0001:01:00.0 -> 2.0"]),
        ([], []),
    ],
)
def test_functions_of_a_slot_share_a_root_port(addresses: list[str], places: list[str]) -> None:
    assert guest_places(place(tuple(map(at, addresses)))) == places


_functions = st.sets(
    st.builds(
        lambda bus, slot, number: at(f"{bus:02x}:{slot:02x}.{number}"),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 7),
    ),
    max_size=12,
)


@given(_functions)
def test_a_guest_finds_every_function(addresses: set[Any]) -> None:
    devices = place(tuple(addresses))
    assert {d.source for d in devices} == addresses
    places = [(d.guest_bus, d.guest_function) for d in devices]
    assert len(set(places)) == len(places)
    for bus in {d.guest_bus for d in devices}:
        here = [d for d in devices if d.guest_bus == bus]
        assert len({d.source.slot for d in here}) == 1
        # Function 0 is there, and it alone says whether there are more.
        assert [d.guest_function for d in here if d.multifunction] == ([0] if here[1:] else [])
        assert 0 in {d.guest_function for d in here}
    assert sorted({d.guest_bus for d in devices}) == list(
        range(1, len({a.slot for a in addresses}) + 1)
    )


def test_two_gpus_in_two_slots_go_behind_two_ports(tmp_path: Path) -> None:
    root = write_machine(tmp_path, k80_pair())
    made = make_plan(read_host(root, name_lookup(root)), spec("03:00.0", "04:00.0"))
    assert guest_places(made.domain.host_devices) == [
        "0000:03:00.0 -> 1.0",
        "0000:04:00.0 -> 2.0",
    ]
    assert made.domain.root_ports == (1, 2)
    assert {device.name for device in made.devices} == {"GK210GL [Tesla K80]"}


def test_one_half_of_a_k80_goes_alone(tmp_path: Path) -> None:
    made = make_plan(read_host(write_machine(tmp_path, k80_pair())), spec("04:00.0"))
    assert guest_places(made.domain.host_devices) == ["0000:04:00.0 -> 1.0"]


TWO_IN_ONE_GROUP = host(
    function("01:00.0", M4000, 6),
    function("01:00.1", M4000_AUDIO, 6),
    function("02:00.0", K80, 6),
)


def test_two_gpus_of_one_group_go_if_both_are_asked_for() -> None:
    made = plan("02:00.0", "01:00.0", machine=TWO_IN_ONE_GROUP)
    assert [str(device.address) for device in made.devices] == [
        "0000:01:00.0",
        "0000:01:00.1",
        "0000:02:00.0",
    ]
    assert made.gpus == (at("02:00.0"), at("01:00.0"))


@pytest.mark.parametrize("gpu", ["01:00.0", "02:00.0"])
def test_one_of_them_alone_is_refused(gpu: str) -> None:
    with pytest.raises(Refused):
        plan(gpu, machine=TWO_IN_ONE_GROUP)


def test_two_gpus_of_one_group_do_not_bring_a_nic_along() -> None:
    machine = host(*TWO_IN_ONE_GROUP.devices, function("03:00.0", E1000, 6))
    with pytest.raises(Refused) as caught:
        plan("01:00.0", "02:00.0", machine=machine)
    assert "0000:03:00.0 Ethernet controller" in caught.value.message
    assert "also holds 0000:02:00.0" not in caught.value.message


def test_two_gpus_of_one_slot_are_not_handed_over_twice() -> None:
    machine = host(function("01:00.0", M4000, 6), function("01:00.1", K80, 6))
    made = plan("01:00.0", "01:00.1", machine=machine)
    assert guest_places(made.domain.host_devices) == [
        "0000:01:00.0 -> 1.0+",
        "0000:01:00.1 -> 1.1",
    ]


def test_a_gpu_that_shares_its_group_is_refused_with_reason_and_next_step(tmp_path: Path) -> None:
    root = write_machine(tmp_path, m4000_shared())
    with pytest.raises(Refused) as caught:
        make_plan(read_host(root, name_lookup(root)), spec("02:01.0"))
    assert caught.value.exit_code == 3
    assert caught.value.message == (
        "0000:02:01.0 (GM204GL [Quadro M4000]) cannot go to a guest: group 6 also holds "
        "0000:02:02.0 Ethernet controller [8086:100e] (driver e1000) interface enp2s2 (VK101)"
    )
    assert "slot with a root port of its own" in caught.value.hint


def test_a_reason_that_two_gpus_share_is_said_once() -> None:
    machine = host(function("01:00.0", K80), function("02:00.0", K80))
    with pytest.raises(Refused) as caught:
        plan("01:00.0", "02:00.0", machine=machine)
    assert caught.value.message.count("no IOMMU groups") == 1
    assert "0000:01:00.0 (10de:102d), 0000:02:00.0 (10de:102d)" in caught.value.message


def test_an_address_where_nothing_is_names_the_gpus_that_are_there() -> None:
    with pytest.raises(UsageError) as caught:
        plan("09:00.0")
    assert caught.value.exit_code == 2
    assert caught.value.message == "no PCI device 0000:09:00.0 on this host"
    assert caught.value.hint == (
        "GPUs here: 0000:00:02.0 1b36:0100, 0000:01:00.0 GM204GL [Quadro M4000]"
    )


def test_an_address_that_is_no_gpu_is_named_for_what_it_is() -> None:
    with pytest.raises(UsageError) as caught:
        plan("01:00.1")
    assert caught.value.message == (
        "not a GPU: 0000:01:00.1 audio device [10de:0fbb] (driver snd_hda_intel)"
    )
    assert "class 03xx" in caught.value.hint


def test_a_host_without_gpus_says_none() -> None:
    with pytest.raises(UsageError) as caught:
        plan("01:00.0", machine=host())
    assert caught.value.hint == "GPUs here: none"


def test_warnings_come_along_with_the_plan_each_once() -> None:
    machine = host(
        function("01:00.0", M4000, 6, boot_vga=True),
        function("01:00.1", K80, 6),
        cmdline="pcie_acs_override=downstream",
    )
    made = plan("01:00.0", "01:00.1", machine=machine, accept_loss=["01:00.0", "01:00.1"])
    codes = [(finding.code, str(finding.device)) for finding in made.findings]
    assert codes == [
        ("VK103", "0000:01:00.0"),
        ("VK301", "0000:01:00.0"),
        ("VK103", "0000:01:00.1"),
    ]


def test_a_host_that_can_pass_nothing_through_is_refused_with_the_reason() -> None:
    machine = host(function("01:00.0", M4000, 6), platform=Platform(kvm=False, virtualization=""))
    with pytest.raises(Refused) as caught:
        plan("01:00.0", machine=machine, accept_loss=["01:00.0"])
    assert "(VK206)" in caught.value.message and caught.value.hint


def test_an_overridden_gpu_goes_where_that_is_accepted() -> None:
    machine = host(function("01:00.0", M4000, 6), cmdline="pcie_acs_override=downstream")
    with pytest.raises(Refused, match="VK103"):
        plan("01:00.0", machine=machine)
    assert plan("01:00.0", machine=machine, accept_loss=["01:00.0"]).gpus == (at("01:00.0"),)


@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_system_has_its_user_and_its_root(guest: str) -> None:
    made = plan("01:00.0", guest=guest, boot={"kernel": "/boot/vmlinuz", "initrd": "/boot/initrd"})
    assert made.user == GUESTS[guest].user
    boot = made.domain.boot
    assert (boot.mode, boot.kernel, boot.initrd) == (
        BootMode.DIRECT,
        "/boot/vmlinuz",
        "/boot/initrd",
    )
    assert boot.cmdline.startswith(f"root={GUESTS[guest].root} ro console=ttyS0")


def test_the_spec_may_name_another_user_and_more_keys() -> None:
    key = public_key("operator@desk")
    made = plan("01:00.0", ssh={"user": "operator", "authorized_keys": [key]})
    assert (made.user, made.authorized_keys) == ("operator", (key,))


def test_paths_are_where_the_caller_wants_them(tmp_path: Path) -> None:
    made = make_plan(
        read_host(write_machine(tmp_path, m4000_isolated())),
        spec("01:00.0"),
        state_dir="/srv/state",
        image_dir="/srv/images",
    )
    assert made.state_dir == "/srv/state/gpu-vm"
    assert made.domain.disk == "/srv/images/gpu-vm.qcow2"
    assert made.domain.seed == "/srv/images/gpu-vm-seed.iso"


def test_identity_of_a_vm_follows_from_its_name_alone() -> None:
    # Written down: another address would be another machine to DHCP, another UUID to libvirt.
    domain = plan("01:00.0").domain
    assert (domain.mac, domain.uuid) == (
        "52:54:00:52:71:3a",
        "ff2c847a-d129-5966-afd6-af569b5dba80",
    )
    assert plan("01:00.0", memory=4096, cpus=1).domain.mac == domain.mac


def test_two_hosts_have_no_vm_of_the_same_identity() -> None:
    here, there = (make_plan(M4000_HOST, spec("01:00.0"), host_id=i).domain for i in ("a", "b"))
    again = make_plan(M4000_HOST, spec("01:00.0"), host_id="a").domain
    nobody = make_plan(M4000_HOST, spec("01:00.0")).domain
    assert again == here
    assert len({here.uuid, there.uuid, nobody.uuid}) == 3
    assert len({here.mac, there.mac, nobody.mac}) == 3


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True))
def test_mac_and_uuid_are_well_formed_for_every_name(name: str) -> None:
    domain = make_plan(M4000_HOST, spec("01:00.0", name=name)).domain
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", domain.mac)
    assert str(uuid.UUID(domain.uuid)) == domain.uuid
    assert uuid.UUID(domain.uuid).version == 5


def test_names_do_not_collide() -> None:
    domains = [make_plan(M4000_HOST, spec("01:00.0", name=f"vm-{n}")).domain for n in range(200)]
    assert len({domain.uuid for domain in domains}) == 200
    assert len({domain.mac for domain in domains}) == 200


def test_a_virtual_function_does_not_go_along_with_its_physical_function() -> None:
    arc = ("8086", "56c0", "038000")
    physical = function("03:00.0", arc, 1, driver="i915", virtual_functions=1)
    virtual = function("03:00.1", arc, 2, physical_function=physical.address)
    asked = spec("03:00.0", "03:00.1", accept_loss=["03:00.0"])
    with pytest.raises(UsageError) as caught:
        make_plan(host(physical, virtual), asked)
    assert caught.value.message.startswith("0000:03:00.1 is a virtual function of 0000:03:00.0")
    alone = make_plan(host(physical, virtual), spec("03:00.1", driver="none"))
    assert alone.gpus == (virtual.address,)


def test_what_passes_refuses_no_rendering() -> None:
    holder = Holder(at("01:00.0"), "/dev/vfio/6", 4242, "qemu-system-x86")
    machine = host(function("01:00.0", M4000, 6), holders=(holder,))
    with pytest.raises(Refused, match="VK310"):
        make_plan(machine, spec("01:00.0"))
    made = make_plan(machine, spec("01:00.0"), tolerated=frozenset({"VK310"}))
    assert [(f.code, f.level) for f in made.findings] == [("VK310", Level.WARN)]


# An image is made in a VM without GPUs.


def bake_plan(**fields: Any) -> UpPlan:
    return make_bake_plan(BakeSpec(name="golden", **fields))


def test_an_image_is_made_in_a_vm_without_gpus() -> None:
    made = bake_plan(image="/images/jammy.img", capabilities=["5.2"])
    assert (made.gpus, made.devices, made.domain.host_devices) == ((), (), ())
    assert made.domain.root_ports == ()
    assert (made.domain.memory_mib, made.domain.hugepages) == (4096, None)
    assert made.software == Software("470", "11.4", capabilities=("5.2",))
    assert made.disk_gib == 20
    kinds = [step.kind for step in made.steps]
    assert set(StepKind) - set(kinds) == {StepKind.HUGEPAGES, StepKind.AUTOSTART}
    assert [step.what for step in made.steps if step.kind is StepKind.START] == ["start it"]


def test_the_gpus_of_a_spec_stay_where_they_are_while_its_image_is_made() -> None:
    made = bake_plan(gpus=["01:00.0"], driver="none")
    assert (made.gpus, made.devices) == ((), ())
    assert made.software == Software("none")


def test_an_image_is_made_without_what_its_spec_has_for_the_vm_of_up() -> None:
    made = bake_plan(
        gpus=["01:00.0"],
        roms={"01:00.0": "/roms/m4000.rom"},
        autostart=True,
        ssh={"identity": "/root/key", "user": "gpu"},
    )
    assert (made.autostart, made.identity, made.user) == (False, None, "gpu")
    assert StepKind.AUTOSTART not in {step.kind for step in made.steps}


def test_an_image_for_a_card_takes_the_newest_driver_of_it() -> None:
    assert bake_plan(capabilities=["3.7", "3.7"], driver="auto").software == Software(
        "470", "11.4", capabilities=("3.7",)
    )
    with pytest.raises(Refused, match=r"3\.7: 470 is the last branch"):
        bake_plan(capabilities=["5.2", "3.7"], driver="580")
