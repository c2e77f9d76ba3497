"""Why an IOMMU group is as it is: the culprit is named, and only where it is one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machines import E1000, K80, M4000, M4000_AUDIO, PCI_BRIDGE
from tests.unit.topology import ALL, SWITCH, config, endpoint, port
from tests.unit.values import at, function, host
from vfio_kit.analysis.grouping.acs import Isolation, isolation, what_it_lacks
from vfio_kit.analysis.grouping.why import why_together
from vfio_kit.analysis.isolation import judge
from vfio_kit.model import Acs, ConfigSpace, Finding, Level, PciDevice, PcieType

ROOT = "00:01.0"
UP, DOWN = PcieType.UPSTREAM_PORT, PcieType.DOWNSTREAM_PORT
NO_ACS = None


def why(*functions: PciDevice, **fields: object) -> list[Finding]:
    """Of a host whose first GPU is the one in question; foreign is what is in its groups."""
    machine = host(*functions, **fields)
    gpu = next(machine.gpus())
    own = machine.slot_of(gpu)
    groups = {one.iommu_group for one in own}
    foreign = tuple(
        one
        for one in machine.devices
        if one.iommu_group in groups and one not in own and not one.is_bridge
    )
    return why_together(machine, own, foreign)


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    assert all(one.level is Level.INFO and one.message and one.hint for one in found)
    return [(one.code, str(one.device)) for one in found]


def bridge(address: str, kind: PcieType | None, *above: str, group: int = 1) -> PciDevice:
    return port(address, ids=PCI_BRIDGE, group=group, above=above, config=config(kind))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "conventional PCI bridge"),
        (PcieType.PCIE_TO_PCI_BRIDGE, "PCIe-to-PCI bridge"),
        (PcieType.PCI_TO_PCIE_BRIDGE, "PCI-to-PCIe bridge"),
    ],
)
def test_a_bridge_to_conventional_pci(kind: PcieType | None, words: str) -> None:
    (found,) = why(
        port(ROOT, group=5),
        bridge("01:00.0", kind, ROOT),
        endpoint("02:01.0", M4000, 1, ROOT, "01:00.0"),
        endpoint("02:01.1", M4000_AUDIO, 1, ROOT, "01:00.0"),
        endpoint("02:02.0", E1000, 1, ROOT, "01:00.0"),
        endpoint("02:03.0", E1000, 1, ROOT, "01:00.0"),
    )
    assert codes([found]) == [("VK105", "0000:01:00.0")]
    assert found.message == (
        "0000:01:00.0 PCI bridge [1b36:000e] (driver pcieport) is a "
        f"{words}: the IOMMU cannot tell apart what is below it, so 0000:02:01.0 shares its group "
        "with 0000:02:02.0 and 0000:02:03.0"
    )


def test_a_root_port_without_acs() -> None:
    (found,) = why(
        port(ROOT, acs=NO_ACS, name="Xeon E3 PCIe Controller (x16)"),
        port("01:00.0", UP, ids=SWITCH, above=(ROOT,)),
        port("02:08.0", DOWN, ids=SWITCH, above=(ROOT, "01:00.0")),
        port("02:10.0", DOWN, ids=SWITCH, above=(ROOT, "01:00.0")),
        endpoint("03:00.0", M4000, 1, ROOT, "01:00.0", "02:08.0"),
        endpoint("04:00.0", E1000, 1, ROOT, "01:00.0", "02:10.0"),
    )
    assert codes([found]) == [("VK106", "0000:00:01.0")]
    assert "Xeon E3 PCIe Controller (x16)" in found.message
    assert "is a root port that has no ACS capability:" in found.message
    assert "0000:03:00.0 shares its group with 0000:04:00.0" in found.message
    assert "; below" not in found.message
    assert "override" not in found.hint


@pytest.mark.parametrize(
    ("acs", "words"),
    [
        (Acs(0x1D, 0x00), "source validation, request redirect, completion redirect and upstream "),
        (Acs(0x1D, 0x0C), "source validation and upstream forwarding are switched off"),
        (Acs(0x7F, 0x1C), "source validation is switched off"),
        (Acs(0x10, 0x0D), "upstream forwarding is switched off"),
    ],
)
def test_a_port_whose_acs_is_switched_off(acs: Acs, words: str) -> None:
    (found,) = why(
        port(ROOT, acs=acs),
        endpoint("01:00.0", M4000, 1, ROOT),
        endpoint("01:01.0", E1000, 1, ROOT),
    )
    assert codes([found]) == [("VK106", "0000:00:01.0")]
    assert f"has ACS, but {words}" in found.message
    assert found.hint.startswith("enable ACS in the firmware set-up; or put the GPU into a slot")


@pytest.mark.parametrize(
    "parameter", ["pci=disable_acs_redir=pci:0:0", "pci=noaer,config_acs=000x@pci:0:0"]
)
def test_acs_that_the_command_line_switches_off(parameter: str) -> None:
    (found,) = why(
        port(ROOT, acs=Acs(0x1D, 0x11)),
        endpoint("01:00.0", M4000, 1, ROOT),
        endpoint("01:01.0", E1000, 1, ROOT),
        cmdline=f"intel_iommu=on {parameter}",
    )
    assert found.hint.startswith(f"take {parameter} off the kernel's command line")


def test_the_topmost_culprit_is_named_and_those_below_it_along_with_it() -> None:
    (found,) = why(
        port(ROOT, acs=NO_ACS),
        bridge("01:00.0", None, ROOT),
        port("02:00.0", DOWN, Acs(0x1D, 0x1C), above=(ROOT, "01:00.0")),
        endpoint("03:00.0", M4000, 1, ROOT, "01:00.0", "02:00.0"),
        endpoint("03:01.0", E1000, 1, ROOT, "01:00.0", "02:00.0"),
    )
    assert codes([found]) == [("VK106", "0000:00:01.0")]
    assert found.message.endswith(
        "; below, 0000:01:00.0 (conventional PCI bridge), 0000:02:00.0 (switch downstream port "
        "that has ACS, but source validation is switched off) would join them all the same"
    )


def test_functions_of_one_device_below_the_culprit() -> None:
    (found,) = why(
        port(ROOT, acs=NO_ACS),
        port("01:00.0", UP, NO_ACS, ids=SWITCH, above=(ROOT,), multifunction=True),
        endpoint("01:00.1", E1000, 1, ROOT),
        port("02:08.0", DOWN, ids=SWITCH, above=(ROOT, "01:00.0")),
        endpoint("03:00.0", M4000, 1, ROOT, "01:00.0", "02:08.0"),
    )
    assert codes([found]) == [("VK106", "0000:00:01.0")]
    assert found.message.endswith(
        "; below, 0000:01:00.0 (switch upstream port that has no ACS capability), 0000:01:00.1 "
        "(Ethernet controller that has no ACS capability) would join them all the same"
    )


def test_root_ports_of_one_device_without_acs() -> None:
    """As the graphics ports of many Intel desktop processors: 00:01.0 and 00:01.1."""
    (found,) = why(
        port("00:01.0", acs=NO_ACS, multifunction=True),
        port("00:01.1", acs=NO_ACS),
        port("00:01.2", acs=Acs(0x1D, 0x10)),
        endpoint("01:00.0", M4000, 1, "00:01.0"),
        endpoint("02:00.0", E1000, 1, "00:01.1"),
        endpoint("03:00.0", E1000, 1, "00:01.2"),
    )
    assert codes([found]) == [("VK107", "0000:00:01.0")]
    assert found.message == (
        "0000:00:01.0, 0000:00:01.1 and 0000:00:01.2 (PCI bridge [8086:1901]) are functions of one "
        "device that can reach each other past the IOMMU, so 0000:01:00.0 shares its group with "
        "0000:02:00.0 and 0000:03:00.0: 0000:00:01.0 has no ACS capability, 0000:00:01.1 has no "
        "ACS capability, 0000:00:01.2 has ACS, but source validation, request redirect and "
        "completion redirect are switched off"
    )


def test_a_chipset_device_beside_the_port_above_the_gpu() -> None:
    (found,) = why(
        port("00:1c.0", acs=NO_ACS, multifunction=True, name="PCH"),
        function("00:1c.3", E1000, 1, config=config(PcieType.RC_INTEGRATED_ENDPOINT)),
        endpoint("01:00.0", M4000, 1, "00:1c.0"),
    )
    assert codes([found]) == [("VK107", "0000:00:1c.0")]
    assert found.message.startswith(
        "0000:00:1c.0 (PCI bridge [8086:1901] PCH) and 0000:00:1c.3 (Ethernet controller "
        "[8086:100e]) are functions of one device"
    )
    assert found.message.endswith(": each has no ACS capability")


def test_a_switch_that_is_one_function_of_several() -> None:
    (found,) = why(
        port(ROOT, group=5),
        port("01:00.0", UP, NO_ACS, ids=SWITCH, above=(ROOT,), multifunction=True),
        port("02:08.0", DOWN, ids=SWITCH, above=(ROOT, "01:00.0")),
        port("02:10.0", DOWN, ids=SWITCH, above=(ROOT, "01:00.0")),
        endpoint("03:00.0", M4000, 1, ROOT, "01:00.0", "02:08.0"),
        endpoint("04:00.0", E1000, 1, ROOT, "01:00.0", "02:10.0"),
        function("01:00.1", ("10b5", "87d0", "088000"), 5, config=config(PcieType.ENDPOINT)),
    )
    assert codes([found]) == [("VK107", "0000:01:00.0")]
    assert "is one function of several in a device" in found.message


def test_a_chipset_is_one_culprit() -> None:
    """As AMD's: USB, SATA and a switch are functions of one device without ACS."""
    several = config(PcieType.LEGACY_ENDPOINT, multifunction=True)
    (found,) = why(
        port(ROOT, group=5),
        endpoint("02:00.0", ("1022", "43d5", "0c0330"), 1, ROOT, config=several),
        endpoint("02:00.1", ("1022", "43c8", "010601"), 1, ROOT),
        port("02:00.2", UP, NO_ACS, above=(ROOT,)),
        port("03:00.0", DOWN, NO_ACS, above=(ROOT, "02:00.2")),
        port("03:04.0", DOWN, NO_ACS, above=(ROOT, "02:00.2")),
        endpoint("04:00.0", E1000, 1, ROOT, "02:00.2", "03:00.0"),
        endpoint("05:00.0", M4000, 1, ROOT, "02:00.2", "03:04.0"),
    )
    assert codes([found]) == [("VK107", "0000:02:00.0")]
    assert "0000:02:00.0 (USB controller [1022:43d5]), 0000:02:00.1 (SATA c" in found.message
    assert "its group with 0000:02:00.0, 0000:02:00.1 and 0000:04:00.0: each" in found.message
    # Were the chipset to isolate, most kernels would keep apart what is below its ports.
    assert "; below" not in found.message


