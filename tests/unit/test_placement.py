"""Where on its host a guest runs: host, demand and other VMs in; placement and findings out."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.hosts.load import FOLDER, cores, load
from tests.machines import K80, write_machine
from tests.unit.values import at, function, spec
from vfio_kit.errors import UsageError
from vfio_kit.host.machine import read_machine
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.model import Cpu, Finding, Host, NumaNode, PciDevice, Platform
from vfio_kit.model.placement import Claim, CpuTopology, Placement
from vfio_kit.model.vm import StepKind, UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.plan.placement import Demand, place_guest

PAGE = 2048
Cores = tuple[tuple[int, ...], ...]


def cpus(nodes: Mapping[int, Cores], isolated: frozenset[int] = frozenset()) -> tuple[Cpu, ...]:
    """Node -> the CPUs of each of its cores; `isolated`: CPUs of isolated cores."""
    found = (
        Cpu(n, core, node, node, not isolated.isdisjoint(core))
        for node, of in nodes.items()
        for core in of
        for n in core
    )
    return tuple(sorted(found, key=lambda cpu: cpu.number))


def node(
    number: int,
    free: int | None = 65536,
    pages: int = 0,
    distances: tuple[int, ...] = (),
    total: int | None = 65536,
) -> NumaNode:
    """MiB in all and to be had; hugepages of 2 MiB that are free."""
    return NumaNode(number, {PAGE: (pages, pages)}, total, free, distances)


TWO_NODES = Platform(
    nodes=(node(0, distances=(10, 21)), node(1, distances=(21, 10))),
    cpus=cpus({0: cores("0-3", "8-11"), 1: cores("4-7", "12-15")}),
)
"""Two nodes with 4 cores of two threads and 64 GiB, of which 2 GiB stay for the host."""
HELD = (65536 - 2048) // 2
"""Pages that a node of it holds."""


def gpu(numa_node: int | None = 1, address: str = "81:00.0") -> PciDevice:
    return function(address, K80, 6, numa_node=numa_node)


def placed(
    platform: Platform = TWO_NODES,
    functions: tuple[PciDevice, ...] = (gpu(),),
    claims: tuple[Claim, ...] = (),
    **fields: Any,
) -> tuple[Placement, dict[str, Finding]]:
    """The placement of a guest with 4 vCPUs and 8 GiB, and the findings by their codes."""
    fields = {"cpus": 4, "memory_mib": 8192, "page_kib": PAGE} | fields
    placement, findings = place_guest(platform, Demand(functions=functions, **fields), claims)
    assert len({finding.code for finding in findings}) == len(findings)
    return placement, {finding.code: finding for finding in findings}


def codes(found: Mapping[str, Finding]) -> list[str]:
    """Without that pages have to be added, which is so in most tests."""
    return [code for code in found if code != "VK707"]


# Near the GPU.


@pytest.mark.parametrize(
    ("near", "vcpus", "emulator"),
    [(0, ((1,), (9,), (2,), (10,)), (0, 8)), (1, ((5,), (13,), (6,), (14,)), (4, 12))],
)
def test_memory_and_vcpus_are_on_the_gpus_node(
    near: int, vcpus: tuple[tuple[int, ...], ...], emulator: tuple[int, ...]
) -> None:
    placement, found = placed(functions=(gpu(near),))
    assert placement == Placement(CpuTopology(1, 2, 2), (near,), ((near, 4096),), vcpus, emulator)
    assert codes(found) == []


def test_memory_without_hugepages_is_there_as_well() -> None:
    placement, found = placed(page_kib=None)
    assert (placement.nodes, placement.pages) == ((1,), ())
    assert found == {}


def test_vcpus_that_are_not_to_be_pinned_leave_the_memory_where_it_was() -> None:
    placement, found = placed(pin=False)
    assert placement == Placement(CpuTopology(1, 4, 1), (1,), ((1, 4096),))
    assert codes(found) == []


def test_another_node_may_be_asked_for() -> None:
    placement, found = placed(node=0)
    assert (placement.nodes, placement.emulator) == ((0,), (0, 8))
    assert codes(found) == ["VK705"]
    assert found["VK705"].message == (
        "the guest is asked for on NUMA node 0, and its GPU is near node 1"
    )
    assert placed(node=1) == placed()


def test_a_node_that_is_none_is_an_error() -> None:
    with pytest.raises(UsageError, match="no NUMA node 7") as caught:
        placed(node=7)
    assert caught.value.hint == "it has 0, 1"
    with pytest.raises(UsageError, match="no NUMA node 1"):
        placed(Platform(), node=1)
    assert placed(Platform(), node=0)[1] == {}


def test_gpus_of_several_nodes_have_their_guest_where_most_of_them_are() -> None:
    three = (gpu(0, "01:00.0"), gpu(1, "81:00.0"), gpu(1, "82:00.0"))
    placement, found = placed(functions=three)
    assert (placement.nodes, placement.emulator) == ((1,), (4, 12))
    assert codes(found) == ["VK706"]
    assert "0000:01:00.0 on node 0, 0000:81:00.0 on node 1" in found["VK706"].message
    assert "it runs on node 1" in found["VK706"].message


def test_of_two_equal_nodes_the_one_that_holds_the_guest() -> None:
    both = (gpu(0, "01:00.0"), gpu(1, "81:00.0"))
    assert placed(functions=both)[0].nodes == (0,)
    assert placed(functions=both, claims=(Claim("a", cpus=frozenset((1, 9, 2))),))[0].nodes == (1,)
    taken = (Claim("a", memory_mib=((0, 60000),)),)
    assert placed(functions=both, claims=taken)[0].nodes == (1,)


def test_what_one_node_does_not_hold_goes_to_the_node_of_the_other_gpu() -> None:
    in_a_row = {n: tuple(10 + 10 * abs(m - n) for m in range(4)) for n in range(4)}
    several = nodes_of(10240, 10240, 10240, 10240, distances=in_a_row)
    both = (gpu(0, "01:00.0"), gpu(3, "81:00.0"))
    placement, found = placed(several, both, memory_mib=12288)
    assert placement.nodes == (0, 3)
    assert codes(found) == ["VK706", "VK701"]
    assert placed(several, both[:1], memory_mib=12288)[0].nodes == (0, 1)


def test_where_nobody_knows_the_gpus_node_the_guest_is_on_one_all_the_same() -> None:
    unknown = (gpu(None),)
    assert placed(functions=unknown)[0].nodes == (0,)
    busy = (Claim("a", memory_mib=((0, 60000),)),)
    placement, found = placed(functions=unknown, claims=busy)
    assert (placement.nodes, placement.emulator) == ((1,), (4, 12))
    assert codes(found) == []


def test_where_nobody_knows_and_no_node_holds_it_the_one_with_most_memory() -> None:
    placement, found = placed(nodes_of(6048, 7048), (gpu(None),))
    assert placement.pages == ((0, 1596), (1, 2500))
    assert "NUMA node 1 has room for 5000 MiB" in found["VK701"].message


# Hosts that tell less.


@pytest.mark.parametrize(
    "platform",
    [
        Platform(),
        Platform(nodes=(node(0),)),
        Platform(nodes=(NumaNode(0, {}), NumaNode(1, {}))),
        Platform(nodes=TWO_NODES.nodes[:1]),
    ],
)
def test_what_is_not_known_is_left_to_the_kernel(platform: Platform) -> None:
    placement, found = placed(platform)
    assert placement == Placement(CpuTopology(1, 4, 1))
    assert found == {}


def test_a_kernel_without_numa_has_cores_all_the_same() -> None:
    placement, found = placed(Platform(cpus=cpus({0: cores("0-3", "4-7")})))
    assert placement.vcpus == ((1,), (5,), (2,), (6,))
    assert (placement.emulator, placement.nodes, found) == ((0, 4), (), {})


def test_a_node_whose_memory_is_not_known_has_its_free_hugepages() -> None:
    nodes = (node(0), node(1, None, 5000, total=None))
    assert placed(replace(TWO_NODES, nodes=nodes))[0].nodes == (1,)
    placement, found = placed(replace(TWO_NODES, nodes=(node(0), node(1, None, 96))))
    assert (placement.pages, codes(found)) == (((0, 4000), (1, 96)), ["VK701"])


# Cores.


def one_node(of: Cores) -> Platform:
    return Platform(cpus=cpus({0: of}))


@pytest.mark.parametrize(
    ("of", "vcpus", "topology", "pins"),
    [
        # Threads of the guest are threads of the host, in pairs.
        (cores("0-3", "4-7"), 2, (1, 2), [(1,), (5,)]),
        (cores("0-3", "4-7"), 6, (3, 2), [(1,), (5,), (2,), (6,), (3,), (7,)]),
        # An odd one has a core for itself.
        (cores("0-3", "4-7"), 1, (1, 1), [(1, 5)]),
        (cores("0-3", "4-7"), 3, (3, 1), [(1,), (5,), (2, 6)]),
        # Without SMT.
        (cores("0-3"), 3, (3, 1), [(1,), (2,), (3,)]),
        # Four threads a core.
        (cores("0-1", "2-3", "4-5", "6-7"), 4, (1, 4), [(1,), (3,), (5,), (7,)]),
        (cores("0-1", "2-3", "4-5", "6-7"), 2, (1, 2), [(1, 3), (5, 7)]),
        # Two kinds of cores: the wide ones, as long as there are enough; else both.
        (cores("0,2,4,6-9", "1,3,5"), 4, (2, 2), [(2,), (3,), (4,), (5,)]),
        (cores("0,2,4,6-9", "1,3,5"), 6, (6, 1), [(2,), (3,), (4,), (5,), (6,), (7,)]),
        (cores("0,2,4-9", "1,3"), 6, (6, 1), [(4,), (5,), (6,), (7,), (8,), (9,)]),
        # A core that has lost a thread is none of them.
        (((0, 4), (1,), (2, 6), (3, 7)), 4, (2, 2), [(2,), (6,), (3,), (7,)]),
    ],
)
def test_vcpus_have_whole_cores(
    of: Cores, vcpus: int, topology: tuple[int, int], pins: list[tuple[int, ...]]
) -> None:
    placement, found = placed(one_node(of), cpus=vcpus)
    assert placement.topology == CpuTopology(1, *topology)
    assert list(placement.vcpus) == pins
    assert placement.emulator == of[0]
    assert found == {}


def test_cores_of_other_vms_are_not_taken_again() -> None:
    first, _ = placed(cpus=2)
    second, found = placed(cpus=2, claims=(Claim("a", cpus=first.cpus),))
    assert (first.vcpus, second.vcpus) == (((5,), (13,)), ((6,), (14,)))
    assert codes(found) == []
    half = (Claim("half a core", cpus=frozenset({14})),)
    assert placed(cpus=4, claims=half)[0].vcpus == ((5,), (13,), (7,), (15,))


def test_the_cpu_that_the_host_began_with_stays_its_own() -> None:
    odd = Platform(nodes=TWO_NODES.nodes, cpus=cpus({0: cores("4-7"), 1: cores("0-3")}))
    assert placed(odd, (gpu(1),), cpus=3)[0].vcpus == ((1,), (2,), (3,))
    assert placed(odd, (gpu(0),), cpus=3)[0].emulator == (4,)


def test_cores_that_were_set_aside_come_first() -> None:
    """isolcpus=3,7 of a host with a core 1 that nobody has."""
    aside = Platform(cpus=cpus({0: cores("0-3", "4-7")}, frozenset({3, 7})))
    assert placed(aside)[0].vcpus == ((3,), (7,), (1,), (5,))


def test_the_host_keeps_a_core_that_it_uses() -> None:
    aside = Platform(cpus=cpus({0: cores("0-3")}, frozenset({0, 1})))
    placement, _ = placed(aside, cpus=3)
    assert (placement.vcpus, placement.emulator) == (((0,), (1,), (3,)), (2,))


def test_nothing_floats_over_cpus_that_were_set_aside() -> None:
    aside = Platform(cpus=cpus({0: cores("0-7")}, frozenset({6, 7})))
    placement, found = placed(aside, cpus=9)
    assert placement.vcpus == ((0, 1, 2, 3, 4, 5),) * 9
    assert list(found) == ["VK704", "VK703"]


def test_vcpus_that_find_no_cores_float_over_what_nobody_has() -> None:
    placement, found = placed(cpus=8)
    near = (4, 5, 6, 7, 12, 13, 14, 15)
    assert placement.vcpus == (near,) * 8
    assert (placement.shared, placement.emulator, placement.cpus) == (True, near, frozenset())
    assert placement.topology == CpuTopology(1, 8, 1)
    assert codes(found) == ["VK703"]
    assert found["VK703"].message == (
        "8 vCPUs do not find cores of their own: without the host's and those of other VMs 6 CPUs "
        "are left near the GPU; they float over CPUs 4-7,12-15 of node 1"
    )
    assert found["VK703"].hint == "--cpus 6 would have their own"


def test_vcpus_that_would_float_over_everything_are_left_to_the_kernel() -> None:
    placement, found = placed(one_node(cores("0-3")))
    assert placement == Placement(CpuTopology(1, 4, 1))
    assert list(found) == ["VK703"]
    assert "float over all CPUs of the host" in found["VK703"].message


def test_where_other_vms_have_all_cpus_nothing_is_pinned() -> None:
    """Not even the host's own are free: the other VM was planned when there were more of them."""
    everything = (Claim("a", cpus=frozenset(range(16))),)
    placement, found = placed(claims=everything)
    assert (placement.vcpus, placement.emulator, codes(found)) == ((), (), ["VK703"])


