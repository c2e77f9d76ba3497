"""Whether a GPU can be handed over alone, and what stands in the way if it cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machines import (
    E1000,
    HOST_BRIDGE,
    K80,
    M4000,
    M4000_AUDIO,
    PCI_BRIDGE,
    QXL,
    ROOT_PORT,
    Machine,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from tests.unit.values import at, function, host
from vfio_kit.analysis.describe import describe
from vfio_kit.analysis.isolation import host_findings, judge, judge_gpu
from vfio_kit.host.read import read_host
from vfio_kit.knowledge.findings import FINDING_KINDS, FindingKind
from vfio_kit.knowledge.pci_classes import CLASS_NAMES, class_name
from vfio_kit.model import GpuReport, Host, Level, PciDevice, ReadProblem, Verdict

ISA_BRIDGE = ("8086", "a305", "060100")
GPU = function("01:00.0", M4000, 6)
AUDIO = function("01:00.1", M4000_AUDIO, 6, driver="snd_hda_intel")
NIC = function("02:00.0", E1000, 6, driver="e1000", interfaces=("enp2s0",))


def only(machine: Host) -> GpuReport:
    (report,) = judge(machine)
    return report


def found(report: GpuReport) -> list[tuple[str, str | None]]:
    """The findings on isolation and the IOMMU; what else is said of a GPU is tested elsewhere."""
    return [
        (f.code, str(f.device) if f.device else None)
        for f in report.findings
        if f.code.startswith(("VK1", "VK2"))
    ]


def hint(report: GpuReport, code: str) -> str:
    (text,) = (f.hint for f in report.findings if f.code == code)
    return text


def addresses(devices: tuple[PciDevice, ...]) -> list[str]:
    return [str(device.address) for device in devices]


def read(tmp_path: Path, machine: Machine) -> dict[str, GpuReport]:
    return {str(r.gpu.address): r for r in judge(read_host(write_machine(tmp_path, machine)))}


def test_a_gpu_alone_with_its_audio_is_isolated(tmp_path: Path) -> None:
    report = read(tmp_path, m4000_isolated())["0000:01:00.0"]
    assert report.verdict is Verdict.ISOLATED and report.can_go
    assert addresses(report.functions) == ["0000:01:00.0", "0000:01:00.1"]
    assert (report.foreign_endpoints, report.bridges) == ((), ())
    assert found(report) == []


def test_a_nic_in_the_group_makes_it_shared(tmp_path: Path) -> None:
    report = read(tmp_path, m4000_shared())["0000:02:01.0"]
    assert report.verdict is Verdict.SHARED and not report.can_go
    assert addresses(report.functions) == ["0000:02:01.0", "0000:02:01.1"]
    assert addresses(report.foreign_endpoints) == ["0000:02:02.0"]
    assert addresses(report.bridges) == ["0000:01:00.0"]
    # The tree holds no config space: why they are together cannot be told.
    assert found(report) == [("VK101", "0000:02:02.0"), ("VK108", "0000:02:01.0")]
    finding = report.findings[0]
    assert (finding.code, finding.level) == ("VK101", Level.BLOCK)
    assert finding.device == at("02:02.0")
    assert finding.message == (
        "group 6 also holds 0000:02:02.0 Ethernet controller [8086:100e] (driver e1000) "
        "interface enp2s2"
    )


def test_the_halves_of_a_k80_do_not_hold_each_other_back(tmp_path: Path) -> None:
    reports = read(tmp_path, k80_pair())
    assert set(reports) == {"0000:03:00.0", "0000:04:00.0"}
    assert all(r.verdict is Verdict.ISOLATED and r.can_go for r in reports.values())
    assert all(len(r.functions) == 1 for r in reports.values())
    assert {gpu: found(r) for gpu, r in reports.items()} == {
        gpu: [("VK109", gpu)] for gpu in reports
    }
    assert {r.board for r in reports.values()} == {(at("03:00.0"), at("04:00.0"))}


def test_two_gpus_in_one_group_are_foreign_to_each_other() -> None:
    other = function("02:00.0", K80, 6)
    one, two = judge(host(GPU, AUDIO, other))
    assert (one.verdict, addresses(one.foreign_endpoints)) == (Verdict.SHARED, ["0000:02:00.0"])
    assert (two.verdict, addresses(two.foreign_endpoints)) == (
        Verdict.SHARED,
        ["0000:01:00.0", "0000:01:00.1"],
    )


def test_two_gpus_in_one_group_may_go_to_one_guest_together() -> None:
    audio = function("02:00.1", M4000_AUDIO, 6)
    one, _ = judge(host(GPU, function("02:00.0", K80, 6), audio))
    gpu, companion = (f.hint for f in one.findings if f.code == "VK101")
    assert gpu.startswith(
        "it is a GPU: both may go to one guest together, --gpu 0000:01:00.0 --gpu "
    )
    assert companion.startswith("it belongs to the GPU 0000:02:00.0: both may go")


@pytest.mark.parametrize("driver", [None, "vfio-pci", "pci-stub"])
def test_an_endpoint_that_nothing_drives_still_shares_the_group(driver: str | None) -> None:
    report = only(host(GPU, function("02:00.0", E1000, 6, driver=driver)))
    assert report.verdict is Verdict.SHARED and not report.can_go
    assert hint(report, "VK101").startswith("nothing on the host drives it, so the kernel would")


def test_an_endpoint_in_use_is_to_move() -> None:
    report = only(host(GPU, function("02:00.0", E1000, 6, driver="e1000")))
    assert hint(report, "VK101").startswith("put the GPU into a slot with a root port of its own")


def test_a_member_that_could_not_be_read_blocks() -> None:
    machine = Host(devices=(GPU,), iommu_groups={6: (at("01:00.0"), at("02:00.0"))})
    report = only(machine)
    assert report.verdict is Verdict.SHARED and not report.can_go
    assert found(report) == [("VK104", "0000:02:00.0")]


def test_two_gpus_in_one_slot_go_together() -> None:
    second = function("01:00.2", QXL, 6)
    one, two = judge(host(GPU, AUDIO, second))
    assert one.verdict is two.verdict is Verdict.ISOLATED
    assert addresses(one.functions) == addresses(two.functions)


@pytest.mark.parametrize("ids", [HOST_BRIDGE, ROOT_PORT, PCI_BRIDGE, ("104c", "ac56", "060700")])
def test_a_bridge_in_the_group_is_never_foreign(ids: tuple[str, str, str]) -> None:
    report = only(host(GPU, function("00:01.0", ids, 6, driver="pcieport")))
    assert report.verdict is Verdict.ISOLATED and report.can_go
    assert addresses(report.bridges) == ["0000:00:01.0"]


def test_an_isa_bridge_in_the_group_is_foreign() -> None:
    report = only(host(GPU, function("00:1f.0", ISA_BRIDGE, 6)))
    assert report.verdict is Verdict.SHARED


def test_a_driverless_endpoint_in_the_group_is_foreign_all_the_same() -> None:
    assert only(host(GPU, function("02:00.0", E1000, 6))).verdict is Verdict.SHARED


def test_a_companion_in_another_group_goes_along_and_brings_that_group_in() -> None:
    audio = function("01:00.1", M4000_AUDIO, 7)
    alone = only(host(GPU, audio))
    assert alone.verdict is Verdict.ISOLATED and alone.can_go
    assert found(alone) == [("VK102", "0000:01:00.1")]

    with_nic = only(host(GPU, audio, function("02:00.0", E1000, 7)))
    assert with_nic.verdict is Verdict.SHARED
    assert addresses(with_nic.foreign_endpoints) == ["0000:02:00.0"]
    assert ("VK101", "0000:02:00.0") in found(with_nic)


def test_a_companion_in_no_group_blocks() -> None:
    report = only(host(GPU, function("01:00.1", M4000_AUDIO)))
    assert not report.can_go
    assert found(report) == [("VK202", "0000:01:00.1")]


def test_a_gpu_in_no_group_though_the_host_has_some() -> None:
    report = only(host(function("01:00.0", M4000), function("00:00.0", HOST_BRIDGE, 0)))
    assert report.verdict is Verdict.NO_IOMMU and not report.can_go
    assert found(report) == [("VK202", "0000:01:00.0")]


def test_a_host_without_groups_is_explained_once_for_a_gpu_with_many_functions() -> None:
    machine = host(
        function("01:00.0", M4000),
        function("01:00.1", M4000_AUDIO),
        acpi_tables=frozenset({"DMAR"}),
    )
    report = only(machine)
    assert report.verdict is Verdict.NO_IOMMU and not report.can_go
    assert found(report) == [("VK201", None)]
    assert "intel_iommu=on" in report.findings[0].hint


def test_acs_override_makes_every_isolation_doubtful() -> None:
    report = only(host(GPU, AUDIO, cmdline="quiet pcie_acs_override=downstream,multifunction"))
    assert report.verdict is Verdict.OVERRIDDEN and not report.can_go
    assert found(report) == [("VK103", "0000:01:00.0")]
    (finding,) = (f for f in report.findings if f.code == "VK103")
    assert (finding.level, finding.acceptable) == (Level.BLOCK, True)
    assert finding.message.startswith("pcie_acs_override=downstream,multifunction is on the kernel")
    assert finding.hint.endswith("--accept-loss 0000:01:00.0")


def test_acs_override_is_said_of_a_group_that_is_shared_all_the_same() -> None:
    report = only(host(GPU, AUDIO, function("02:00.0", E1000, 6), cmdline="pcie_acs_override="))
    assert report.verdict is Verdict.SHARED
    assert [code for code, _ in found(report)] == ["VK101", "VK108", "VK103"]


def test_acs_override_says_nothing_of_a_gpu_without_a_group() -> None:
    report = only(host(function("01:00.0", M4000), cmdline="pcie_acs_override=downstream"))
    assert report.verdict is Verdict.NO_IOMMU
    assert found(report) == [("VK201", None)]


def test_a_parameter_that_only_sounds_like_acs_override_is_none() -> None:
    report = only(host(GPU, AUDIO, cmdline="xpcie_acs_override=downstream"))
    assert report.verdict is Verdict.ISOLATED and report.can_go
    assert found(report) == []


def test_the_boot_display_is_isolated_and_does_not_go_by_itself() -> None:
    report = only(host(function("01:00.0", M4000, 6, boot_vga=True)))
    assert report.verdict is Verdict.ISOLATED
    assert not report.can_go
    assert ("VK301", at("01:00.0")) in [(f.code, f.device) for f in report.findings]


def test_a_boot_display_that_goes_along_counts_as_well() -> None:
    display = function("01:00.1", K80, 6, boot_vga=True)
    report = judge(host(function("01:00.0", M4000, 6), display))[0]
    assert not report.can_go
    assert ("VK301", at("01:00.1")) in [(f.code, f.device) for f in report.findings]


def test_only_gpus_are_judged() -> None:
    assert judge(host(AUDIO, NIC, function("00:00.0", HOST_BRIDGE, 0))) == ()


def test_a_group_of_hundreds_is_not_told_to_the_last() -> None:
    strangers = [function(f"{bus:02x}:00.0", E1000, 6) for bus in range(2, 102)]
    report = only(host(GPU, AUDIO, *strangers))
    assert report.verdict is Verdict.SHARED and len(report.foreign_endpoints) == 64
    told = [f.message for f in report.findings if f.code == "VK101"]
    assert len(told) == 65
    assert "its groups hold 36 more foreign endpoints, which are not told one by one" in told


def test_a_host_that_has_no_gpu_yet_is_told_of_its_iommu() -> None:
    assert [f.code for f in host_findings(host())] == ["VK201"]
    assert host_findings(host(function("02:00.0", E1000, 6))) == ()


def test_what_could_not_be_read_is_a_finding_of_the_host() -> None:
    problems = (ReadProblem("/sys/bus/pci/devices/0000:01:00.0/vendor", "not text"),)
    (finding,) = host_findings(host(GPU, problems=problems))
    assert (finding.code, finding.level, finding.device) == ("VK501", Level.WARN, None)
    assert finding.message == "/sys/bus/pci/devices/0000:01:00.0/vendor: not text"


def test_a_device_is_described_in_half_a_line() -> None:
    card = function("01:00.0", M4000, 6, name="GM204GL [Quadro M4000]", driver="nouveau")
    assert describe(card) == (
        "0000:01:00.0 VGA controller [10de:13f1] GM204GL [Quadro M4000] (driver nouveau)"
    )
    assert describe(function("01:00.0", ("1234", "5678", "ff0000"))) == (
        "0000:01:00.0 class ff00 [1234:5678] (no driver)"
    )


def test_classes_have_names() -> None:
    assert class_name("0302") == "3D controller"
    assert class_name("ff00") == "class ff00"
    assert all(len(code) == 4 and int(code, 16) >= 0 for code in CLASS_NAMES)


@pytest.mark.parametrize("kind", FINDING_KINDS, ids=lambda kind: str(kind.code))
def test_a_code_names_one_kind_of_finding(kind: FindingKind) -> None:
    assert [other for other in FINDING_KINDS if other.code == kind.code] == [kind]
    assert kind.title


@pytest.mark.parametrize("elsewhere", [None, 7])
def test_a_companion_in_no_group_keeps_the_gpu_here(elsewhere: int | None) -> None:
    """Whether a stranger sits in the GPU's own group as well or not."""
    machine = host(
        function("01:00.0", M4000, 6),
        function("01:00.1", M4000_AUDIO),
        function("02:00.0", E1000, 6 if elsewhere is None else elsewhere),
    )
    (report,) = judge(machine)
    assert (report.verdict, report.can_go) == (Verdict.NO_IOMMU, False)
    assert "0000:01:00.1 is in no IOMMU group, though the host has some" in [
        finding.message for finding in report.findings
    ]