def test_ports_of_a_switch_that_kernels_join() -> None:
    (found,) = why(
        port(ROOT, group=5),
        port("01:00.0", UP, ids=SWITCH, above=(ROOT,)),
        port("02:08.0", DOWN, NO_ACS, ids=SWITCH, above=(ROOT, "01:00.0")),
        port("02:10.0", DOWN, NO_ACS, ids=SWITCH, above=(ROOT, "01:00.0")),
        port("02:11.0", DOWN, NO_ACS, ids=SWITCH, above=(ROOT, "01:00.0")),
        endpoint("03:00.0", K80, 1, ROOT, "01:00.0", "02:08.0"),
        endpoint("04:00.0", K80, 1, ROOT, "01:00.0", "02:10.0"),
        endpoint("05:00.0", E1000, 1, ROOT, "01:00.0", "02:11.0"),
    )
    assert codes([found]) == [("VK106", "0000:02:08.0")]
    assert "the switch that 0000:03:00.0 is behind forwards between its ports" in found.message
    assert "0000:04:00.0 and 0000:05:00.0: each has no ACS capability" in found.message


def test_ports_side_by_side_on_a_root_bus_are_no_switch() -> None:
    found = why(
        port("00:01.0", DOWN, NO_ACS),
        port("00:02.0", DOWN, NO_ACS),
        endpoint("01:00.0", M4000, 1, "00:01.0"),
        endpoint("02:00.0", E1000, 1, "00:02.0"),
    )
    assert codes(found) == [("VK108", "0000:01:00.0")]