def test_more_vcpus_than_the_host_has_cpus() -> None:
    placement, found = placed(one_node(cores("0-3")), cpus=5)
    assert placement == Placement(CpuTopology(1, 5, 1))
    assert list(found) == ["VK704", "VK703"]
    assert "5 vCPUs are more than the 4 CPUs of the host" in found["VK704"].message
    assert list(placed(one_node(cores("0-3")), cpus=5, pin=False)[1]) == ["VK704"]


def test_vcpus_go_to_another_node_where_the_near_one_has_too_few() -> None:
    placement, found = placed(cpus=10)
    assert {cpu for pins in placement.vcpus for cpu in pins} == {5, 6, 7, 13, 14, 15, 1, 2, 9, 10}
    assert placement.topology == CpuTopology(1, 5, 2)
    assert placement.emulator == (0, 4, 8, 12)
    assert placement.nodes == (1,), "its memory is where the GPU is"
    assert codes(found) == ["VK702"]
    assert found["VK702"].message == (
        "NUMA node 1 has 6 CPUs for the guest's 10 vCPUs: some run on node 0, across the link "
        "between the nodes"
    )
    assert found["VK702"].hint == "--cpus 6 stay on node 1"


def test_vcpus_go_to_another_node_where_other_vms_have_the_near_one() -> None:
    claims = (Claim("a", cpus=frozenset({5, 13, 6, 14, 7, 15})),)
    placement, found = placed(claims=claims)
    assert placement.vcpus == ((1,), (9,), (2,), (10,))
    assert codes(found) == ["VK702"]
    assert "all run on node 0" in found["VK702"].message