# Random machines against a model that knows nothing of the code: plain dictionaries of what sits
# where. A group is viable when nothing that can do DMA is left behind on the host.

_KINDS = {
    "gpu": M4000,
    "tesla": K80,
    "audio": M4000_AUDIO,
    "nic": E1000,
    "isa": ISA_BRIDGE,
    "port": ROOT_PORT,
    "bridge": PCI_BRIDGE,
    "host-bridge": HOST_BRIDGE,
}
_BRIDGES = {"port", "bridge", "host-bridge"}
_GPUS = {"gpu", "tesla"}

topologies = st.dictionaries(
    keys=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    values=st.tuples(st.sampled_from(sorted(_KINDS)), st.none() | st.integers(0, 3)),
    max_size=12,
)
Topology = dict[tuple[int, int, int], tuple[str, int | None]]


def _machine(topology: Topology) -> Host:
    return host(
        *(
            function(f"{bus:02x}:{slot:02x}.{number}", _KINDS[kind], group)
            for (bus, slot, number), (kind, group) in topology.items()
        )
    )


def _naive(topology: Topology, where: tuple[int, int, int]) -> tuple[str, set[str], set[str]]:
    """Verdict, what is in the way, the bridges: by going through the whole machine."""
    text = {key: f"0000:{key[0]:02x}:{key[1]:02x}.{key[2]}" for key in topology}
    going = [key for key in topology if key[:2] == where[:2]]
    in_the_way: set[str] = set()
    bridges: set[str] = set()
    for key, (kind, group) in topology.items():
        if key in going or group is None:
            continue
        if any(topology[mine][1] == group for mine in going):
            (bridges if kind in _BRIDGES else in_the_way).add(text[key])
    if any(topology[mine][1] is None for mine in going):
        return "no-iommu", in_the_way, bridges
    return ("shared" if in_the_way else "isolated"), in_the_way, bridges


