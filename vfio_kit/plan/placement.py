"""PURE: where on the host a guest runs: its memory's nodes, its vCPUs' CPUs.

Memory and vCPUs belong on the node that the GPU hangs on. What that node cannot hold goes to
others, as few of them as can be, the nearest first, and a finding says so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from vfio_kit.errors import UsageError
from vfio_kit.knowledge.findings import OTHER_NODE, SEVERAL_NODES, finding
from vfio_kit.model import Finding, PciAddress, PciDevice, Platform
from vfio_kit.model.placement import Claim, CpuTopology, Placement
from vfio_kit.plan.cores import Core, cores_of, host_cores, pinned
from vfio_kit.plan.nodes import Room, fewest, ranked, rooms, without_guests
from vfio_kit.plan.placement_words import (
    memory_crosses,
    more_vcpus,
    no_room,
    pages_to_add,
    vcpus_cross,
    vcpus_share,
)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a guest takes of its host; memory in MiB, in pages of `page_kib` (None: ordinary)."""

    cpus: int
    memory_mib: int
    page_kib: int | None = None
    functions: tuple[PciDevice, ...] = ()
    """What is handed over; where the GPUs of them are, the guest belongs."""
    pin: bool = True
    node: int | None = None
    """The node that the operator wants; None: the GPU's."""

    @property
    def need(self) -> int:
        """Its memory in pages of hugepages, or in MiB."""
        return self.memory_mib * 1024 // self.page_kib if self.page_kib else self.memory_mib

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        return tuple(f for f in self.functions if f.is_gpu) or self.functions

    @property
    def gpu(self) -> PciAddress | None:
        """Whom findings are about."""
        return self.gpus[0].address if self.gpus else None


def place_guest(
    platform: Platform, demand: Demand, claims: Iterable[Claim] = ()
) -> tuple[Placement, tuple[Finding, ...]]:
    """Where the guest runs, beside those of `claims`, and what there is to say of it.

    Of a host whose CPUs are not known nothing is pinned; one with a single node, or whose memory is
    not known, leaves the memory to the kernel. Raises UsageError for a node that is none.
    """
    site = _Site(platform, demand, tuple(claims))
    placement, found = _memory(site)
    placement, more = _vcpus(site, placement)
    return placement, (*_about_nodes(site), *found, *more)


@dataclass(frozen=True)
class _Site:
    """The host as this guest finds it."""

    platform: Platform
    demand: Demand
    claims: tuple[Claim, ...]

    @cached_property
    def rooms(self) -> dict[int, Room]:
        return rooms(self.platform.nodes, self.demand.page_kib, self.claims)

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        return cores_of(self.platform.cpus)

    @cached_property
    def kept(self) -> frozenset[Core]:
        return host_cores(self.cores)

    @cached_property
    def claimed(self) -> frozenset[int]:
        return frozenset(cpu for claim in self.claims for cpu in claim.cpus)

    @cached_property
    def free(self) -> tuple[Core, ...]:
        """Cores that neither the host nor another guest has, first those set aside for guests."""
        return tuple(
            core
            for core in sorted(self.cores, key=lambda core: not core.isolated)
            if core not in self.kept and self.claimed.isdisjoint(core.cpus)
        )

    def free_cpus(self, node: int) -> int:
        return sum(len(core.cpus) for core in self.free if core.node == node)

    def unclaimed(self, node: int) -> frozenset[int]:
        """CPUs of a node that no other guest has, the host's among them.

        Nothing floats over isolated ones: the scheduler moves no thread from one to another.
        """
        mine = (core for core in self.cores if core.node == node and not core.isolated)
        return frozenset(cpu for core in mine for cpu in core.cpus) - self.claimed

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        return tuple(node.number for node in self.platform.nodes)

    @cached_property
    def gpu_nodes(self) -> tuple[int, ...]:
        """The nodes that the GPUs are near, those of most GPUs first."""
        nodes = (gpu.numa_node for gpu in self.demand.gpus)
        count = Counter(node for node in nodes if node in self.numbers)
        return tuple(sorted((n for n in count if n is not None), key=lambda n: (-count[n], n)))

    def holds(self, node: int) -> bool:
        """Whether the guest fits on it, with cores of its own."""
        vcpus = self.demand.cpus if self.demand.pin and self.cores else 0
        return self.rooms[node].pages >= self.demand.need and self.free_cpus(node) >= vcpus

    @cached_property
    def ranking(self) -> tuple[int, ...]:
        """The nodes, the one that the guest belongs on first; one alone where none are known."""
        wanted = self.demand.node
        if wanted is not None:
            return ranked(self.platform.nodes, (wanted, *_without(self.gpu_nodes, wanted))) or (0,)
        if not self.numbers:
            return (0,)
        nodes = [gpu.numa_node for gpu in self.demand.gpus]
        most = [n for n in self.gpu_nodes if nodes.count(n) == nodes.count(self.gpu_nodes[0])]
        equals = most or list(self.numbers)
        most_room = max(equals, key=lambda n: (self.rooms[n].pages, -n))
        home = next(filter(self.holds, equals), most[0] if most else most_room)
        return ranked(self.platform.nodes, (home, *_without(self.gpu_nodes, home)))

    @property
    def home(self) -> int:
        return self.ranking[0]


def _without(nodes: tuple[int, ...], one: int) -> Iterator[int]:
    return (node for node in nodes if node != one)