def test_a_card_near_a_node_without_cpus() -> None:
    """Memory of a GPU or of CXL is a node; and there are sockets without memory."""
    memory_only = replace(TWO_NODES, cpus=cpus({0: cores("0-7")}))
    placement, found = placed(memory_only)
    assert (placement.nodes, placement.vcpus) == ((1,), ((1,), (2,), (3,), (4,)))
    assert codes(found) == ["VK702"]
    no_memory = replace(TWO_NODES, nodes=(node(0), node(1, 0, total=0)))
    placement, found = placed(no_memory)
    assert (placement.nodes, placement.emulator) == ((0,), (0, 8)), "vCPUs are near their memory"
    assert codes(found) == ["VK701"]
    assert "all of it is on node 0" in found["VK701"].message


# Memory.


def nodes_of(
    *free: int,
    pages: tuple[int, ...] = (),
    distances: Mapping[int, tuple[int, ...]] | None = None,
) -> Platform:
    """Nodes with so many MiB to be had, of 64 GiB."""
    rows = zip(free, pages or (0,) * len(free), strict=True)
    far = distances or {}
    return Platform(nodes=tuple(node(n, f, p, far.get(n, ())) for n, (f, p) in enumerate(rows)))


def test_free_hugepages_come_first_and_the_rest_is_made() -> None:
    placement, found = placed(nodes_of(0, 20000, pages=(9000, 1096)))
    assert placement.pages == ((1, 4096),)
    assert list(found) == ["VK707"]
    assert found["VK707"].message == (
        "of the guest's 4096 hugepages of 2 MiB have to be added: 3000 on node 1"
    )
    assert "hugepagesz=2M hugepages=1:4096 on" in found["VK707"].hint