def test_every_culprit_is_named_once() -> None:
    found = why(
        port("00:01.0", acs=NO_ACS, multifunction=True),
        port("00:01.1", acs=NO_ACS),
        endpoint("01:00.0", M4000, 1, "00:01.0"),
        endpoint("01:01.0", E1000, 1, "00:01.0"),
        endpoint("02:00.0", E1000, 1, "00:01.1"),
        endpoint("02:00.1", E1000, 1, "00:01.1"),
    )
    assert codes(found) == [("VK106", "0000:00:01.0"), ("VK107", "0000:00:01.0")]


def test_a_port_outside_the_group_is_no_culprit_though_it_has_no_acs() -> None:
    """The kernel knows ports that isolate without saying so."""
    found = why(
        port(ROOT, acs=NO_ACS, group=5),
        bridge("01:00.0", None, ROOT),
        endpoint("02:00.0", M4000, 1, ROOT, "01:00.0"),
        endpoint("02:01.0", E1000, 1, ROOT, "01:00.0"),
    )
    assert codes(found) == [("VK105", "0000:01:00.0")]


def test_a_long_list_is_cut() -> None:
    (found,) = why(
        bridge("00:1e.0", None),
        endpoint("01:00.0", M4000, 1, "00:1e.0"),
        *(endpoint(f"01:{slot:02x}.0", E1000, 1, "00:1e.0") for slot in range(1, 12)),
    )
    assert "0000:01:08.0 and 3 more" in found.message