@settings(deadline=None)
@given(topologies)
def test_the_verdict_is_the_models_verdict(topology: Topology) -> None:
    reports = {str(report.gpu.address): report for report in judge(_machine(topology))}
    gpus = {key for key, (kind, _) in topology.items() if kind in _GPUS}
    assert len(reports) == len(gpus)
    for where in gpus:
        report = reports[f"0000:{where[0]:02x}:{where[1]:02x}.{where[2]}"]
        verdict, in_the_way, bridges = _naive(topology, where)
        assert report.verdict.value == verdict
        assert set(addresses(report.foreign_endpoints)) == in_the_way
        assert set(addresses(report.bridges)) == bridges


@settings(deadline=None)
@given(topologies)
def test_a_gpu_can_go_only_if_every_function_that_goes_has_a_group_of_its_own(
    topology: Topology,
) -> None:
    machine = _machine(topology)
    for report in judge(machine):
        own = {f.address for f in report.functions}
        covered = all(f.iommu_group is not None for f in report.functions)
        members = {
            device
            for device in machine.devices
            if device.address not in own
            and device.iommu_group is not None
            and device.iommu_group in {f.iommu_group for f in report.functions}
        }
        assert report.can_go == (covered and all(device.is_bridge for device in members))
        # Whatever keeps it from going is said.
        assert report.can_go == (not [f for f in report.findings if f.level is Level.BLOCK])