def test_where_all_pages_are_free_nothing_is_said() -> None:
    assert placed(nodes_of(0, 0, pages=(0, 4096)))[1] == {}


def test_pages_of_1_gib() -> None:
    platform = Platform(nodes=(node(0), NumaNode(1, {1048576: (6, 2)}, 65536, 9000)))
    placement, found = placed(platform, page_kib=1048576)
    assert placement.pages == ((1, 8),)
    assert "6 on node 1" in found["VK707"].message
    assert "hugepagesz=1G hugepages=1:12" in found["VK707"].hint


def test_what_the_near_node_does_not_hold_comes_from_the_nearest_other() -> None:
    far_near = {0: (10, 32, 21), 1: (32, 10, 12), 2: (21, 12, 10)}
    placement, found = placed(nodes_of(20000, 4048, 20000, distances=far_near), memory_mib=8192)
    assert placement.pages == ((1, 1000), (2, 3096))
    assert placement.nodes == (1, 2)
    assert list(found) == ["VK701", "VK707"]
    assert found["VK701"].message == (
        "NUMA node 1 has room for 2000 MiB of the guest's memory: the rest of it is on node 2, "
        "across the link between the nodes"
    )
    assert found["VK701"].hint == "--memory 2000 stays on node 1; or make room there"
    assert "1000 on node 1 and 3096 on node 2" in found["VK707"].message