def test_a_root_port_that_is_free_is_offered() -> None:
    (found,) = why(
        port(ROOT, acs=NO_ACS),
        endpoint("01:00.0", M4000, 1, ROOT),
        endpoint("01:01.0", E1000, 1, ROOT),
        port("00:02.0", acs=NO_ACS, group=7),
        port("00:03.0", group=8),
        endpoint("03:00.0", E1000, 9, "00:03.0"),
        port("00:04.0", group=10),
    )
    assert "root port (port 0000:00:04.0 isolates and is free" in found.hint


@pytest.mark.parametrize(
    ("space", "words", "hint"),
    [
        (None, "there was no config space of 0000:00:01.0", "root (sudo)"),
        (config(capabilities=False, extended=False), "for root alone to read", "sudo vfio-kit"),
        (config(PcieType.ROOT_PORT, extended=False), "extended config space", "(sudo)"),
    ],
)
def test_what_could_not_be_read_is_said(space: object, words: str, hint: str) -> None:
    (found,) = why(
        port(ROOT, config=space),
        endpoint("01:00.0", M4000, 1, ROOT),
        endpoint("01:01.0", E1000, 1, ROOT),
    )
    assert codes([found]) == [("VK108", "0000:01:00.0")]
    assert words in found.message and hint in found.hint


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_unread_function_beside_the_port_is_a_suspect(which: int) -> None:
    """Whether the port above the GPU, the one above the other, or the other itself is unread."""
    spaces = [config(PcieType.ROOT_PORT, NO_ACS)] * 3
    spaces[which] = config(capabilities=False)
    other: PciDevice = (
        function("00:01.2", E1000, 1, config=spaces[2])
        if which == 2
        else endpoint("02:00.0", E1000, 1, "00:01.1")
    )
    found = why(
        port("00:01.0", config=spaces[0]),
        port("00:01.1", config=spaces[1]),
        endpoint("01:00.0", M4000, 1, "00:01.0"),
        other,
    )
    assert codes(found) == [("VK108", "0000:01:00.0")]
    assert "root alone" in found[0].message


def test_unread_ports_of_a_switch_are_suspects() -> None:
    found = why(
        port(ROOT, group=5),
        port("01:00.0", UP, ids=SWITCH, above=(ROOT,), group=6),
        port("02:08.0", DOWN, above=(ROOT, "01:00.0"), config=None),
        port("02:10.0", DOWN, above=(ROOT, "01:00.0"), config=None),
        endpoint("03:00.0", K80, 1, ROOT, "01:00.0", "02:08.0"),
        endpoint("04:00.0", E1000, 1, ROOT, "01:00.0", "02:10.0"),
    )
    assert codes(found) == [("VK108", "0000:03:00.0")]
    assert "no config space of 0000:02:08.0" in found[0].message


def test_a_group_that_nothing_explains() -> None:
    functions = (
        port(ROOT, group=5),
        port("00:02.0", group=6),
        endpoint("01:00.0", M4000, 1, ROOT),
        endpoint("02:00.0", E1000, 1, "00:02.0"),
    )
    (found,) = why(*functions)
    assert codes([found]) == [("VK108", "0000:01:00.0")]
    assert "a quirk of the kernel's" in found.message
    (power,) = why(*functions, machine="ppc64le")
    assert "on ppc64le firmware draws the groups" in power.message


def test_a_tree_without_the_bridges_above() -> None:
    (found,) = why(endpoint("01:00.0", M4000, 1), endpoint("02:00.0", E1000, 1))
    assert codes([found]) == [("VK108", "0000:01:00.0")]
    assert "which bridges are above it could not be read" in found.message


def test_what_a_vmd_controller_carries_along_is_explained_elsewhere() -> None:
    vmd = function("00:0e.0", ("8086", "467f", "010400"), 1, driver="vmd")
    above = ("00:0e.0", "10000:e0:01.0")
    found = why(
        vmd,
        port("10000:e0:01.0", above=("00:0e.0",)),
        endpoint("10000:e1:00.0", M4000, 1, *above),
        endpoint("10000:e2:00.0", ("8086", "f1a8", "010802"), 1, "00:0e.0", "10000:e0:02.0"),
    )
    assert found == []