def _about_nodes(site: _Site) -> Iterator[Finding]:
    gpus, wanted = site.demand.gpus, site.demand.node
    if wanted is not None and site.gpu_nodes and wanted not in site.gpu_nodes:
        near = ", ".join(map(str, site.gpu_nodes))
        yield finding(
            OTHER_NODE,
            site.demand.gpu,
            f"the guest is asked for on NUMA node {wanted}, and its GPU is near node {near}",
            f"leave --numa-node out, or take --numa-node {site.gpu_nodes[0]}",
        )
    if len(site.gpu_nodes) > 1:
        places = ", ".join(f"{gpu.address} on node {gpu.numa_node}" for gpu in gpus)
        yield finding(
            SEVERAL_NODES,
            site.demand.gpu,
            f"the guest's GPUs are near several NUMA nodes ({places}); it runs on node {site.home}",
            "take GPUs of one node, where there are enough",
        )


def _memory(site: _Site) -> tuple[Placement, list[Finding]]:
    """The nodes of the guest's memory, and the pages on each."""
    demand, nodes = site.demand, site.platform.nodes
    require_node(site.numbers, demand.node)
    nowhere = Placement(CpuTopology(1, demand.cpus, 1))
    if all(node.free_mib is None for node in nodes):
        return nowhere, []
    have = {number: room.pages for number, room in site.rooms.items()}
    chosen = fewest(site.ranking, have, demand.need)
    found = []
    if chosen is None:
        found.append(no_room(demand.gpu, demand.memory_mib, demand.page_kib, sum(have.values())))
        have = without_guests(nodes, demand.page_kib)
        chosen = fewest(site.ranking, have, demand.need) or site.ranking[:1]
    elif chosen != site.ranking[:1]:
        found.append(memory_crosses(demand.gpu, demand.page_kib, site.home, have, chosen))
    if len(nodes) < 2:
        return nowhere, found
    shares, left = {}, demand.need
    for number in chosen:
        shares[number] = min(left, have[number]) if number != chosen[-1] else left
        left -= shares[number]
    if demand.page_kib:
        found += pages_to_add(demand.gpu, demand.page_kib, shares, site.rooms, nodes)
    pages = tuple(sorted(shares.items())) if demand.page_kib else ()
    return replace(nowhere, nodes=tuple(sorted(chosen)), pages=pages), found


def require_node(numbers: tuple[int, ...], wanted: int | None) -> None:
    """Raises UsageError for a node that the host has not; 0 is there where none are known."""
    if wanted is None or wanted in (numbers or (0,)):
        return
    raise UsageError(
        f"this host has no NUMA node {wanted}",
        f"it has {', '.join(map(str, numbers))}" if numbers else "leave --numa-node out",
    )


def _vcpus(site: _Site, placement: Placement) -> tuple[Placement, list[Finding]]:
    """CPUs for the vCPUs, and for QEMU's own threads."""
    demand = site.demand
    if not site.cores:
        return placement, []
    online = sum(len(core.cpus) for core in site.cores)
    found = [more_vcpus(demand.gpu, demand.cpus, online)] if demand.cpus > online else []
    if not demand.pin:
        return placement, found
    ranking = _ranking_of_cpus(site, placement)
    home, room = ranking[0], {node: site.free_cpus(node) for node in ranking}
    chosen = fewest(ranking, room, demand.cpus)
    fits = room[home] >= demand.cpus
    if chosen is None or (not fits and len(site.unclaimed(home)) >= demand.cpus):
        return _sharing(site, placement, ranking, found)
    cores = [core for node in chosen for core in site.free if core.node == node]
    topology, vcpus = pinned(cores, demand.cpus)
    taken = {cpu for pins in vcpus for cpu in pins}
    used = {core.node for core in cores if taken.intersection(core.cpus)}
    nodes = [node for node in chosen if node in used]
    if nodes != [home]:
        found.append(vcpus_cross(demand.gpu, demand.cpus, home, room[home], nodes))
    kept = sorted(cpu for core in site.kept if core.node in nodes for cpu in core.cpus)
    return replace(placement, topology=topology, vcpus=vcpus, emulator=tuple(kept)), found


def _ranking_of_cpus(site: _Site, placement: Placement) -> tuple[int, ...]:
    """Nodes for the vCPUs: as for memory; where all of that had to go elsewhere, there first."""
    if not placement.nodes or site.home in placement.nodes:
        return site.ranking
    elsewhere = tuple(node for node in site.ranking if node in placement.nodes)
    return (*elsewhere, *(node for node in site.ranking if node not in elsewhere))


def _sharing(
    site: _Site, placement: Placement, ranking: tuple[int, ...], found: list[Finding]
) -> tuple[Placement, list[Finding]]:
    """All vCPUs over the same CPUs: those of the node that nobody has, of more if it must be."""
    demand = site.demand
    cpus: set[int] = set()
    nodes = []
    for node in ranking:
        if len(cpus) < demand.cpus:
            cpus |= site.unclaimed(node)
            nodes.append(node)
    everything = {cpu for core in site.cores for cpu in core.cpus}
    cpus = cpus or everything
    found.append(
        vcpus_share(
            demand.gpu, demand.cpus, nodes, site.free_cpus(ranking[0]), cpus, cpus == everything
        )
    )
    if cpus == everything:
        return placement, found
    floor = tuple(sorted(cpus))
    # QEMU's own threads as well: elsewhere they would be on cores that other guests have.
    return replace(placement, vcpus=(floor,) * demand.cpus, emulator=floor, shared=True), found