@settings(deadline=None)
@given(topologies)
def test_acs_override_turns_isolated_into_overridden_and_nothing_else(topology: Topology) -> None:
    plain = _machine(topology)
    for before in judge(plain):
        after = judge_gpu(replace(plain, cmdline="pcie_acs_override=downstream"), before.gpu)
        isolated = before.verdict is Verdict.ISOLATED
        assert after.verdict is (Verdict.OVERRIDDEN if isolated else before.verdict)
        assert not after.can_go


def test_a_virtual_function_goes_alone_and_stays_when_its_card_goes() -> None:
    physical = function("01:00.0", M4000, 6, virtual_functions=2)
    virtual = [
        function(f"01:00.{number}", M4000, 6 + number, physical_function=at("01:00.0"))
        for number in (1, 2)
    ]
    card, first, second = judge(host(physical, *virtual))
    assert addresses(card.functions) == ["0000:01:00.0"]
    assert found(card) == [("VK111", "0000:01:00.0")] and not card.can_go
    assert addresses(first.functions) == ["0000:01:00.1"] and first.can_go
    assert found(second) == [("VK110", "0000:01:00.2")] and second.can_go


@settings(deadline=None)
@given(topologies)
def test_all_functions_of_a_slot_go_and_are_told_apart_from_the_rest(topology: Topology) -> None:
    machine = _machine(topology)
    for gpu in machine.gpus():
        report = judge_gpu(machine, gpu)
        assert gpu in report.functions
        parts = (*report.functions, *report.foreign_endpoints, *report.bridges)
        assert len(set(parts)) == len(parts)
        assert {f.address.slot for f in report.functions} == {gpu.address.slot}