def test_a_stranger_in_the_group_of_a_companion_alone() -> None:
    found = why(
        port(ROOT, group=5, acs=NO_ACS),
        bridge("01:00.0", None, ROOT, group=7),
        endpoint("02:00.0", M4000, 6, ROOT, "01:00.0"),
        endpoint("02:00.1", M4000_AUDIO, 7, ROOT, "01:00.0"),
        endpoint("02:01.0", E1000, 7, ROOT, "01:00.0"),
    )
    assert codes(found) == [("VK105", "0000:01:00.0")]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (port(ROOT), Isolation.YES),
        (port(ROOT, acs=Acs(0, 0)), Isolation.YES),
        (port(ROOT, acs=Acs(0x20, 0)), Isolation.YES),
        (port(ROOT, acs=Acs(0x1D, 0x1C)), Isolation.NO),
        (port(ROOT, acs=None), Isolation.NO),
        (port("01:00.0", UP, None), Isolation.YES),
        (port("01:00.0", UP, None, multifunction=True), Isolation.NO),
        (port("01:00.1", UP, None), Isolation.NO),
        (endpoint("01:00.0", M4000, 1), Isolation.YES),
        (port("00:01.1", PcieType.UPSTREAM_PORT, ALL), Isolation.YES),
        (endpoint("01:00.1", M4000, 1, physical_function=at("01:00.0")), Isolation.YES),
        (endpoint("01:00.0", M4000, 1, config=config(PcieType(0xA))), Isolation.NO),
        (endpoint("01:00.0", M4000, 1, config=config()), Isolation.NO),
        (endpoint("01:00.0", M4000, 1, config=None), Isolation.UNREAD),
        (port(ROOT, config=config(PcieType.ROOT_PORT, extended=False)), Isolation.UNREAD),
    ],
)
def test_acs_as_the_kernel_counts_it(device: PciDevice, expected: Isolation) -> None:
    assert isolation(device) is expected


def test_a_port_type_of_the_future_isolates_as_the_kernel_has_it() -> None:
    assert isolation(port(ROOT, PcieType.ROOT_PORT, config=config(None))) is Isolation.NO
    odd = port(ROOT)
    assert odd.config is not None
    object.__setattr__(odd.config, "pcie_type", 0xF)
    assert isolation(odd) is Isolation.YES


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "is conventional PCI, which has no ACS"),
        (PcieType.PCIE_TO_PCI_BRIDGE, "has no ACS capability"),
    ],
)
def test_why_a_function_does_not_isolate(kind: PcieType | None, words: str) -> None:
    assert what_it_lacks(endpoint("01:00.0", M4000, 1, config=config(kind))) == words


addresses = st.builds(
    "{:02x}:{:02x}.{}".format, st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)
)
spaces = st.none() | st.builds(
    config,
    st.none() | st.sampled_from(PcieType),
    st.none() | st.builds(Acs, st.integers(0, 127), st.integers(0, 127)),
    multifunction=st.booleans(),
    capabilities=st.booleans(),
    extended=st.booleans(),
)
malformed = st.dictionaries(
    addresses,
    st.tuples(
        st.sampled_from([M4000, E1000, PCI_BRIDGE, K80, ("8086", "467f", "010400")]),
        st.none() | st.integers(1, 2),
        st.lists(addresses, max_size=4),
        spaces,
        st.none() | addresses,
    ),
    max_size=10,
)
Malformed = dict[
    str, tuple[tuple[str, str, str], int | None, list[str], ConfigSpace | None, str | None]
]


@settings(deadline=None)
@given(malformed)
def test_no_tree_is_too_absurd(tree: Malformed) -> None:
    """Cycles, parents that are not there, bridges below themselves: every foreign one is spoken
    of, and nothing is raised."""
    machine = host(
        *(
            function(
                address,
                ids,
                group,
                upstream=tuple(map(at, above)),
                config=space,
                physical_function=None if physical is None else at(physical),
                virtual_functions=len(above) if physical is None else 0,
            )
            for address, (ids, group, above, space, physical) in tree.items()
        )
    )
    for report in judge(machine):
        reasons = [f for f in report.findings if f.code in ("VK105", "VK106", "VK107", "VK108")]
        codes(reasons)
        assert bool(reasons) == bool(report.foreign_endpoints)
        assert not report.board or report.gpu.address in report.board