def test_few_nodes_count_more_than_near_ones() -> None:
    far_near = {1: (30, 10, 12, 20)}
    platform = nodes_of(65536, 4048, 3048, 9000, distances=far_near)
    assert placed(platform)[0].pages == ((1, 1000), (3, 3096))
    assert placed(platform, memory_mib=2 * 4500)[0].pages == ((0, 3500), (1, 1000))


def test_nodes_that_hold_it_exactly() -> None:
    far_near = {1: (20, 10, 30)}
    exactly = nodes_of(2048 + 6192, 2048 + 2000, 65536, distances=far_near)
    assert placed(exactly)[0].pages == ((0, 3096), (1, 1000))
    assert placed(exactly, memory_mib=8194)[0].pages == ((1, 1000), (2, 3097))


@pytest.mark.parametrize(
    ("total", "reserved"), [(1024, 256), (4096, 256), (16384, 1024), (32768, 2048), (262144, 2048)]
)
def test_of_each_node_some_memory_stays_for_the_host(total: int, reserved: int) -> None:
    platform = Platform(nodes=(node(0, total, total=total), node(1, total, total=total)))
    most = total - reserved
    assert placed(platform, page_kib=None, memory_mib=most)[0].nodes == (1,)
    assert placed(platform, page_kib=None, memory_mib=most + 1)[0].nodes == (0, 1)


def test_what_others_take_of_a_page_is_all_of_it() -> None:
    huge = tuple(NumaNode(n, {1048576: (4, 4)}, 65536, 2048) for n in (0, 1))
    claims = (Claim("a", memory_mib=((1, 1025),)),)
    fields: dict[str, Any] = {"page_kib": 1048576, "memory_mib": 3072, "claims": claims}
    assert placed(Platform(nodes=huge), **fields)[0].pages == ((0, 1), (1, 2))


def test_what_other_vms_are_about_to_take_is_not_there() -> None:
    claims = (Claim("a", memory_mib=((1, 60000),)), Claim("b", memory_mib=((1, 1488),)))
    placement, found = placed(claims=claims)
    assert placement.pages == ((0, 3096), (1, 1000))
    assert codes(found) == ["VK701"]
    assert placed(claims=claims, page_kib=None, memory_mib=2000)[0].nodes == (1,)
    assert placed(claims=claims, page_kib=None, memory_mib=2001)[0].nodes == (0, 1)


def test_free_pages_that_others_are_about_to_take_have_to_be_added() -> None:
    platform, claims = (
        nodes_of(65536, 65536, pages=(0, 5000)),
        (Claim("a", memory_mib=((1, 8192),)),),
    )
    assert "3192 on node 1" in placed(platform, claims=claims)[1]["VK707"].message


