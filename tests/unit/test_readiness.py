"""Whether a device is ready to go: reset, power, interrupts, BARs, NUMA, holders, drivers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import E1000, K80, M4000, M4000_AUDIO, PCI_BRIDGE, ROOT_PORT
from tests.unit.values import at, function, host
from vfio_kit.analysis.readiness.device import device_findings
from vfio_kit.analysis.readiness.resources import mmio_window
from vfio_kit.model import (
    Bar,
    ConfigSpace,
    Finding,
    Holder,
    Host,
    Level,
    NumaNode,
    PciAddress,
    PciDevice,
    Platform,
)

MIB, GIB = 1024**2, 1024**3
PORT = at("00:01.0")


def gpu(**fields: Any) -> PciDevice:
    return function("01:00.0", M4000, 6, **({"upstream": (PORT,)} | fields))


def audio(**fields: Any) -> PciDevice:
    return function("01:00.1", M4000_AUDIO, 6, **({"upstream": (PORT,)} | fields))


def judged(*functions: PciDevice, **fields: Any) -> list[Finding]:
    """The findings about the first GPU of a host that has these functions."""
    machine = host(*functions, **fields)
    first = next(machine.gpus())
    return device_findings(machine, first, machine.slot_of(first))


def only(*functions: PciDevice, **fields: Any) -> Finding:
    (finding,) = judged(*functions, **fields)
    return finding


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_a_card_that_nothing_is_known_of_gets_no_remark() -> None:
    assert judged(gpu(), audio()) == []


# Reset. Methods of the first function, kernel -> code of the finding


@pytest.mark.parametrize(
    ("methods", "release", "code"),
    [
        (("bus",), "6.12.0", None),
        (("flr", "bus"), "6.12.0", None),
        ((), "6.12.0", "VK302"),
        ((), "", "VK302"),
        # The kernel shows the file of those functions alone that have a method, since 5.15.
        (None, "5.15.0-1-amd64", "VK302"),
        (None, "5.14.21", None),
        (None, "4.18.0", None),
        (None, "", None),
        (None, "next", None),
    ],
)
def test_a_card_that_cannot_be_reset(
    methods: tuple[str, ...] | None, release: str, code: str | None
) -> None:
    found = judged(gpu(reset_methods=methods), audio(), kernel_release=release)
    assert codes(found) == ([code] if code else [])


def test_a_reset_of_the_bus_names_what_it_would_hit() -> None:
    nic = function("02:00.0", E1000, 6, upstream=(PORT, at("01:02.0")), driver="e1000")
    bridge = function("01:02.0", PCI_BRIDGE, 6, upstream=(PORT,))
    far = function("03:00.0", E1000, 7, upstream=(at("00:02.0"),))
    machine = (gpu(reset_methods=("bus",)), audio(), nic, bridge, far)
    finding = only(*machine)
    assert (finding.code, finding.level, finding.device) == ("VK303", Level.WARN, at("01:00.0"))
    assert "0000:02:00.0 Ethernet controller" in finding.message
    assert [a for a in ("01:00.1", "01:02.0", "03:00.0") if a in finding.message] == []
    assert judged(gpu(reset_methods=("flr", "bus")), *machine[1:]) == []
    assert codes(judged(gpu(reset_methods=("cxl_bus",)), *machine[1:])) == ["VK303"]


def test_on_a_root_bus_there_is_no_bus_to_reset() -> None:
    other = function("00:1f.0", E1000, 7)
    assert judged(gpu(reset_methods=("bus",), upstream=()), other) == []


# Power. State, D3cold allowed, driver -> words; None: no finding
POWER: dict[str, tuple[tuple[str | None, bool | None, str | None], str | None]] = {
    "awake": (("D0", True, "nouveau"), None),
    "asleep": (("D3hot", True, "vfio-pci"), None),
    "nobody knows": ((None, None, None), None),
    "no driver": (("unknown", True, None), None),
    "powered down by its driver": (("D3cold", True, "nouveau"), "as its driver nouveau does"),
    "powered down": (("D3cold", True, None), "without power: VFIO wakes it"),
    "powered down, old kernel": (("D3cold", None, None), "VFIO wakes it"),
    "must not be there": (("D3cold", False, "nouveau"), "which it may not enter"),
    "lost": (("error", True, None), "'error': it does not answer"),
    "a driver and no state": (("unknown", True, "nouveau"), "'unknown': it does not answer"),
}


@pytest.mark.parametrize("case", POWER)
def test_power(case: str) -> None:
    (state, allowed, driver), words = POWER[case]
    card = gpu(power_state=state, d3cold_allowed=allowed, driver=driver)
    codes = ("VK304", "VK315")
    found = [f for f in judged(card, audio(power_state=state)) if f.code in codes]
    assert len(found) == (words is not None)
    for finding in found:
        assert words is not None and words in finding.message
        asleep = "VFIO wakes it" in finding.message or "as its driver" in finding.message
        assert (finding.code, finding.level) == (
            ("VK304", Level.WARN) if asleep else ("VK315", Level.BLOCK)
        )
        power = "echo on | sudo tee /sys/bus/pci/devices/0000:01:00.0/power/control"
        assert (power in finding.hint) == asleep


def test_a_card_that_has_fallen_off_the_bus_cannot_go() -> None:
    finding = only(gpu(silent=True, power_state="D0"))
    assert (finding.code, finding.level) == ("VK315", Level.BLOCK)
    assert "0xff" in finding.message


# Interrupts


def config(read: bool = True, **fields: Any) -> ConfigSpace:
    return ConfigSpace(False, capabilities_read=read, extended_read=False, **fields)


@pytest.mark.parametrize(
    ("space", "code"),
    [
        (None, None),
        (config(read=False), None),
        (config(msi=True, msix=True), None),
        (config(msix=True), None),
        (config(msi=True), "VK306"),
        (config(), "VK305"),
    ],
)
def test_interrupts(space: ConfigSpace | None, code: str | None) -> None:
    assert codes(judged(gpu(config=space), audio())) == ([code] if code else [])


# BARs


def bar(index: int, size: int, **flags: bool) -> Bar:
    return Bar(index, 0 if flags.get("unassigned") else 0xE000_0000, size, **flags)


def k80_half(address: str, **fields: Any) -> PciDevice:
    bars = (
        bar(0, 16 * MIB),
        bar(1, 16 * GIB, is_64bit=True, prefetchable=True),
        bar(3, 32 * MIB, is_64bit=True, prefetchable=True),
        bar(5, 128, io=True),
    )
    return function(address, K80, fields.pop("group", 6), **({"bars": bars} | fields))


def test_the_window_of_a_k80() -> None:
    half = k80_half("03:00.0")
    assert mmio_window([half]) == 64 * GIB
    assert mmio_window([half] * 2) == 128 * GIB
    # OVMF was measured to need 128 GiB for four: X-PciMmio64Mb=131072.
    assert mmio_window([half] * 4) == 256 * GIB


def test_no_64_bit_bars_need_no_window() -> None:
    assert mmio_window([]) == 0
    assert mmio_window([gpu(bars=(bar(0, 256 * MIB), bar(1, 4096, is_64bit=True, io=True)))]) == 0


sizes = st.lists(st.integers(12, 40).map(lambda bits: 1 << bits), max_size=3)
machines = st.lists(sizes, max_size=6)


def with_bars(bars: list[list[int]]) -> list[PciDevice]:
    return [
        gpu(bars=tuple(bar(i, size, is_64bit=True) for i, size in enumerate(own))) for own in bars
    ]


@given(machines)
def test_the_window_is_a_power_of_two_above_the_sum_and_not_far_above(
    bars: list[list[int]],
) -> None:
    window, total = mmio_window(with_bars(bars)), sum(map(sum, bars))
    if not total:
        assert window == 0
        return
    assert window & (window - 1) == 0
    assert 2 * total <= window < 4 * total


@given(machines)
def test_all_bars_find_place_in_the_window_at_their_natural_alignment(
    bars: list[list[int]],
) -> None:
    """The way firmware does it: the largest first, each device behind a bridge of its own."""
    position = 0
    for own in sorted(bars, key=lambda own: max(own, default=0), reverse=True):
        if not own:
            continue
        position = -(-position // max(own)) * max(own)
        position += sum(own)
    assert position <= mmio_window(with_bars(bars))


@given(machines, sizes)
def test_one_more_device_never_needs_less(bars: list[list[int]], more: list[int]) -> None:
    assert mmio_window(with_bars(bars)) <= mmio_window(with_bars([*bars, more]))


def test_a_wide_window_is_said_with_its_parts() -> None:
    finding = only(k80_half("03:00.0"))
    assert (finding.code, finding.level) == ("VK307", Level.INFO)
    assert finding.message == (
        "the BARs take 16 MiB + 16 GiB (64-bit) + 32 MiB (64-bit): a guest needs a 64-bit MMIO "
        "window of 64 GiB"
    )
    assert "<pcihole64 unit='KiB'>67108864</pcihole64>" in finding.hint
    assert "X-PciMmio64Mb,string=65536" in finding.hint


def test_a_card_with_small_bars_needs_no_words() -> None:
    bars = (bar(0, 16 * MIB), bar(1, 256 * MIB, is_64bit=True), bar(3, 32 * MIB, is_64bit=True))
    assert judged(gpu(bars=bars)) == []


def test_bars_without_an_address() -> None:
    card = gpu(bars=(bar(0, 16 * MIB, unassigned=True), bar(5, 128, io=True, unassigned=True)))
    finding = only(card)
    assert (finding.code, finding.level) == ("VK308", Level.BLOCK)
    assert finding.message.startswith("BAR 0 of 0000:01:00.0 (16 MiB) has no address")
    assert "Above 4G decoding" in finding.hint and "pci=realloc" in finding.hint


def test_several_bars_without_an_address_and_realloc_tried() -> None:
    card = gpu(bars=(bar(0, 16 * MIB, unassigned=True), bar(2, 100, unassigned=True)))
    sound = audio(bars=(bar(0, 16 * 1024, unassigned=True),))
    finding = only(card, sound, cmdline="pci=realloc")
    assert finding.message.startswith(
        "BAR 0 of 0000:01:00.0 (16 MiB), BAR 2 of 0000:01:00.0 (100 bytes) and BAR 0 of "
        "0000:01:00.1 (16 KiB) have no address"
    )
    assert "realloc" not in finding.hint


# NUMA


def nodes(*pages: dict[int, tuple[int, int]]) -> Platform:
    return Platform(nodes=tuple(NumaNode(number, have) for number, have in enumerate(pages)))


def test_one_node_is_near_everything() -> None:
    assert judged(gpu(numa_node=0), platform=nodes({2048: (0, 0)})) == []
    assert judged(gpu()) == []


@pytest.mark.parametrize("node", [None, 7])
def test_which_node_is_near_may_be_unknown(node: int | None) -> None:
    finding = only(gpu(numa_node=node), platform=nodes({}, {}))
    assert (finding.code, finding.level) == ("VK314", Level.INFO)
    assert "which of the 2 NUMA nodes is near 0000:01:00.0" in finding.message


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (
            ({2048: (0, 0)}, {2048: (1024, 512), 1048576: (4, 4), 64: (0, 0)}),
            "near NUMA node 1, where 512 of 1024 hugepages of 2 MiB and 4 of 4 hugepages of 1 GiB "
            "are free",
        ),
        (
            ({2048: (8, 8)}, {2048: (8, 0)}, {2048: (8, 1)}),
            "near NUMA node 1, and all free hugepages are on node 0 and 2",
        ),
        (({2048: (8, 0)}, {}), "near NUMA node 1, where no hugepages are free, nor on any other"),
    ],
)
def test_hugepages_of_the_near_node(
    pages: tuple[dict[int, tuple[int, int]], ...], words: str
) -> None:
    finding = only(gpu(numa_node=1), platform=nodes(*pages))
    assert (finding.code, finding.level) == ("VK313", Level.INFO)
    assert words in finding.message
    assert "node1/hugepages" in finding.hint


# Who has it


def held(*holders: tuple[str, str, int, str]) -> Host:
    opened = tuple(Holder(at(device), node, pid, name) for device, node, pid, name in holders)
    return host(gpu(driver="vfio-pci"), audio(), holders=opened)


def held_open(machine: Host) -> list[Finding]:
    card = next(machine.gpus())
    return device_findings(machine, card, machine.slot_of(card))


def test_a_process_that_holds_the_card_open_blocks() -> None:
    (finding,) = held_open(
        held(
            ("01:00.0", "/dev/dri/card1", 900, "Xorg"),
            ("01:00.0", "/dev/nvidia0", 900, "Xorg"),
            ("01:00.1", "/dev/snd/controlC1", 950, "job"),
            ("02:00.0", "/dev/nvidia1", 960, "elsewhere"),
        )
    )
    assert (finding.code, finding.level, finding.acceptable) == ("VK310", Level.BLOCK, False)
    assert finding.message.startswith(
        "it is open on the host: Xorg (PID 900: /dev/dri/card1, /dev/nvidia0), "
        "job (PID 950: /dev/snd/controlC1)"
    )
    assert finding.hint == (
        "systemctl stop display-manager; see who it is, and end it: ps -o pid,user,args -p 950"
    )


def test_a_service_is_stopped_as_one() -> None:
    (finding,) = held_open(held(("01:00.0", "/dev/nvidia0", 5, "nvidia-persiste")))
    assert finding.hint == "systemctl stop nvidia-persistenced"


def test_very_many_holders_are_counted() -> None:
    (finding,) = held_open(held(*(("01:00.0", "/dev/nvidia0", n, "job") for n in range(1, 7))))
    assert "PID 3: /dev/nvidia0) and 3 more" in finding.message
    assert finding.hint.endswith("-p 1,2,3,4,5,6")


def test_a_vm_that_has_it_is_called_one() -> None:
    (finding,) = held_open(held(("01:00.0", "/dev/vfio/6", 4242, "qemu-system-x86")))
    assert finding.code == "VK310"
    assert finding.message == ("a VM has it already: qemu-system-x86 (PID 4242: /dev/vfio/6)")
    assert "virsh list" in finding.hint


def test_drivers_that_are_bound() -> None:
    finding = only(gpu(driver="nvidia"), audio(driver="snd_hda_intel"))
    assert (finding.code, finding.level) == ("VK311", Level.INFO)
    assert finding.message == (
        "drivers of the host are bound: nvidia has 0000:01:00.0, snd_hda_intel has 0000:01:00.1"
    )
    assert "libvirt takes it from them" in finding.hint
    assert "unbinding nvidia waits" in finding.hint


def test_drivers_that_would_take_it() -> None:
    finding = only(
        gpu(drivers_that_match=("nouveau", "nvidia")),
        audio(driver="vfio-pci", drivers_that_match=("snd_hda_intel",)),
    )
    assert (finding.code, finding.level) == ("VK312", Level.INFO)
    assert finding.message == (
        "at the next boot drivers of the host would take it: nouveau or nvidia 0000:01:00.0, "
        "snd_hda_intel 0000:01:00.1"
    )
    assert "driverctl set-override 0000:01:00.0 vfio-pci" in finding.hint


@pytest.mark.parametrize("driver", ["vfio-pci", "pci-stub", "nvgrace-gpu-vfio-pci"])
def test_a_driver_that_keeps_it_for_guests_is_not_the_hosts(driver: str) -> None:
    assert judged(gpu(driver=driver)) == []


def test_a_driver_that_is_bound_is_not_announced_as_well() -> None:
    found = judged(gpu(driver="nouveau", drivers_that_match=("nouveau",)), audio())
    assert codes(found) == ["VK311"]


def test_what_blocks_comes_first() -> None:
    holder = Holder(PciAddress.parse("01:00.0"), "/dev/nvidia0", 5, "job")
    card = k80_half("01:00.0", reset_methods=(), driver="nvidia", numa_node=0, config=config())
    port = function("00:01.0", ROOT_PORT, 1)
    found = judged(card, port, holders=(holder,), platform=nodes({}, {}))
    assert codes(found) == ["VK310", "VK302", "VK305", "VK307", "VK311", "VK313"]
    levels = [Level.BLOCK, Level.WARN, Level.INFO]
    assert sorted(found, key=lambda f: levels.index(f.level)) == found