def test_a_function_of_the_card_that_could_not_be_read_is_in_the_way_in_whatever_group() -> None:
    machine = host(GPU)
    lost = replace(machine, iommu_groups={**machine.iommu_groups, 7: (at("01:00.1"),)})
    report = only(lost)
    assert (report.verdict, report.can_go) == (Verdict.SHARED, False)
    assert found(report) == [("VK104", "0000:01:00.1")]
    assert report.findings[0].message.startswith("0000:01:00.1 is a function of the card, and")
    elsewhere = replace(machine, iommu_groups={**machine.iommu_groups, 7: (at("02:00.1"),)})
    assert only(elsewhere).can_go


@pytest.mark.parametrize(
    ("ids", "driver", "codes"),
    [
        (ROOT_PORT, "pcieport", []),
        (PCI_BRIDGE, None, []),
        (PCI_BRIDGE, "shpchp", ["VK115"]),
        (HOST_BRIDGE, "skl_uncore", ["VK115"]),
        (ROOT_PORT, "vfio-pci", []),
    ],
)
def test_a_bridge_with_a_driver_of_its_own_is_named(
    ids: tuple[str, str, str], driver: str | None, codes: list[str]
) -> None:
    report = only(host(GPU, function("00:01.0", ids, 6, driver=driver)))
    assert report.verdict is Verdict.ISOLATED and report.can_go
    assert [f.code for f in report.findings if f.level is Level.WARN] == codes