def test_memory_that_the_host_has_not() -> None:
    placement, found = placed(nodes_of(4096, 4096))
    assert placement.pages == ((1, 4096),), "once it is there, it is best there"
    assert list(found) == ["VK708", "VK707"]
    assert found["VK708"].message == (
        "the guest takes 8192 MiB in hugepages of 2 MiB, and the host could give 4096 MiB now"
    )
    single = Platform(nodes=(node(0, 4096),))
    assert "could give 2048 MiB" in placed(single)[1]["VK708"].message
    assert placed(nodes_of(4096, 4096), memory_mib=100_000)[0].pages == ((0, 18256), (1, HELD))
    huge, found = placed(memory_mib=1_000_000)
    assert (huge.pages, list(found)) == (((1, 500_000),), ["VK708", "VK707"])


# A host for eight guests.


@cache
def eight_p40() -> Host:
    with TemporaryDirectory() as folder:
        description = load(FOLDER / "epyc-two-nodes-eight-p40.toml")
        return read_machine(write_machine(Path(folder), description.machine))


def one_after_the_other(**fields: Any) -> list[UpPlan]:
    """A guest for each P40, each planned beside those before it, which have not started yet."""
    host = eight_p40()
    plans: list[UpPlan] = []
    claims: tuple[Claim, ...] = ()
    for number, card in enumerate(card for card in host.gpus() if card.vendor_id == 0x10DE):
        wanted = spec(str(card.address), name=f"vm-{number}", **fields)
        made = make_plan(host, wanted, claims=claims)
        plans.append(made)
        place = made.domain.placement
        assert place is not None
        memory = tuple((n, count * 2) for n, count in place.pages)
        functions = frozenset(device.address for device in made.devices)
        claims = (*claims, Claim(wanted.name, functions, place.cpus, memory))
    assert len(plans) == 8
    return plans


def places(plans: list[UpPlan]) -> list[Placement]:
    return [made.domain.placement for made in plans if made.domain.placement]


def said(plans: list[UpPlan], *among: str) -> list[list[str]]:
    """Of each plan the findings about its place, but that pages have to be added."""
    found = [[f.code for f in made.findings if f.code.startswith("VK70")] for made in plans]
    return [[code for code in of if code != "VK707"] for of in found]


def pages_step(made: UpPlan) -> str:
    (step,) = (step for step in made.steps if step.kind is StepKind.HUGEPAGES)
    return step.what


def node_of_cpu(cpu: int) -> int:
    return cpu % 64 // 32


def test_eight_guests_stay_on_the_nodes_of_their_cards() -> None:
    plans = one_after_the_other(cpus=14)
    assert {made.domain.memory_mib for made in plans} == {24576}, "a P40 has 24 GiB"
    assert said(plans) == [[]] * 8
    for number, place in enumerate(places(plans)):
        near = number // 4
        assert place.pages == ((near, 12288),)
        assert {node_of_cpu(cpu) for cpu in (*place.cpus, *place.emulator)} == {near}
        assert place.topology == CpuTopology(1, 7, 2, topoext=True)
    taken = [cpu for place in places(plans) for cpu in place.cpus]
    assert len(set(taken)) == len(taken) == 8 * 14
    assert not {0, 64, 32, 96} & set(taken), "the host keeps a core of each node"
    assert [pages_step(made) for made in (plans[0], plans[7])] == [
        "make 12288 hugepages of 2 MiB free on node 0 (24576 MiB)",
        "make 12288 hugepages of 2 MiB free on node 1 (24576 MiB)",
    ]


def test_the_last_guest_that_finds_too_few_cores_says_so_and_stays() -> None:
    """16 CPUs each take 8 of 31 cores: the fourth of a node would need the host's core."""
    plans = one_after_the_other(cpus=16)
    assert said(plans) == [[], [], [], ["VK703"]] * 2
    for number, place in enumerate(places(plans)):
        everywhere = {cpu for pins in place.vcpus for cpu in pins}
        assert {node_of_cpu(cpu) for cpu in everywhere} == {number // 4}
        assert place.shared == (number % 4 == 3)


def test_a_guest_with_more_memory_than_its_node_has_left_crosses_and_says_so() -> None:
    plans = one_after_the_other(cpus=8, memory=98304)
    assert said(plans)[:4] == [[], [], ["VK701"], ["VK701"]]
    assert [place.nodes for place in places(plans)[:4]] == [(0,), (0,), (0, 1), (1,)]
    third = plans[2]
    assert third.domain.hugepages is not None
    assert sum(count for _, count in places(plans)[2].pages) == third.domain.hugepages.count
    assert pages_step(third) == (
        "make 22172 hugepages of 2 MiB free on node 0, 26980 on node 1 (98304 MiB)"
    )
    assert said(plans)[4:] == [["VK708"]] * 4, "and then there is none left"


def test_a_guest_with_more_cpus_than_its_node_crosses_and_says_so() -> None:
    plans = one_after_the_other(cpus=70, memory=8192)
    first = places(plans)[0]
    assert said(plans)[0] == ["VK702"]
    assert {node_of_cpu(cpu) for cpu in first.cpus} == {0, 1}
    assert len([cpu for cpu in first.cpus if node_of_cpu(cpu) == 0]) == 62
    assert first.nodes == (0,)


def test_a_snapshot_gives_the_same_place(tmp_path: Path) -> None:
    description = load(FOLDER / "epyc-two-nodes-eight-p40.toml")
    root = write_machine(tmp_path / "tree", description.machine)
    (tmp_path / "snapshot").write_bytes(take_snapshot(root, lambda _: None))
    here, there = (make_plan(read_machine(path), spec("81:00.0", cpus=6))
                   for path in (root, tmp_path / "snapshot"))  # fmt: skip
    assert here.domain.placement == there.domain.placement
    assert here.domain.placement is not None and here.domain.placement.nodes == (1,)


# Whatever the host, and whatever is asked for.


@st.composite
def hosts(draw: st.DrawFn) -> Platform:
    """One to four nodes; cores of one or two threads, of both kinds on a few."""
    count = draw(st.integers(1, 4))
    distances = draw(
        st.lists(st.lists(st.integers(11, 40), min_size=count, max_size=count),
                 min_size=count, max_size=count)
    )  # fmt: skip
    of: dict[int, Cores] = {}
    next_cpu = 0
    nodes = []
    for number in range(count):
        widths = draw(st.lists(st.sampled_from((2, 2, 1)), min_size=0, max_size=6))
        found = []
        for width in widths:
            found.append(tuple(range(next_cpu, next_cpu + width)))
            next_cpu += width
        of[number] = tuple(found)
        total = draw(st.integers(1, 32)) * 1024
        free = draw(st.integers(0, total))
        pages = draw(st.sampled_from((0, 0, 100, 2048)))
        nodes.append(node(number, free, pages, tuple(distances[number]), total))
    aside = draw(st.sets(st.integers(0, next_cpu), max_size=4))
    return Platform(nodes=tuple(nodes), cpus=cpus(of, frozenset(aside)))


demands = st.builds(
    lambda vcpus, gib, paged, near: (vcpus, gib * 1024, PAGE if paged else None, near),
    st.integers(1, 12),
    st.integers(1, 24),
    st.booleans(),
    st.integers(0, 3),
)


def reserve(of: NumaNode) -> int:
    return min(2048, max(256, (of.memory_mib or 0) // 16))


def has(of: NumaNode, page_kib: int | None, claimed: int) -> int:
    """Pages, or MiB, that a node has beside what is claimed; worked out anew."""
    unit = 2 if page_kib else 1
    more = max(0, (of.free_mib or 0) - reserve(of)) // unit
    free = of.hugepages[PAGE][1] if page_kib else 0
    return max(0, free + more - -(-claimed // unit))


def check_memory(platform: Platform, demand: Demand, made: Placement, found: set[str],
                 claimed: Mapping[int, int], near: int) -> None:  # fmt: skip
    if len(platform.nodes) < 2:
        assert (made.nodes, made.pages) == ((), ())
        return
    room = {n.number: has(n, demand.page_kib, claimed.get(n.number, 0)) for n in platform.nodes}
    assert (sum(room.values()) < demand.need) == ("VK708" in found)
    if demand.page_kib:
        assert sum(count for _, count in made.pages) == demand.need
        assert tuple(number for number, _ in made.pages) == made.nodes
        assert all(count > 0 for _, count in made.pages)
    if "VK708" in found:
        return
    assert all(count <= room[number] for number, count in made.pages)
    assert (made.nodes != (near,)) == (room[near] < demand.need) == ("VK701" in found)
    assert (near in made.nodes) == (room[near] > 0)
    sizes = (
        len(several)
        for size in range(1, len(room) + 1)
        for several in combinations(room, size)
        if sum(room[n] for n in several) >= demand.need and (near in several or not room[near])
    )
    assert len(made.nodes) == next(sizes), "no fewer nodes would do"


def check_cpus(platform: Platform, demand: Demand, made: Placement, found: set[str],
               taken: frozenset[int]) -> None:  # fmt: skip
    of = {cpu.number: cpu for cpu in platform.cpus}
    whole = {cpu.siblings for cpu in platform.cpus}
    kept: set[int] = set()
    for number in {cpu.node for cpu in platform.cpus}:
        here = sorted(core for core in whole if of[core[0]].node == number)
        kept.update(next((c for c in here if not of[c[0]].isolated), here[0]))
    topology = made.topology
    assert topology.sockets * topology.cores * topology.threads == demand.cpus
    assert (demand.cpus > len(of) and bool(of)) == ("VK704" in found)
    assert (bool(of) and not made.cpus) == ("VK703" in found)
    assert {cpu for pins in (*made.vcpus, made.emulator) for cpu in pins} <= of.keys()
    if not made.cpus:
        assert topology.threads == 1
        assert len(set(made.vcpus)) <= 1
        floor = {cpu for pins in made.vcpus for cpu in pins}
        assert not any(of[cpu].isolated for cpu in floor)
        assert floor.isdisjoint(taken)
        return
    assert len(made.vcpus) == demand.cpus
    assert sum(map(len, made.vcpus)) == len(made.cpus), "each for one vCPU alone"
    assert all(set(core) <= made.cpus or made.cpus.isdisjoint(core) for core in whole)
    assert made.cpus.isdisjoint(taken) and made.cpus.isdisjoint(kept)
    assert set(made.emulator) <= kept
    assert {of[cpu].node for cpu in made.emulator} == {of[cpu].node for cpu in made.cpus}
    for start in range(0, demand.cpus, topology.threads):
        core = {cpu for pins in made.vcpus[start : start + topology.threads] for cpu in pins}
        assert topology.threads == 1 or any(core <= set(one) for one in whole)


def check_crossing(platform: Platform, demand: Demand, made: Placement, found: set[str],
                   taken: frozenset[int], near: int) -> None:  # fmt: skip
    """vCPUs are near their memory, unless the CPUs there that nobody has are too few."""
    used = {cpu.node for cpu in platform.cpus if cpu.number in made.cpus}
    home = near if not made.nodes or near in made.nodes else None
    if "VK702" in found:
        assert used
    if home is None or not used:
        return
    mine = [c for c in platform.cpus if c.node == home and not c.isolated]
    unclaimed = [c for c in mine if c.number not in taken]
    assert (used != {home}) == ("VK702" in found)
    assert used == {home} or len(unclaimed) < demand.cpus


def check_sequence(platform: Platform, asked: list[tuple[int, int, int | None, int]]) -> None:
    """Guests, each beside those before it, which have not taken their memory yet."""
    claims: tuple[Claim, ...] = ()
    for number, (vcpus, memory, page_kib, wanted) in enumerate(asked):
        near = wanted % len(platform.nodes)
        demand = Demand(vcpus, memory, page_kib, (gpu(near),))
        made, findings = place_guest(platform, demand, claims)
        found = {finding.code for finding in findings}
        taken = frozenset(cpu for claim in claims for cpu in claim.cpus)
        claimed: dict[int, int] = {}
        for claim in claims:
            for at_node, mib in claim.memory_mib:
                claimed[at_node] = claimed.get(at_node, 0) + mib
        check_memory(platform, demand, made, found, claimed, near)
        check_cpus(platform, demand, made, found, taken)
        check_crossing(platform, demand, made, found, taken, near)
        assert all(finding.device == at("81:00.0") for finding in findings)
        pages = tuple((n, count * 2) for n, count in made.pages)
        claims = (*claims, Claim(f"vm-{number}", cpus=made.cpus, memory_mib=pages))


@settings(deadline=None, max_examples=few(15))
@given(hosts(), st.lists(demands, min_size=1, max_size=4))
def test_guests_have_their_place_on_any_host(
    platform: Platform, asked: list[tuple[int, int, int | None, int]]
) -> None:
    check_sequence(platform, asked)


@pytest.mark.unit_long
@settings(deadline=None, max_examples=3000)
@given(hosts(), st.lists(demands, min_size=1, max_size=8))
def test_many_guests_have_their_place_on_any_host(
    platform: Platform, asked: list[tuple[int, int, int | None, int]]
) -> None:
    check_sequence(platform, asked)
